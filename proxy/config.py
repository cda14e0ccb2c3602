"""What a pipelines.yaml may declare, and how one is found and read."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import evolve, frozen, validators

from pipeline import ConfigError, Problem, option
from pipeline.config.load import Sections, load
from pipeline.config.schema import Config, Schema
from proxy.origins import check_hosts, check_origins
from stages import REGISTRY
from stages.authenticate import Authenticate
from stages.backends.backend import Backend
from stages.backends.config import ModelEntry, register_hooks
from stages.counters import Counters
from stages.events import HttpRequest, HttpResponse
from stages.fallback import Fallback
from stages.invoke import Invoke
from stages.profiles.profile import Overrides, Profile
from stages.queue import Queue
from stages.resolve import Resolve
from stages.routing.breaker import Breakers

DEFAULT_FILE = "pipelines.yaml"


@frozen
class Server:
    """The section `server`."""

    host: str = option("127.0.0.1", help="the address to listen on")
    port: int = option(
        8080, help="0 takes a free one", validator=[validators.ge(0), validators.le(65535)]
    )
    workers: int = option(
        1, help="processes that serve, a core each at most", validator=validators.ge(1)
    )
    reload: bool = option(True, help="read this file again when it changes; on SIGHUP in any case")
    drain_timeout: float = option(
        30.0,
        help="seconds that requests under way are given at the end",
        validator=validators.ge(0),
    )
    max_buffered_body_bytes: int = option(
        256 * 1024 * 1024,
        renamed_from="max_bodies_bytes",
        help="bodies of all requests in flight in a process; beyond, a 529. Their memory is 4 to 9 "
        "times that",
        validator=validators.gt(0),
    )
    max_loop_delay: float | None = option(
        0.25,
        help="seconds a new request may wait for the event loop; beyond, new ones get a 529; "
        "null: no limit",
        validator=validators.optional(validators.gt(0)),
    )
    min_body_bytes_per_second: int = option(
        1000,
        renamed_from="min_body_rate",
        help="bytes a second of a body, at least, over half a minute",
        validator=validators.ge(0),
    )
    send_timeout: float = option(
        120.0,
        help="seconds that a client may read nothing of its answer",
        validator=validators.gt(0),
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        help='names in `Host` besides those of this machine, or "*"; default: none on loopback '
        "without a key, all in other cases",
        validator=check_hosts,
    )
    allowed_origins: tuple[str, ...] = option(
        (),
        help="origins whose web pages may use the server, as `https://app.example`, "
        '`vscode-webview://*`, or "*" for all; default: none',
        validator=check_origins,
    )


SCHEMA = Schema(
    sections={
        "server": Server,
        "backends": dict[str, Backend],
        "models": dict[str, ModelEntry],
        "circuit_breaker": Breakers,
        "metrics": Counters,  # nothing to declare: it is how stages share the counters
    },
    registry=REGISTRY,
    start=HttpRequest,
    end=HttpResponse,
    option_classes={Backend: Profile, Overrides: Profile},
    register_hooks=register_hooks,
    reserved=(
        "GET /",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
        "GET /api/hello",
        "POST /api/event_logging/{rest:path}",
        "POST /api/claude_code/metrics",
    ),
)


def read(
    file: str | None,
    environ: Mapping[str, str] | None = None,
    adapt: Callable[[Sections], Sections] = lambda sections: sections,
    source: str | None = None,
) -> Config:
    """Read and check a declaration. Raises ConfigError with everything that is wrong."""
    environ = os.environ if environ is None else environ
    found = load(locate(file, environ), SCHEMA, environ, adapt, source)
    return evolve(found, notes=(*found.notes, *_unused_options(found)))


def _unused_options(declaration: Config) -> Iterator[Problem]:
    """Notes of what is declared and does nothing, because a pipeline lacks the stage for it.

    No errors: a stage of one's own may do it.
    """
    queued = [
        f"`{k}`"
        for k, each in referenced_backends(declaration).items()
        if each.profile.max_concurrent_calls
    ]
    models = declaration.sections["models"].items()
    listed = [
        f"`{name}`"
        for name, each in models
        if len(each.targets) > 1 and getattr(each, "strategy", "") == "fallback"
    ]
    for pipeline in declaration.pipelines:
        places = dict(zip(map(type, pipeline.stages), pipeline.locations, strict=True))
        if Invoke not in places:
            continue
        if queued and Queue not in places:
            names = ", ".join(queued)
            message = (
                f"pipeline `{pipeline.name}` has no `queue`, so `max_concurrent_calls` of {names} "
                "has no effect"
            )
            hint = "add `queue` before `invoke`, or remove `max_concurrent_calls`"
            yield Problem("limit-unused", message, places[Invoke], hint, "note")
        if listed and Fallback not in places and Resolve in places:
            names = ", ".join(listed)
            message = (
                f"pipeline `{pipeline.name}` has no `fallback`: of the targets of {names} "
                "only the first is asked"
            )
            hint = "add `fallback` behind `resolve`"
            yield Problem("targets-unused", message, places[Resolve], hint, "note")


def carry_over(running: Config) -> Callable[[Sections], Sections]:
    """To `read` one in the place of `running`: what did not change is the same object.

    That are backends with the same name and options, the counters, and the circuit breakers of
    targets at such backends, if `circuit_breaker` says the same; of a backend with the same name
    and address, the calls that run and wait.
    """
    kept: dict[str, Backend] = running.sections["backends"]

    def same(name: str, backend: Backend) -> Backend:
        old = kept.get(name, backend)
        if old.profile == backend.profile:
            return old
        if backend.queue and old.queue and old.profile.base_url == backend.profile.base_url:
            backend.queue = old.queue  # or those of both would be more than its slots
        return backend

    def adapt(sections: Sections) -> Sections:
        adapted = {**sections, "metrics": running.sections["metrics"]}
        if "backends" in sections:
            declared = sections["backends"].items()
            adapted["backends"] = {name: same(name, backend) for name, backend in declared}
        if breakers := sections.get("circuit_breaker"):
            before, now = _by_target(running.sections), _by_target(adapted)
            unchanged = [label for label in now if now[label] is before.get(label)]
            breakers.carry_over(running.sections["circuit_breaker"], unchanged)
        return adapted

    return adapt


def _by_target(sections: Mapping[str, Any]) -> dict[str, Backend]:
    """The backend of each target, by the target's label."""
    backends = sections.get("backends", {})
    targets = (each for entry in sections.get("models", {}).values() for each in entry.targets)
    return {each.label: backends[each.backend] for each in targets if each.backend in backends}


