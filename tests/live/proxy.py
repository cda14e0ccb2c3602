"""Starts `llm-proxy serve` with a server as its backend."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.live.environment import SetupError
from tests.live.process import end
from tests.live.servers import KEY, ROOT, WINDOW, Server

CLIENT_KEY = "key-of-the-client"
#: Seconds within which the proxy listens.
_LIMIT = 60.0
COMMAND = str(Path(sys.executable).with_name("llm-proxy"))


def config(server: Server, model: str, url: str, entry: str = "") -> str:
    """A config with the pipelines as shipped. `entry`: of a backend `probed`, in YAML."""
    model = json.dumps(model)
    pipelines = (ROOT / "pipelines.yaml").read_text().partition("\npipelines:\n")[2]
    probed = f"  probed: {{backend: probed, model: {model}}}\n" if entry else ""
    return f"""\
server: {{host: 127.0.0.1, port: 0}}
backends:
  live:
    profile: {server.profile}
    base_url: "{url}/v1"
    api_key: "${{LIVE_KEY}}"
    fields: {json.dumps(dict(server.fields))}
  wrong-key: {{profile: {server.profile}, base_url: "{url}/v1", api_key: another-key}}
{entry}models:
  live: {{backend: live, model: {model}}}
  windowed: {{backend: live, model: {model}, overrides: {{context_window: {WINDOW}}}}}
  wrong-key: {{backend: wrong-key, model: {model}}}
{probed}pipelines:
{pipelines}"""


def environ() -> dict[str, str]:
    """The environment of the proxy's commands."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PROXY_", "LLM_PROXY_"))}
    return {**kept, "LIVE_KEY": KEY, "PROXY_API_KEY": CLIENT_KEY}


@contextlib.contextmanager
def serving(file: Path, log: Path) -> Iterator[str]:
    """`llm-proxy serve` of the config `file`; its root URL. It is ended in all cases."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [COMMAND, "serve", "--config", str(file)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environ(),
            start_new_session=True,
        )
        watchdog = threading.Timer(_LIMIT, process.kill)
        watchdog.start()
        try:
            assert process.stdout
            words = process.stdout.readline().split()
            if not words:
                raise SetupError(f"the proxy does not start in {_LIMIT:g} s; read {log}")
            watchdog.cancel()
            yield words[-1].decode()
        finally:
            watchdog.cancel()
            end(process)
