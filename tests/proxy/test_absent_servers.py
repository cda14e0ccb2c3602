"""Backends of this machine whose server does not run are reported at the start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.absent_servers import absent_servers
from proxy.cli import main
from proxy.config import read
from tests.wire.command import command

TEXT = """\
backends:
  gpu: {profile: vllm, base_url: "%s"}
  unused: {profile: vllm, base_url: "http://127.0.0.1:1/v1"}
  remote: {profile: vllm, base_url: "http://gpu.invalid:1/v1"}
  inside: {profile: embedded}
models:
  some: {targets: [{backend: gpu}, {backend: remote}, {backend: inside}]}
pipelines:
  models: {route: GET /v1/models, stages: [authenticate, list-models]}
"""


def free_port() -> int:
    """A port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "user:secret@127.0.0.1"])
def test_only_a_used_backend_of_this_machine_is_reported(tmp_path: Path, host: str) -> None:
    file, port = tmp_path / "pipelines.yaml", free_port()
    file.write_text(TEXT % f"http://{host}:{port}/v1")

    (note,) = absent_servers(read(str(file), {}))

    shown = host.removeprefix("user:secret@")
    assert note == (
        f"nothing listens at http://{shown}:{port}/v1, the `base_url` of backend `gpu`: "
        "start its server, or correct the URL"
    )


def test_a_server_that_listens_is_not_reported(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        file.write_text(TEXT % f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        assert absent_servers(read(str(file), {})) == []


def test_serve_and_run_show_the_note(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    url = f"http://127.0.0.1:{free_port()}/v1"
    file.write_text(TEXT.replace(", {backend: inside}", "") % url)

    runner = CliRunner(env={"HOME": str(tmp_path)})
    ran = runner.invoke(main, ["run", "--config", str(file), "--log", "/no/x", "true"])
    with command(file) as serving:
        stdout = serving.process.stdout
        assert stdout
        greeting = "".join(iter(stdout.readline, "set for the client:\n"))

    assert f"llm-proxy: nothing listens at {url}" in ran.stderr
    assert f"\nnote: nothing listens at {url}" in greeting
