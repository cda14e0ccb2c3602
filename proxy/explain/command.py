"""`llm-proxy explain`: make the request, run the chain, print the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn

import anyio
import click

from pipeline.config.problems import suggest
from pipeline.config.schema import Config, Pipeline
from pipeline.stage import signature
from proxy.config import referenced_backends
from proxy.explain.report import Report
from proxy.explain.request import Saved, make_request, standalone
from proxy.explain.trace import Trace
from stages.authenticate import Authenticate
from stages.events import ChatRequest, HttpRequest
from stages.exchange import Exchange
from stages.messages_api.errors import ApiError
from stages.wire.ids import new_request_id

#: Shorter texts are no secrets; to mask them would make the report unreadable.
_SECRET_LENGTH = 6


def choose(config: Config, name: str | None) -> Pipeline:
    """Give the pipeline `name`, or the one for messages. Raises ClickException."""
    by_name = {pipeline.name: pipeline for pipeline in config.pipelines}
    if name is not None:
        if name not in by_name:
            _fail(f"there is no pipeline `{name}` in {config.file}", suggest(name, by_name))
        return by_name[name]
    with_body = [p for p in config.pipelines if any(r.startswith("POST ") for r in p.routes)]
    for pipeline in with_body:
        if "POST /v1/messages" in pipeline.routes or len(with_body) == 1:
            return pipeline
    names = ", ".join(f"`{name}`" for name in by_name)
    _fail("which pipeline?", f"name one with `--pipeline`: {names}")


def explain(config: Config, pipeline: Pipeline, source: Saved, dry: bool, as_json: bool) -> bool:
    """Run the request, and print the report. Return whether the client would get an error."""
    pipeline = standalone(pipeline)
    exchange = Exchange(id=new_request_id(), pipeline=pipeline.name)
    names = pipeline.stage_names
    stop_before = _caller(pipeline) if dry else None
    trace = Trace(len(names), stop_before)
    policies = {k: b.profile.fields for k, b in config.sections["backends"].items()}
    report = Report(names, trace, exchange, policies, _secrets(config))
    echo: Callable[[str], None] = click.echo if not as_json else _silent
    backends = config.sections["backends"]

    def on_request(arrow: int) -> None:
        latest = report.record_pass(arrow)
        for line in report.pass_lines(latest) if latest else report.start_lines():
            echo(line)

    async def open_backend(event: Any) -> None:
        """Open the backend, which takes seconds that belong to no request."""
        name = event.resolved.target.backend
        click.echo(f"waiting for backend `{name}` …", err=True)
        with suppress(ApiError):  # the stage gets it, too
            await backends[name].open()

    trace.on_request, trace.prepare, trace.prepare_at = on_request, open_backend, _caller(pipeline)
    request = make_request(pipeline, exchange, source)
    anyio.run(_run, config, pipeline, request, trace)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False, default=str))
    for line in () if as_json else report.end_lines():
        echo(line)
    if trace.stopped and stop_before is not None:
        echo(f"\nstopped before `{names[stop_before]}`: no backend was called")
    return _failed(trace)


def _failed(trace: Trace) -> bool:
    """Whether the client would get an error: as a response, or in a stream."""
    return not trace.stopped and not trace.arrows[-1].response.complete


async def _run(config: Config, pipeline: Pipeline, request: HttpRequest, trace: Trace) -> None:
    async def sink(_: Any) -> None: ...

    try:
        await pipeline.chain.run(request, sink, trace)
    except ApiError as error:
        if not trace.errors:  # a stage raised it while it closed
            trace.errors.append((trace.stages, error))
    finally:
        for backend in referenced_backends(config).values():
            await backend.aclose()


def _caller(pipeline: Pipeline) -> int | None:
    """The number of the stage that turns a ChatRequest into a response: it calls the backend."""
    for number, stage in enumerate(pipeline.stages):
        types = signature(type(stage))
        takes = any(issubclass(event, ChatRequest) for event in types.accepts)
        gives = any(issubclass(event, ChatRequest) for event in types.emits)
        if takes and not gives:
            return number
    return None


def _secrets(config: Config) -> tuple[str, ...]:
    """The secrets of a config, the longest first: one may contain another."""

    def listed() -> Iterator[str]:
        for backend in config.sections["backends"].values():
            yield backend.profile.api_key
            yield from backend.profile.headers.values()
        for pipeline in config.pipelines:
            for stage in pipeline.stages:
                if isinstance(stage, Authenticate):
                    yield from stage.keys

    secrets = {secret for secret in listed() if len(secret) >= _SECRET_LENGTH}
    return tuple(sorted(secrets, key=len, reverse=True))


def _silent(line: str) -> None: ...


def _fail(message: str, hint: str) -> NoReturn:
    raise click.ClickException(f"{message}\n  hint: {hint}")
