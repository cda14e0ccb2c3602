"""What a pipelines.yaml may declare, and how one is found and read."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import Any

from attrs import frozen, validators

from pipeline import DeclarationError, Problem, option
from pipeline.declaration import Declaration, Schema
from pipeline.load import load
from stages import REGISTRY
from stages.authenticate import Authenticate
from stages.backends.backend import Backend
from stages.backends.declare import Entry, register_hooks
from stages.breaker import Breakers
from stages.counts import Counts
from stages.events import HttpRequest, HttpResponse

DEFAULT_FILE = "pipelines.yaml"


@frozen
class Server:
    """The section `server`."""

    host: str = option("127.0.0.1", help="the address to listen on")
    port: int = option(
        8080, help="0 takes a free one", validator=[validators.ge(0), validators.le(65535)]
    )


SCHEMA = Schema(
    sections={
        "server": Server,
        "backends": dict[str, Backend],
        "models": dict[str, Entry],
        "circuit_breaker": Breakers,
        "metrics": Counts,  # nothing to declare: it is how stages share the counters
    },
    registry=REGISTRY,
    start=HttpRequest,
    end=HttpResponse,
    register_hooks=register_hooks,
    reserved=("GET /", "GET /health", "POST /api/event_logging/batch"),
)


def read(file: str | None, environ: Mapping[str, str] | None = None) -> Declaration:
    """Read and check a declaration. Raises DeclarationError with everything that is wrong."""
    environ = os.environ if environ is None else environ
    return load(locate(file, environ), SCHEMA, environ)


def locate(file: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The declaration meant: `file`, else what LLM_PROXY_CONFIG names, else ./pipelines.yaml."""
    environ = os.environ if environ is None else environ
    return file or environ.get("LLM_PROXY_CONFIG") or DEFAULT_FILE


def check_exposure(declaration: Declaration, host: str) -> None:
    """Refuse to let everybody in from outside unless the declaration says so.

    Raises DeclarationError, at each `authenticate` that has no keys.
    """
    if is_loopback(host):
        return
    problems = []
    for pipeline in declaration.pipelines:
        for stage, location in zip(pipeline.stages, pipeline.locations, strict=True):
            if isinstance(stage, Authenticate) and stage.open_door and not stage.allow_anonymous:
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
        raise DeclarationError(declaration.file, declaration.source, problems)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def used_backends(declaration: Declaration) -> dict[str, Any]:
    """The backends that models lead to."""
    entries = declaration.sections["models"].values()
    wanted = {model.backend for entry in entries for model in entry.targets}
    return {k: v for k, v in declaration.sections["backends"].items() if k in wanted}
