"""The proxy on a real socket, and what it serves in most tests."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn
from attrs import evolve, frozen

from pipeline.config.schema import Config
from proxy.app import App
from proxy.config import read
from proxy.http.limits import ConnectionLimits
from proxy.http.protocol import HttpProtocol
from proxy.serve import bind, uvicorn_config
from proxy.tracing import Tracing
from tests.wire.backend import LIMIT, ScriptedBackend


def proxy(
    folder: Path, config_text: str, limits: ConnectionLimits | None = None
) -> contextlib.AbstractContextManager[str]:
    """Serve a config. Yield the root URL."""
    file = folder / "pipelines.yaml"
    file.write_text(config_text)
    return serving(read(str(file), environ={}), limits)


@frozen
class SharedProxy:
    """A proxy for many tests, and its backend, which each test scripts."""

    backend: ScriptedBackend
    url: str


@contextlib.contextmanager
def proxy_with_backend(
    folder: Path, config_for: Callable[[str], str], limits: ConnectionLimits | None = None
) -> Iterator[SharedProxy]:
    """Serve the config that `config_for` returns for the URL of a new backend."""
    backend = ScriptedBackend()
    with proxy(folder, config_for(backend.url), limits) as url:
        yield SharedProxy(backend, url)
    backend.close()


@contextlib.contextmanager
def serving(
    config_text: Config,
    limits: ConnectionLimits | None = None,
    drain_timeout: float = 0.5,
    tracing: Tracing | None = None,
) -> Iterator[str]:
    """Serve a config like `llm-proxy`. Yield the root URL."""
    bound = bind("127.0.0.1", 0)  # it listens from here on, so a client's first call waits
    server = evolve(config_text.sections["server"], drain_timeout=drain_timeout)
    config = uvicorn_config(lambda: App(config_text, tracing=tracing), server)
    if limits:
        config.http = functools.partial(HttpProtocol, limits=limits)  # type: ignore[assignment]
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(LIMIT)
        assert not thread.is_alive(), "the proxy does not end"


#: The other usual pipelines. They refer to the `&keys` of `messages`.
OTHER_PIPELINES = """  count-tokens:
    route: POST /v1/messages/count_tokens
    stages:
      - authenticate: *keys
      - validate: {endpoint: count-tokens}
      - resolve
      - translate-in
      - count-tokens
  models:
    route: [GET /v1/models, "GET /v1/models/{id:path}"]
    stages:
      - authenticate: *keys
      - list-models
"""


def config_text(url: str, invoke: str = "invoke", stages: Sequence[str] = ()) -> str:
    """The usual pipelines, with the backend at `url`.

    `stages` are inserted before `stream-encode`. The backend of `claude-absent` does not exist.
    """
    more = "".join(f"      - {stage}\n" for stage in stages)
    return f"""
backends:
  scripted: {{base_url: "{url}/v1", api_key: backend-key}}
  absent: {{base_url: "http://127.0.0.1:1/v1"}}
models:
  claude-test: {{backend: scripted, model: some-model}}
  claude-absent: {{backend: absent}}
  "maker/model one": {{backend: scripted}}
  "open-*": {{backend: scripted}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: &keys {{keys: [client-key]}}
      - validate: &size {{max_body_bytes: 1000000}}
      - resolve
      - translate-in
      - {invoke}
      - translate-out
{more}      - stream-encode
{OTHER_PIPELINES}"""


#: One more pipeline, to add to `config_text`.
METRICS = """
  metrics:
    route: GET /metrics
    stages:
      - authenticate: *keys
      - metrics
"""
