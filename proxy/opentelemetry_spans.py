"""The spans of a request, by OpenTelemetry's SDK. It needs the extra `otel`.

    span                    kind     parent                  from
    ---------------------   ------   ---------------------   ------------------------------------
    POST /v1/messages       SERVER   the client's            the exchange
                                     `traceparent`
    chat {model}            CLIENT   the SERVER span         an attempt; the backend gets its
                                                             context as `traceparent`
    stage {name}            INTERNAL the SERVER span         a StageRun, if LLM_PROXY_STAGE_SPANS
                                                             is set

Names of attributes are those of the GenAI conventions
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/); `llm_proxy.*` are our own. No
attribute has a part of a prompt or of a response, unless proxy/captured_content.py captures them.
The client's baggage is not sent to backends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from attrs import define, field
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
    set_span_in_context,
)
from yarl import URL

from proxy import __version__
from proxy.captured_content import CapturedContent, captures_content
from stages.backends.backend import Backend
from stages.events import HttpRequest
from stages.exchange import Attempt, Exchange

log = logging.getLogger("llm_proxy")

_MAX_TEXT = 200  # characters of an attribute: clients choose some of them
_CLOSE_TIMEOUT = 3.0
_SERVICE_VARIABLES = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")


@define(eq=False)
class OpenTelemetrySpans:
    """Makes the spans of requests. The SDK reads its own OTEL_* variables."""

    provider: TracerProvider
    stage_spans: bool = False
    captures_content: bool = False
    _tracer: Tracer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tracer = self.provider.get_tracer("llm-proxy", __version__)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> OpenTelemetrySpans | None:
        """Return the spans for the exporters that the variables name; None if one is unknown."""
        from opentelemetry.sdk.resources import Resource

        exporters = [_exporter(name.strip(), environ) for name in _exporter_names(environ)]
        if None in exporters:
            return None
        default_name = {} if any(map(environ.get, _SERVICE_VARIABLES)) else _SERVICE
        provider = TracerProvider(shutdown_on_exit=False, resource=Resource.create(default_name))
        for exporter in filter(None, exporters):
            provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider, _makes_stage_spans(environ), captures_content(environ))

    def start(self, route: str, backends: Mapping[str, Backend], request: HttpRequest) -> None:
        """Start the SERVER span. See `Tracing`."""
        exchange = request.exchange
        offset = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            f"{exchange.method} {route}",
            propagate.extract(request.headers, Context()),
            SpanKind.SERVER,
            {
                "http.request.method": exchange.method,
                "http.route": route,
                "url.path": exchange.path[:_MAX_TEXT],
                "llm_proxy.pipeline": exchange.pipeline,
                "llm_proxy.request_id": exchange.id,
            },
            start_time=_nanoseconds(exchange.received, offset),
        )
        exchange.trace_id = format_trace_id(span.get_span_context().trace_id)
        content = CapturedContent() if self.captures_content and span.is_recording() else None
        spans = _RequestSpans(
            self._tracer, span, exchange, backends, offset, content, self.stage_spans
        )
        if content is not None:
            exchange.on_request.append(content.set_request)
            exchange.on_stream_event.append(content.add)
        exchange.on_attempt.append(spans.start_attempt)
        exchange.on_end.append(spans.end)

    def close(self) -> None:
        """Send the last spans. A collector that does not respond must not delay the end."""
        thread = threading.Thread(target=self.provider.shutdown, daemon=True)
        thread.start()
        thread.join(_CLOSE_TIMEOUT)


_SERVICE = {"service.name": "llm-proxy", "service.version": __version__}


def _makes_stage_spans(environ: Mapping[str, str]) -> bool:
    """Whether LLM_PROXY_STAGE_SPANS asks for a span of each stage."""
    return environ.get("LLM_PROXY_STAGE_SPANS", "").lower() in ("true", "1")


def _exporter_names(environ: Mapping[str, str]) -> list[str]:
    return (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")


def _exporter(name: str, environ: Mapping[str, str]) -> SpanExporter | None:
    """Make the exporter that is registered under `name`. Log a name that is unknown."""
    if name == "otlp":
        protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for entry in entry_points(group="opentelemetry_traces_exporter", name=name):
        exporter: SpanExporter = entry.load()()
        return exporter
    log.warning(
        "no traces, because no package has the exporter `%s`: install it, or set "
        "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        name,
    )
    return None


def _nanoseconds(seconds: float, offset: int) -> int:
    """Unix time of a time of `time.monotonic`, whose `offset` is in nanoseconds."""
    return int(seconds * 1e9) + offset


@define(eq=False)
class _RequestSpans:
    """The spans of one request."""

    tracer: Tracer
    server: Span
    exchange: Exchange
    backends: Mapping[str, Backend]
    offset: int
    content: CapturedContent | None
    stage_spans: bool
    attempts: list[tuple[Attempt, Span]] = field(factory=list)

    def start_attempt(self, attempt: Attempt) -> None:
        """Start the span of a call of a backend; its context goes into the call's headers."""
        backend = self.backends[attempt.target.backend].profile
        url = URL(backend.base_url)
        span = self.tracer.start_span(
            f"chat {attempt.target.model[:_MAX_TEXT]}",
            set_span_in_context(self.server, Context()),
            SpanKind.CLIENT,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": backend.profile,
                "gen_ai.request.model": attempt.target.model[:_MAX_TEXT],
                "llm_proxy.backend": attempt.target.backend,
                **({"server.address": url.host} if url.host else {}),
                **({"server.port": url.port} if url.port else {}),
                **dict(_conversation(self.exchange)),
            },
            start_time=_nanoseconds(attempt.sent, self.offset),
        )
        headers: dict[str, str] = {}
        propagate.inject(headers, set_span_in_context(span, Context()))
        self.exchange.call_headers = headers
        self.attempts.append((attempt, span))

    def end(self, exchange: Exchange) -> None:
        """Complete and end all spans, from an exchange that has ended."""
        for attempt, span in self.attempts:
            last = attempt is exchange.attempts[-1]
            span.set_attributes(dict(_result(attempt, exchange if last else None)))
            if last and self.content is not None:
                span.set_attributes(dict(self.content.attributes()))
            if attempt.error:
                span.set_status(Status(StatusCode.ERROR))
            span.end(_nanoseconds(attempt.ended or time.monotonic(), self.offset))
        self._add_stages(exchange)
        self.server.set_attributes(dict(_response(exchange)))
        if exchange.status >= 500 or exchange.outcome not in ("complete", "error"):
            self.server.set_status(Status(StatusCode.ERROR))
        self.server.end(_nanoseconds(exchange.ended or time.monotonic(), self.offset))

    def _add_stages(self, exchange: Exchange) -> None:
        parent = set_span_in_context(self.server, Context())
        for run in exchange.stages if self.stage_spans else ():
            span = self.tracer.start_span(
                f"stage {run.stage}",
                parent,
                attributes={"llm_proxy.stage": run.stage},
                start_time=_nanoseconds(run.began, self.offset),
            )
            if run.forwarded is not None:
                span.add_event("forwarded", timestamp=_nanoseconds(run.forwarded, self.offset))
            span.end(_nanoseconds(run.ended or time.monotonic(), self.offset))