def locate(file: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The declaration meant: `file`, else what LLM_PROXY_CONFIG names, else ./pipelines.yaml."""
    environ = os.environ if environ is None else environ
    return file or environ.get("LLM_PROXY_CONFIG") or DEFAULT_FILE


def check_open_access(declaration: Config, host: str) -> None:
    """Refuse to let everybody in from outside unless the declaration says so.

    Raises ConfigError, at each `authenticate` that has no keys.
    """
    if is_loopback(host):
        return
    problems = []
    for pipeline in declaration.pipelines:
        for stage, location in zip(pipeline.stages, pipeline.locations, strict=True):
            if isinstance(stage, Authenticate) and stage.is_open and not stage.allow_anonymous:
                message = (
                    f"pipeline `{pipeline.name}` has no key, so anybody who reaches {host} "
                    "could use it"
                )
                hint = (
                    "set PROXY_API_KEY or `keys`, or listen on 127.0.0.1, "
                    "or write `allow_anonymous: true`"
                )
                problems.append(Problem("open-door", message, location, hint))
    if problems:
        raise ConfigError(declaration.file, declaration.masked_source, problems)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def referenced_backends(declaration: Config) -> dict[str, Backend]:
    """The backends that models lead to."""
    entries = declaration.sections["models"].values()
    wanted = {model.backend for entry in entries for model in entry.targets}
    return {k: v for k, v in declaration.sections["backends"].items() if k in wanted}
