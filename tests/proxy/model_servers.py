"""Fake model servers on real sockets: JSON by path, and one text for each chat completion."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field

_CHUNKS: tuple[dict[str, Any], ...] = (
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello "}}]},
    {"choices": [{"index": 0, "delta": {"content": "there"}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3}},
)


@define(eq=False)
class ModelServer:
    """A running server. `responses` are the JSON bodies by path; other paths get a 404."""

    responses: Mapping[str, Any]
    requests: list[tuple[str, Any]] = field(factory=list)
    """The path and the JSON body of each request."""
    root: str = ""

    def bodies(self, path: str) -> list[Any]:
        """The bodies of the requests for `path`."""
        return [body for other, body in self.requests if other == path]


def models(*names: str, owned_by: str = "library") -> dict[str, Any]:
    """A list of models."""
    data = [{"id": name, "object": "model", "owned_by": owned_by} for name in names]
    return {"object": "list", "data": data}


def ollama(*names: str, loaded: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The responses of Ollama; `loaded` models with their windows."""
    running = [{"name": name, "context_length": n} for name, n in (loaded or {}).items()]
    return {
        "/v1/models": models(*names) if names else {"object": "list", "data": None},
        "/api/version": {"version": "0.12.0"},
        "/api/ps": {"models": running},
    }


def llamacpp(name: str, window: int, slots: int) -> dict[str, Any]:
    """The responses of llama.cpp."""
    settings = {"default_generation_settings": {"n_ctx": window}, "total_slots": slots}
    return {"/v1/models": models(name, owned_by="llamacpp"), "/props": settings}


def vllm(name: str, window: int) -> dict[str, Any]:
    """The responses of vLLM."""
    listed = models(name, owned_by="vllm")
    listed["data"][0]["max_model_len"] = window
    return {"/v1/models": listed}


@contextlib.contextmanager
def model_server(responses: Mapping[str, Any]) -> Iterator[ModelServer]:
    """Serve `responses` on a free port."""
    fake = ModelServer(responses)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fake.requests.append((self.path, None))
            if self.path in fake.responses:
                self._send(200, "application/json", json.dumps(fake.responses[self.path]))
            else:
                self._send(404, "application/json", '{"error": "not found"}')

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fake.requests.append((self.path, body))
            if self.path != "/v1/chat/completions":
                self._send(404, "application/json", '{"error": "not found"}')
            elif body.get("stream"):
                lines = [*map(json.dumps, _CHUNKS), "[DONE]"]
                self._send(200, "text/event-stream", "".join(f"data: {x}\n\n" for x in lines))
            else:
                message = {"role": "assistant", "content": "Hello there"}
                choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
                usage = _CHUNKS[-1]["usage"]
                body = json.dumps({"choices": choices, "usage": usage})
                self._send(200, "application/json", body)

        def _send(self, status: int, kind: str, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.root = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
