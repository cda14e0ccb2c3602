"""Spans of stages, and messages in spans: only when the operator asks for them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from proxy.captured_content import VARIABLE
from proxy.config import read
from proxy.opentelemetry_spans import OpenTelemetrySpans
from tests.secrets import PROMPT
from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, streamed, whole
from tests.wire.client import Client
from tests.wire.proxy import config_text, serving

ENDPOINT = "http://127.0.0.1:1"
STAGES = ("authenticate", "validate", "resolve", "fallback", "translate-in", "invoke")


@define(eq=False)
class Traced:
    """A proxy in this process, and its spans."""

    folder: Path
    backend: ScriptedBackend = field(factory=ScriptedBackend)

    def spans(self, *requests: dict[str, Any], **options: bool) -> Sequence[ReadableSpan]:
        """The spans of these requests, by the time of their start."""
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        file = self.folder / "pipelines.yaml"
        targets = "{targets: [{backend: absent, model: one}, {backend: scripted, model: two}]}"
        text = config_text(self.backend.url).replace(
            "- resolve\n", "- resolve\n      - fallback\n", 1
        )
        file.write_text(text.replace("models:\n", f"models:\n  claude-pair: {targets}\n", 1))
        tracing = OpenTelemetrySpans(provider, **options)
        with serving(read(str(file), environ={}), tracing=tracing) as url:
            client = Client(url)
            for request in requests:
                client.post(request)
            client.close()
        provider.shutdown()
        return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    proxy = Traced(tmp_path)
    proxy.backend.says(whole(200, completion()))
    yield proxy
    proxy.backend.close()


def by_kind(spans: Sequence[ReadableSpan], kind: SpanKind) -> list[ReadableSpan]:
    return [span for span in spans if span.kind is kind]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_each_stage_has_a_span_when_asked_for(traced: Traced) -> None:
    spans = traced.spans(body(), stage_spans=True)

    [server] = by_kind(spans, SpanKind.SERVER)
    [call] = by_kind(spans, SpanKind.CLIENT)
    stages = by_kind(spans, SpanKind.INTERNAL)
    assert [span.name for span in stages] == [f"stage {name}" for name in STAGES]
    assert {span.parent and span.parent.span_id for span in [*stages, call]} == {id_of(server)}
    for span in stages:
        [forwarded] = span.events
        times = (server.start_time, span.start_time, forwarded.timestamp, span.end_time)
        assert list(times) == sorted(times)  # type: ignore[type-var]
        assert (span.end_time or 0) <= (server.end_time or 0)
    assert (stages[-1].start_time or 0) <= (call.start_time or 0)


def test_a_stage_that_gets_a_request_twice_has_two_spans(traced: Traced) -> None:
    spans = by_kind(traced.spans(body(model="claude-pair"), stage_spans=True), SpanKind.INTERNAL)

    names = [span.name for span in spans]
    assert [names.count(f"stage {name}") for name in STAGES] == [1, 1, 1, 1, 2, 2]
    first, second = (span for span in spans if span.name == "stage invoke")
    assert (len(first.events), len(second.events)) == (0, 1)  # the first one failed


def test_a_request_that_is_refused_has_the_stages_that_it_reached(traced: Traced) -> None:
    spans = traced.spans(body(max_tokens=-1), stage_spans=True)

    stages = by_kind(spans, SpanKind.INTERNAL)
    assert [span.name for span in stages] == ["stage authenticate", "stage validate"]


def test_without_options_there_are_no_stages_and_no_messages(traced: Traced) -> None:
    spans = traced.spans(body())

    assert [span.kind for span in spans] == [SpanKind.SERVER, SpanKind.CLIENT]
    assert PROMPT not in str([span.to_json() for span in spans])


@pytest.mark.parametrize("stream", [False, True])
def test_the_call_has_the_messages_when_asked_for(traced: Traced, stream: bool) -> None:
    traced.backend.says(streamed("Hello ", "there") if stream else whole(200, completion()))
    request = body(system="Be brief.", stream=stream, model="claude-pair")
    spans = traced.spans(request, captures_content=True)

    assert [span.name for span in spans if PROMPT in span.to_json()] == ["chat two"]
    [call] = [span for span in spans if span.name == "chat two"]
    found = {name: value for name, value in attributes(call).items() if "gen_ai" in name}
    assert json.loads(found["gen_ai.system_instructions"]) == [
        {"type": "text", "content": "Be brief."}
    ]
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
    ]
    parts = [{"type": "text", "content": "Hello there"}]
    assert json.loads(found["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": parts, "finish_reason": "stop"}
    ]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (False, False)),
        ({"LLM_PROXY_STAGE_SPANS": "true"}, (True, False)),
        ({"LLM_PROXY_STAGE_SPANS": "false", VARIABLE: "SPAN_ONLY"}, (False, True)),
        ({VARIABLE: "true"}, (False, True)),
        ({VARIABLE: "span_and_event"}, (False, True)),
        ({VARIABLE: "NO_CONTENT"}, (False, False)),
        ({VARIABLE: "false"}, (False, False)),
    ],
)
def test_the_variables_ask_for_them(
    variables: dict[str, str], expected: tuple[bool, bool], caplog: pytest.LogCaptureFixture
) -> None:
    spans = OpenTelemetrySpans.of({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, **variables})

    assert spans is not None
    assert (spans.stage_spans, spans.captures_content) == expected
    spans.close()
    assert VARIABLE not in caplog.text


def test_a_value_without_effect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, VARIABLE: "EVENT_ONLY"}
    spans = OpenTelemetrySpans.of(variables)

    assert spans is not None
    assert not spans.captures_content
    spans.close()
    assert f"{VARIABLE}=EVENT_ONLY has no effect" in caplog.text
