"""One process has the embedded model of several workers. Real processes; the model is a fake."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from attrs import define, field

from stages.backends.shared_model import MAX_NAME, SharedModel
from stages.profiles.profile import Profile
from tests.waiting import until
from tests.wire.life import runs

#: Runs the real `model_process` with a model that only listens. `model_path` says what happens.
FAKE = """
import os, socket, sys, time
from pathlib import Path

from stages.backends import model_process


class Listener:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(100)

    def close(self):
        self.socket.close()


def start(profile, path):
    folder = Path(path).parent
    with (folder / "starts").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    if profile.model_path == "damaged":
        raise RuntimeError("the file is damaged")
    if profile.model_path == "crash":
        os._exit(7)
    while profile.model_path == "slow" and not (folder / "go").exists():
        time.sleep(0.01)
    return Listener(path)


sys.exit(model_process.main(start))
"""
#: A worker in a process of its own. It prints a line when it uses the model.
WORKER = """
import sys, time
from pathlib import Path

from stages.backends.shared_model import SharedModel
from stages.profiles.profile import Profile

folder, model_path = sys.argv[1:]
profile = Profile(base_url="", embedded=True, model_path=model_path, context_window=512)
SharedModel(Path(folder), profile, (sys.executable, "-P", f"{folder}/fake.py")).start()
print("started", flush=True)
time.sleep(600)
"""


@define
class Scene:
    """A folder, the models that use it, and other processes."""

    folder: Path
    models: list[SharedModel] = field(factory=list)
    workers: list[subprocess.Popen[str]] = field(factory=list)

    def model(self, model_path: str = "", context_window: int = 512) -> SharedModel:
        """The model of one worker. A lock is that of an open file, so threads can be workers."""
        profile = Profile(
            base_url="", embedded=True, model_path=model_path, context_window=context_window
        )
        command = (sys.executable, "-P", str(self.folder / "fake.py"))
        self.models.append(SharedModel(self.folder, profile, command))
        return self.models[-1]

    def worker(self, model_path: str = "") -> subprocess.Popen[str]:
        """Start a worker process."""
        arguments = [sys.executable, "-c", WORKER, str(self.folder), model_path]
        self.workers.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        return self.workers[-1]

    @property
    def starts(self) -> list[int]:
        """The processes that were started."""
        file = self.folder / "starts"
        return [int(line) for line in file.read_text().split()] if file.exists() else []


@pytest.fixture
def scene() -> Iterator[Scene]:
    with TemporaryDirectory() as folder:  # the path of a socket is short
        (Path(folder) / "fake.py").write_text(FAKE)
        scene = Scene(Path(folder))
        yield scene
        for worker in scene.workers:
            worker.kill()
            worker.communicate()
        for model in scene.models:
            model.close()
        until(lambda: not any(map(runs, scene.starts)), "a process of a model lives on")


def test_workers_that_start_at_once_share_a_process(scene: Scene) -> None:
    models = [scene.model() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert {*pool.map(SharedModel.start, models)} == {"http://localhost"}
    (pid,) = scene.starts
    for model in models[1:]:
        model.close()
    assert models[0].is_running
    models[0].close()
    until(lambda: not models[0].is_running, "it does not end")
    models[1].start()
    assert len(scene.starts) == 2
    assert scene.starts[0] == pid


def test_the_next_start_replaces_a_process_that_was_killed(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = scene.model(), scene.model()
    first.start()
    second.start()
    os.kill(scene.starts[0], signal.SIGKILL)
    until(lambda: not first.is_running, "it is still there")
    second.start()
    first.start()
    assert len(scene.starts) == 2
    assert first.is_running
    assert caplog.text.count("has died: it is started again") == 1
    until(lambda: not Path(f"/proc/{scene.starts[0]}").exists(), "it is a zombie")


def test_it_keeps_its_model_without_free_files(scene: Scene) -> None:
    model = scene.model()
    model.start()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        assert model.is_running
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(scene.starts) == 1


@pytest.mark.parametrize(
    ("model_path", "reason"), [("damaged", "the file is damaged"), ("crash", "status 7")]
)
def test_a_model_that_cannot_be_loaded_is_an_error_each_time(
    scene: Scene, model_path: str, reason: str
) -> None:
    model = scene.model(model_path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=reason):
            model.start()
    assert len(scene.starts) == 2


def test_others_wait_when_its_starter_is_killed_while_it_loads(
    scene: Scene,
) -> None:
    worker = scene.worker("slow")
    until(lambda: len(scene.starts) == 1, "no process was started")
    worker.kill()
    worker.wait()
    model = scene.model("slow")
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(model.start)
        # Before that, no worker uses the process: it would end as soon as it has loaded the model.
        until(lambda: model._users is not None, "it does not wait")
        (scene.folder / "go").touch()
        assert started.result(30)
    assert len(scene.starts) == 1


def test_it_stays_when_its_starter_is_killed(scene: Scene) -> None:
    worker = scene.worker()
    assert worker.stdout
    assert worker.stdout.readline() == "started\n"
    model = scene.model()
    model.start()
    worker.kill()
    worker.wait()
    assert model.is_running
    (pid,) = scene.starts
    model.close()
    until(lambda: not runs(pid), "it does not end with its last worker")


def test_it_ends_when_all_workers_are_killed(scene: Scene) -> None:
    worker = scene.worker()
    assert worker.stdout
    worker.stdout.readline()
    worker.kill()
    until(lambda: not runs(scene.starts[0]), "it is an orphan")


def test_other_options_are_another_process(scene: Scene) -> None:
    old, new = scene.model(context_window=512), scene.model(context_window=1024)
    old.start()
    new.start()
    assert len({*scene.starts}) == 2
    old.close()
    until(lambda: not old.is_running, "the old one does not end")
    assert new.is_running


def test_it_ignores_the_signals_that_its_workers_get_too(scene: Scene) -> None:
    model = scene.model()
    model.start()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(scene.starts[0], number)
    assert model.is_running
    assert runs(scene.starts[0])


def test_a_process_with_a_full_backlog_is_running(scene: Scene) -> None:
    model = scene.model()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(model.socket)
        listener.listen(0)
        client.connect(model.socket)
        assert model.is_running
    assert len(Path(model.socket).name) < MAX_NAME
    assert not model.is_running
