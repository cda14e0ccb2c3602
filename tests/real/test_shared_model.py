"""Two workers of the installed command share one process with the real model."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

from tests.support import body
from tests.waiting import until
from tests.wire.client import Client, Response, raw
from tests.wire.command import LIMIT, command
from tests.wire.life import runs

CONFIG = """
server: {allowed_hosts: [x]}
backends: {local: {profile: embedded, context_window: 1024}}
models: {"*": {backend: local, model: smollm2}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: {keys: [client-key]}
      - validate
      - resolve
      - translate-in
      - invoke
      - translate-out
      - stream-encode
"""
STORY = [{"role": "user", "content": "Write a long story about a fox and a river."}]


def members(group: int, words: str = "") -> list[int]:
    """The processes of a group whose command has `words`, without zombies."""
    result = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            arguments = (folder / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat[2]) == group and stat[0] != "Z" and words in arguments:
            result.append(int(folder.name))
    return result


def test_two_workers_share_a_model_that_is_never_an_orphan(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(CONFIG)
    with command(file, "--workers", "2", at_most=8 * LIMIT, until="") as proxy:
        proxy.says("is open after", within=3 * LIMIT)
        proxy.says("is open after", within=3 * LIMIT)
        group = proxy.process.pid
        (model,) = members(group, "model_process")
        with closing(Client(proxy.url)) as client:
            client.send(raw(body(stream=True, max_tokens=900, messages=STORY)))
            while client.event()["type"] != "content_block_delta":
                pass
            os.kill(model, signal.SIGKILL)
            while (event := client.event())["type"] == "content_block_delta":
                pass
            assert event["type"] == "error"
            assert "broke the connection" in event["error"]["message"]
        # Until a killed process has ended, its socket accepts connections.
        until(lambda: not runs(model), "the model lives on")
        with closing(Client(proxy.url)) as client:
            assert Response.of(client.send(raw(body(max_tokens=2)))).status == 200
        proxy.says("the process of the embedded model has died: it is started again")
        assert len(members(group, "model_process")) == 1
        proxy.send_signal(signal.SIGKILL)
        until(lambda: not members(group), "a process is an orphan")