def _conversation(exchange: Exchange) -> Iterator[tuple[str, Any]]:
    if exchange.session:
        yield "gen_ai.conversation.id", exchange.session[:_MAX_TEXT]
    if exchange.agent:
        yield "gen_ai.agent.id", exchange.agent[:_MAX_TEXT]


def _result(attempt: Attempt, exchange: Exchange | None) -> Iterator[tuple[str, Any]]:
    """The result of an attempt. The last one has the usage of the `exchange`."""
    if attempt.first_byte is not None:
        yield "gen_ai.response.time_to_first_chunk", attempt.first_byte - attempt.sent
    if attempt.error:
        yield "error.type", attempt.error
    if exchange is None:
        return
    yield "gen_ai.request.stream", exchange.stream
    if exchange.stop_reason:
        yield "gen_ai.response.finish_reasons", [exchange.stop_reason]
    if usage := exchange.usage:
        yield "gen_ai.usage.input_tokens", usage.prompt_tokens  # the cached ones included
        yield "gen_ai.usage.output_tokens", usage.output_tokens
        yield "gen_ai.usage.cache_read.input_tokens", usage.cache_read_input_tokens
        yield "gen_ai.usage.cache_write.input_tokens", usage.cache_creation_input_tokens


def _response(exchange: Exchange) -> Iterator[tuple[str, Any]]:
    yield from _conversation(exchange)
    if exchange.status:
        yield "http.response.status_code", exchange.status
    if exchange.model:
        yield "gen_ai.request.model", exchange.model[:_MAX_TEXT]
    if exchange.client:
        yield "llm_proxy.client", exchange.client
    if exchange.error or exchange.outcome not in ("complete", "error"):
        yield "error.type", exchange.error or exchange.outcome
    yield "llm_proxy.outcome", exchange.outcome
