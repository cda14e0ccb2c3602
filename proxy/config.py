"""The schema of pipelines.yaml; finds and reads the file."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen, validators
from cattrs import Converter

from pipeline import ConfigError, Problem, option
from pipeline.config.load import Sections, folder_of, load
from pipeline.config.schema import Config, Schema
from proxy.config_notes import unused_options
from proxy.limit_rules import limit_rules
from proxy.origins import check_hosts, check_origins
from stages import REGISTRY
from stages.authenticate import Authenticate
from stages.backends import config as backends_config
from stages.backends.backend import Backend
from stages.backends.config import ModelEntry
from stages.backends.json_schema import JSON_SCHEMAS
from stages.counters import Counters
from stages.events import HttpRequest, HttpResponse
from stages.keys.config import Key
from stages.keys.rules import key_problems
from stages.limits.section import LimitsSection
from stages.page.recent import RecentExchanges
from stages.profiles.profile import Overrides, Profile
from stages.recording.section import Recordings
from stages.routing.allowed_models import is_pattern
from stages.routing.breaker import Breakers
from stages.shared_store import section as store_section
from stages.shared_store.section import Store
from stages.usage.record import UsageRecord

DEFAULT_FILE = "pipelines.yaml"
#: Sections with a file and a thread: they survive a reload, and are closed at the end.
KEPT_SECTIONS = ("usage", "recordings")


@frozen
class Server:
    """The section `server`."""

    host: str = option("127.0.0.1", help="the address to listen on")
    port: int = option(
        8080,
        help="the port to listen on; 0 takes a free one",
        validator=[validators.ge(0), validators.le(65535)],
    )
    workers: int = option(
        1, help="number of worker processes; each uses one core at most", validator=validators.ge(1)
    )
    reload: bool = option(
        True, help="reload this file when it changes; a SIGHUP does it in any case"
    )
    drain_timeout: float = option(
        30.0,
        help="seconds in which requests in flight can end at a shutdown",
        validator=validators.ge(0),
    )
    max_buffered_body_bytes: int = option(
        256 * 1024 * 1024,
        renamed_from="max_bodies_bytes",
        help="most bytes of request bodies in flight in a process; beyond, requests get a 529. A "
        "body takes 4 to 9 times its size in memory",
        validator=validators.gt(0),
    )
    conversation_cache_bytes: int = option(
        128 * 1024 * 1024,
        help="most bytes of memory for earlier requests, in a process. A message in this memory is "
        "not parsed and translated again; 0: nothing is kept",
        validator=validators.ge(0),
    )
    max_loop_delay: float | None = option(
        0.25,
        help="seconds that a new request may wait for the event loop; beyond, new requests get a "
        "529; null: no limit",
        validator=validators.optional(validators.gt(0)),
    )
    min_body_bytes_per_second: int = option(
        1000,
        renamed_from="min_body_rate",
        help="lowest rate of a request body, averaged over 30 seconds; a slower one gets a 408",
        validator=validators.ge(0),
    )
    send_timeout: float = option(
        120.0,
        help="seconds that a client may read nothing of its response",
        validator=validators.gt(0),
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        help='values of `Host` to accept, besides the names of this machine, or "*" for all; '
        "default: none on loopback without a key, otherwise all",
        validator=check_hosts,
    )
    allowed_origins: tuple[str, ...] = option(
        (),
        help="origins whose web pages may use the server, as `https://app.example`, "
        '`vscode-webview://*`, or "*" for all; default: none',
        validator=check_origins,
    )


def _register_hooks(converter: Converter) -> None:
    backends_config.register_hooks(converter)
    store_section.register_hooks(converter)


SCHEMA = Schema(
    sections={
        "server": Server,
        "backends": dict[str, Backend],
        "models": dict[str, ModelEntry],
        "circuit_breaker": Breakers,
        "keys": dict[str, Key],
        "usage": UsageRecord,
        "recordings": Recordings,
        "limits": LimitsSection,
        "ui": RecentExchanges,
        "store": Store,
        "metrics": Counters,  # it has no options: stages share the counters by it
    },
    registry=REGISTRY,
    start=HttpRequest,
    end=HttpResponse,
    option_classes={Backend: Profile, Overrides: Profile},
    json_schemas={**JSON_SCHEMAS, Store: store_section.json_schema},
    register_hooks=_register_hooks,
    optional=frozenset({"keys"}),
    section_files={"keys_file": "keys"},
    rules=(key_problems, limit_rules),
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
    replaced: Mapping[Path, str] | None = None,
) -> Config:
    """Read and check a config. Raises ConfigError with all problems.

    `source` and `replaced` are used in place of the texts of files; see `load`.
    """
    environ = os.environ if environ is None else environ
    file = locate(file, environ)
    config = load(file, SCHEMA, environ, adapt, source, replaced)
    for name in KEPT_SECTIONS:
        config.sections[name].locate(folder_of(file), environ)
    config.sections["limits"].set_key_limits(config.sections.get("keys") or {})
    config.sections["limits"].share(config.sections["store"])
    return evolve(
        config, notes=(*config.notes, *unused_options(config, referenced_backends(config)))
    )


def model_names(config: Config) -> frozenset[str]:
    """Give the names of models in the config: those of clients that are no patterns, and targets'.

    The default name of a target is the client's, which may be any.
    """
    entries = config.sections["models"]
    targets = (target.model for entry in entries.values() for target in entry.targets)
    exact = (name for name in entries if not is_pattern(name))
    return frozenset([*exact, *filter(None, targets)])


def carry_over(running: Config) -> Callable[[Sections], Sections]:
    """Give an `adapt` for `read` that keeps the unchanged objects of the `running` config.

    It keeps backends with the same name and options; the counters; the counts of limits; the recent
    exchanges; the store and KEPT_SECTIONS, whose options need a restart; and the circuit breakers
    of targets at such backends, if `circuit_breaker` is the same. Of a backend with the same name
    and address it keeps the queue, with its running and waiting calls.
    """
    old_backends: dict[str, Backend] = running.sections["backends"]

    def carried_over(name: str, backend: Backend) -> Backend:
        old = old_backends.get(name, backend)
        if old.profile == backend.profile:
            return old
        if backend.queue and old.queue and old.profile.base_url == backend.profile.base_url:
            backend.queue = old.queue  # two queues would allow twice the calls
        return backend

    def adapt(sections: Sections) -> Sections:
        adapted = {**sections, "metrics": running.sections["metrics"]}
        for name in (*KEPT_SECTIONS, "store"):
            if name in sections:
                adapted[name] = running.sections[name].keep(sections[name])
        for name in {"limits", "ui"} & sections.keys():
            adapted[name].carry_over(running.sections[name])
        if "backends" in sections:
            new_backends = sections["backends"].items()
            adapted["backends"] = {
                name: carried_over(name, backend) for name, backend in new_backends
            }
        if breakers := sections.get("circuit_breaker"):
            before, now = _by_target(running.sections), _by_target(adapted)
            unchanged = [label for label in now if now[label] is before.get(label)]
            breakers.carry_over(running.sections["circuit_breaker"], unchanged)
        return adapted

    return adapt


def _by_target(sections: Mapping[str, Any]) -> dict[str, Backend]:
    """Give the backend of each target by the label of the target."""
    backends = sections.get("backends", {})
    targets = (target for entry in sections.get("models", {}).values() for target in entry.targets)
    return {
        target.label: backends[target.backend] for target in targets if target.backend in backends
    }


def locate(file: str | None, environ: Mapping[str, str] | None = None) -> str:
    """Give the config to read: `file`, otherwise LLM_PROXY_CONFIG, otherwise ./pipelines.yaml."""
    environ = os.environ if environ is None else environ
    return file or environ.get("LLM_PROXY_CONFIG") or DEFAULT_FILE


def check_open_access(config: Config, host: str) -> None:
    """Refuse to serve everybody on an address other than loopback, unless the config allows it.

    Raises ConfigError with a problem for each `authenticate` without keys.
    """
    if is_loopback(host):
        return
    problems = []
    for pipeline in config.pipelines:
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
        raise ConfigError(config.file, config.masked_source, problems)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def referenced_backends(config: Config) -> dict[str, Backend]:
    """Give the backends that models refer to."""
    entries = config.sections["models"].values()
    wanted = {model.backend for entry in entries for model in entry.targets}
    return {k: v for k, v in config.sections["backends"].items() if k in wanted}
