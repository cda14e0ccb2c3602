"""Traces: client, proxy and backend in one trace, at a receiver of OTLP over HTTP."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import pytest
from attrs import define, field
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from pipeline.config.installer import install_command
from proxy.tracing import tracing_from
from tests.secrets import PROMPT
from tests.waiting import until
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, HELLO, completion, delta, head, sse, whole
from tests.wire.command import LIMIT, Command, command
from tests.wire.proxy import config_text

USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 8},
}


@define(eq=False)
class Receiver:
    """A collector: it keeps the spans that it receives, with the name of their service."""

    spans: list[tuple[str, Span]] = field(factory=list)
    bodies: list[bytes] = field(factory=list)
    _news: threading.Condition = field(factory=threading.Condition)
    _server: ThreadingHTTPServer = field(init=False)

    def __attrs_post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                receiver.receive(self.rfile.read(int(self.headers["content-length"])))
                body = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def receive(self, body: bytes) -> None:
        with self._news:
            self.bodies.append(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = attributes(resource.resource)["service.name"]
                for scope in resource.scope_spans:
                    self.spans += [(service, span) for span in scope.spans]
            self._news.notify_all()

    def trace(self, trace_id: bytes, spans: int) -> list[tuple[str, Span]]:
        """The spans of a trace, the earliest first. Waits until there are at least `spans`."""

        def of_trace() -> list[tuple[str, Span]]:
            return [each for each in self.spans if each[1].trace_id == trace_id]

        with self._news:
            assert self._news.wait_for(lambda: len(of_trace()) >= spans, LIMIT), self.spans
            return sorted(of_trace(), key=lambda each: each[1].start_time_unix_nano)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    values = {each.key: each.value for each in of.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


@define
class Traced:
    """The installed command with traces, a backend, and a client that has spans of its own."""

    proxy: Command
    backend: ScriptedBackend
    receiver: Receiver
    client: anthropic.Anthropic

    def ask(self, model: str, stream: bool = False) -> bytes:
        """Ask within a span of the SDK; its trace id."""
        create: Any = self.client.messages.create
        messages = [{"role": "user", "content": PROMPT}]
        wanted = {"model": model, "max_tokens": 10, "messages": messages}
        if stream:
            with create(**wanted, stream=True) as events:
                assert [event.type for event in events][-1] == "message_stop"
        else:
            create(**wanted)
        with self.receiver._news:
            own = [span for service, span in self.receiver.spans if service == "client"]
        return own[-1].trace_id


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    backend, receiver = ScriptedBackend(), Receiver()
    backend.says(whole(200, {**completion(), "usage": USAGE}))
    file = folder / "pipelines.yaml"
    targets = "{targets: [{backend: absent, model: one}, {backend: scripted, model: two}]}"
    file.write_text(
        config_text(backend.url)
        .replace("models:\n", f"models:\n  claude-pair: {targets}\n", 1)
        .replace("      - resolve\n", "      - resolve\n      - fallback\n", 1)
    )
    provider = _client_provider(receiver)
    with (
        command(
            file,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_BSP_SCHEDULE_DELAY="50",
        ) as proxy,
        anthropic.Anthropic(
            base_url=proxy.url,
            api_key="client-key",
            max_retries=0,
            open_telemetry={"tracer_provider": provider},
        ) as client,
    ):
        yield Traced(proxy, backend, receiver, client)
    provider.shutdown()
    backend.close()
    receiver.close()


def _client_provider(receiver: Receiver) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create({"service.name": "client"})
    provider = TracerProvider(shutdown_on_exit=False, resource=resource)
    exporter = OTLPSpanExporter(f"{receiver.url}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def test_one_trace_goes_through_client_proxy_and_backend(traced: Traced) -> None:
    trace_id = traced.ask("claude-test")

    (_, sdk), (service, server), (_, call) = traced.receiver.trace(trace_id, 3)
    assert (service, server.name, server.kind) == (
        *("llm-proxy", "POST /v1/messages", Span.SPAN_KIND_SERVER),
    )
    assert (call.name, call.kind) == ("chat some-model", Span.SPAN_KIND_CLIENT)
    assert server.parent_span_id == sdk.span_id
    assert call.parent_span_id == server.span_id
    parent = traced.backend.requests[-1].headers["traceparent"]
    assert parent.startswith(f"00-{trace_id.hex()}-{call.span_id.hex()}-")
    assert server.start_time_unix_nano <= call.start_time_unix_nano
    assert call.end_time_unix_nano <= server.end_time_unix_nano
    assert (
        attributes(server).items()
        >= {
            "http.response.status_code": 200,
            "http.route": "/v1/messages",
            "gen_ai.request.model": "claude-test",
            "llm_proxy.client": "key-1",
            "llm_proxy.outcome": "complete",
        }.items()
    )
    assert (
        attributes(call).items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "generic",
            "gen_ai.request.model": "some-model",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.cache_read.input_tokens": 8,
            "gen_ai.usage.output_tokens": 3,
            "server.address": "127.0.0.1",
        }.items()
    )
    traced.proxy.says(f" trace_id={trace_id.hex()}")


def test_each_attempt_has_a_span_once(traced: Traced) -> None:
    trace_id = traced.ask("claude-pair")

    _, (_, server), (_, first), (_, second) = traced.receiver.trace(trace_id, 4)
    assert [first.name, second.name] == ["chat one", "chat two"]
    assert {first.parent_span_id, second.parent_span_id} == {server.span_id}
    assert attributes(first)["error.type"] == "overloaded"
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert "gen_ai.usage.input_tokens" not in attributes(first)
    assert attributes(second)["gen_ai.usage.input_tokens"] == 12
    assert second.status.code == Status.STATUS_CODE_UNSET
    assert second.span_id.hex() in traced.backend.requests[-1].headers["traceparent"]


def streamed_usage() -> bytes:
    """A stream that ends with its usage."""
    last = {"choices": [], "usage": USAGE}
    return head() + HELLO + sse(delta("stop"), last) + DONE + END


def test_a_streamed_request_has_the_same_spans(traced: Traced) -> None:
    traced.backend.says(streamed_usage())
    try:
        trace_id = traced.ask("claude-test", stream=True)
    finally:
        traced.backend.says(whole(200, {**completion(), "usage": USAGE}))

    (_, sdk), (_, server), (_, call) = traced.receiver.trace(trace_id, 3)
    assert (server.parent_span_id, call.parent_span_id) == (sdk.span_id, server.span_id)
    found = attributes(call)
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.usage.input_tokens"] == 12
    assert found["gen_ai.usage.output_tokens"] == 3
    assert 0 < found["gen_ai.response.time_to_first_chunk"] < LIMIT
    assert [each.string_value for each in _values(call, "gen_ai.response.finish_reasons")] == [
        "end_turn"
    ]
    assert server.end_time_unix_nano >= call.end_time_unix_nano
    assert attributes(server)["llm_proxy.outcome"] == "complete"


def _values(span: Span, name: str) -> list[Any]:
    [value] = [each.value for each in span.attributes if each.key == name]
    return list(value.array_value.values)


def test_no_span_has_a_part_of_the_prompt(traced: Traced) -> None:
    traced.receiver.trace(traced.ask("claude-test"), 3)

    assert not [body for body in traced.receiver.bodies if PROMPT.encode() in body]


def test_a_request_without_a_trace_begins_one(traced: Traced) -> None:
    before = {span.trace_id for _, span in traced.receiver.spans}
    with anthropic.Anthropic(
        base_url=traced.proxy.url, api_key="client-key", open_telemetry=False
    ) as client:
        client.messages.count_tokens(
            model="claude-test", messages=[{"role": "user", "content": "Hi"}]
        )

    spans = traced.receiver.spans
    [span] = until(
        lambda: [span for _, span in spans if span.trace_id not in before], "there is no span"
    )
    assert (span.name, span.parent_span_id) == ("POST /v1/messages/count_tokens", b"")


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "a"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_it_is_off_unless_the_variables_switch_it_on(environ: dict[str, str]) -> None:
    assert tracing_from(environ) is None


def test_an_exporter_that_is_not_installed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert tracing_from({**ENDPOINT, "OTEL_TRACES_EXPORTER": "absent"}) is None

    assert "no package has the exporter `absent`" in caplog.text


def test_without_the_extra_a_warning_says_what_to_install(tmp_path: Path) -> None:
    """And without traces the proxy does not import OpenTelemetry."""
    code = f"""
import sys
import proxy.app, proxy.serve
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
sys.modules["opentelemetry"] = None
from proxy.tracing import tracing_from
print(tracing_from({ENDPOINT}))
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.stdout == "None\n", ended.stderr
    assert f"type `{install_command()} opentelemetry-sdk " in ended.stderr
