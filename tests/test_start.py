"""The start in environments where other distributions have packages of llm-proxy's names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import llm_proxy

ROOT = Path(__file__).parent.parent


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages: the start, and stubs of what it starts."""
    result = tmp_path / "site"
    for package in llm_proxy.PACKAGES:
        write(result, f"{package}/__init__.py")
    write(result, "proxy/cli.py", "def main(prog_name): print('started', prog_name)\n")
    shutil.copy(ROOT / "llm_proxy.py", result)
    return result


def write(folder: Path, name: str, text: str = "") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def started(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """`python -m llm_proxy` in `folder`, which goes before `site`."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "llm_proxy"],
        cwd=folder,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_starts_where_the_packages_are_its_own(site: Path, tmp_path: Path) -> None:
    write(site, "llm_proxy-1.dist-info/METADATA", "Name: llm-proxy\n")
    write(site, "llm_proxy-1.dist-info/top_level.txt", "llm_proxy\npipeline\nproxy\nstages\n")
    write(site, "other-1.dist-info/METADATA", "Name: other\n")
    write(site, "other-1.dist-info/top_level.txt", "my_proxy\nproxy_stages\n")
    write(site, "another-1.dist-info/METADATA", "Name: another\n")
    write(site, "another-1.dist-info/RECORD", "other/proxy/__init__.py,,\nproxy_x/__init__.py,,\n")

    ended = started(tmp_path, site)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "started llm-proxy\n", "")


def by_name(site: Path, tmp_path: Path) -> None:
    write(site, "proxy.py-2.dist-info/METADATA", "Name: proxy.py\n")
    write(site, "proxy.py-2.dist-info/top_level.txt", "proxy\n")


def by_record(site: Path, tmp_path: Path) -> None:
    write(site, "staging-2.dist-info/METADATA", "Name: staging\n")
    write(site, "staging-2.dist-info/RECORD", "other/a.py,,\nstages/__init__.py,sha256=x,9\n")


def package_on_the_path(site: Path, tmp_path: Path) -> None:
    write(tmp_path, "pipeline/__init__.py", "raise RuntimeError('imported')\n")


def module_on_the_path(site: Path, tmp_path: Path) -> None:
    write(tmp_path, "proxy.py", "raise RuntimeError('imported')\n")


def uninstalled(site: Path, tmp_path: Path) -> None:
    (site / "stages" / "__init__.py").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (by_name, "proxy.py has a package `proxy`, as llm-proxy has, in "),
        (by_record, "staging has a package `stages`, as llm-proxy has, in "),
        (package_on_the_path, "`import pipeline` finds "),
        (module_on_the_path, "`import proxy` finds "),
        (uninstalled, "llm-proxy's package `stages` is not complete in "),
    ],
)
def test_it_reports_packages_of_others_in_one_line(
    spoil: Callable[[Path, Path], None], words: str, site: Path, tmp_path: Path
) -> None:
    spoil(site, tmp_path)

    ended = started(tmp_path, site)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"Error: {words}")
    assert ended.stderr.endswith("with `uv tool install` or `pipx install`\n")
    assert ended.stderr.count("\n") == 1


def test_these_packages_are_its_own() -> None:
    assert list(llm_proxy.foreign(llm_proxy.HOME)) == []


def test_ctrl_c_during_the_imports_ends_it_silently(site: Path, tmp_path: Path) -> None:
    write(site, "proxy/cli.py", "import signal\nsignal.raise_signal(signal.SIGINT)\n")

    ended = started(tmp_path, site)

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


#: The command as a supervisor of one worker. It prints the state in which its module is imported.
SUPERVISOR = """
import gc, multiprocessing

AT_IMPORT = gc.get_threshold()[0]

def work():
    print(AT_IMPORT)

def main(prog_name):
    worker = multiprocessing.get_context("spawn").Process(target=work)
    worker.start()
    worker.join()
"""


def test_a_worker_imports_with_few_garbage_collections(site: Path, tmp_path: Path) -> None:
    write(site, "proxy/cli.py", SUPERVISOR)

    ended = started(tmp_path, site)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "20000\n", "")
