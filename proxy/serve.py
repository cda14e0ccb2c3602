"""`llm-proxy serve`: bind, say how to use it, run."""

from __future__ import annotations

import contextlib
import errno
import gc
import socket

import attrs
import click
import uvicorn

from pipeline.declaration import Declaration
from proxy import __version__, logs
from proxy.app import make_app
from proxy.declaration import check_exposure
from proxy.protocol import HttpProtocol
from stages.authenticate import Authenticate

# How many new objects make the garbage collector run. Requests leave few cycles behind, and with
# Python's 700 it would run several times in each: a tenth of the time.
_YOUNG_OBJECTS = 20_000


def serve(declaration: Declaration, host: str | None, port: int | None) -> None:
    """Serve until a signal. Raises DeclarationError, or click's error when the port is taken."""
    server = declaration.sections["server"]
    given = {k: v for k, v in {"host": host, "port": port}.items() if v is not None}
    server = attrs.evolve(server, **given)
    check_exposure(declaration, server.host)
    bound = bind(server.host, server.port)
    logs.set_up()
    click.echo(greeting(declaration, server.host, bound.getsockname()[1]))
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    config = uvicorn.Config(
        # What is there then stays; the collector need not look at it again and again.
        make_app(declaration, ready=gc.freeze),
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody here asks for the client's address
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    with contextlib.suppress(KeyboardInterrupt):  # the signal it was stopped with, once more
        uvicorn.Server(config).run(sockets=[bound])


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises click.ClickException that says why it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
        bound.listen(2048)
    except (OSError, TypeError, UnicodeError) as error:  # the latter two: of a strange name
        bound.close()
        why = error.strerror if isinstance(error, OSError) else "this is no host name"
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {why}\n  hint: {bind_hint(error)}"
        ) from error
    return bound


def bind_hint(error: Exception) -> str:
    """What to do when an address cannot be listened on."""
    if isinstance(error, PermissionError):
        return "ports below 1024 are for the system; try `--port 8080`"
    if getattr(error, "errno", 0) == errno.EADDRINUSE:
        return "another program listens there; try `--port 0` for a free one"
    return "`--host` has to be an address of this machine, as 127.0.0.1, or 0.0.0.0 for all"


def greeting(declaration: Declaration, host: str, port: int) -> str:
    """What a person sees who starts the proxy: where it is, what it serves, how to use it."""
    host = host.strip("[]")
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    url = f"http://{shown}:{port}"
    lines = [f"llm-proxy {__version__} listens on {url}", "", "models:"]
    models = declaration.sections["models"]
    width = max(map(len, models), default=0)
    lines += [
        f"  {name:<{width}}  {model.backend}: {model.model or 'the same name'}"
        for name, model in models.items()
    ]
    lines += ["", *(f"note: {note.message}\n" for note in declaration.notes)]
    key = "…  # a key you declared" if _asks_for_key(declaration) else "anything"
    lines += [
        "use it:",
        f"  export ANTHROPIC_BASE_URL={url}",
        f"  export ANTHROPIC_API_KEY={key}",
        "",
    ]
    return "\n".join(lines)


def _asks_for_key(declaration: Declaration) -> bool:
    stages = [stage for pipeline in declaration.pipelines for stage in pipeline.stages]
    return any(isinstance(stage, Authenticate) and not stage.open_door for stage in stages)
