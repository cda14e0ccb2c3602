"""`llm-proxy serve`: bind, say how to use it, run."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import logging
import resource
import socket
import sys
from collections.abc import Callable
from typing import Any

import attrs
import click
import uvicorn

from pipeline.config.problems import ConfigError
from pipeline.config.schema import Config
from proxy import __version__, logs
from proxy.app import App
from proxy.config import Server, check_open_access, read, referenced_backends
from proxy.http.disconnect import SHUTDOWN_NOTICE
from proxy.http.limits import ConnectionLimits
from proxy.http.protocol import HttpProtocol
from proxy.reload import Reload
from proxy.signals import end_at_once_on_a_second_signal, end_with_supervisor
from stages.authenticate import Authenticate

# How many new objects make the garbage collector run. Requests leave few cycles behind, and with
# Python's 700 it would run several times in each: a tenth of the time.
_YOUNG_OBJECTS = 20_000
# After how many of those runs it looks at what survived them, and after how many of these at all
# objects. With Python's 10 and 10 the first takes 50 ms while a large body is read.
_ROUNDS = (5, 20)
# Seconds after which uvicorn closes a connection that asks nothing; HttpProtocol does it before.
# With uvicorn's own 5 both ends would close at once: they are also those of httpx, which is under
# the Anthropic SDK. A client that asks at that moment gets no answer.
_IDLE = 60
# Seconds after which a worker that gives no sign of life is replaced. To load a model takes some.
_UNRESPONSIVE = 60
# How many connections are accepted per turn of the event loop.
_ACCEPTS = 16


def serve(declaration: Config, **given: Any) -> None:
    """Serve until a signal; what is `given` and not None goes before the section `server`.

    Raises ConfigError, or click's error when the port is taken.
    """
    declared = declaration.sections["server"]
    server = attrs.evolve(declared, **{k: v for k, v in given.items() if v is not None})
    check_open_access(declaration, server.host)
    open_files_as_allowed()
    bound = bind(server.host, server.port)
    click.echo(greeting(declaration, server, bound.getsockname()[1]))
    # The application is made where it serves: each worker reads the declaration for itself.
    shared = None if server.workers > 1 else declaration
    config = uvicorn_config(functools.partial(_make_app, declaration.file, server, shared), server)
    if server.workers > 1:
        from proxy.http.workers import Workers

        logs.set_up()
        logging.getLogger("uvicorn.error").setLevel(logging.INFO)  # to say when a worker died
        Workers(config, listeners(bound)).run()
    else:
        with contextlib.suppress(KeyboardInterrupt):  # the signal it was stopped with, once more
            uvicorn.Server(config).run(sockets=listeners(bound))


def uvicorn_config(make: Callable[[], App], server: Server) -> uvicorn.Config:
    """How uvicorn serves what `make` makes. `make` can be pickled if there are workers."""
    limits = ConnectionLimits(
        min_body_bytes_per_second=server.min_body_bytes_per_second, send_timeout=server.send_timeout
    )
    return uvicorn.Config(
        make,
        factory=True,
        interface="asgi3",  # not to be guessed: the application is no coroutine function
        loop="uvloop",
        http=functools.partial(HttpProtocol, limits=limits),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody here asks for the client's address
        server_header=False,
        timeout_keep_alive=_IDLE,
        workers=server.workers,
        timeout_worker_healthcheck=_UNRESPONSIVE,
        timeout_graceful_shutdown=server.drain_timeout + SHUTDOWN_NOTICE,  # type: ignore[arg-type]
    )


def _make_app(file: str, server: Server, declaration: Config | None) -> App:
    """The application, made in the process that serves; this is set up, too."""
    log = logs.set_up()
    gc.set_threshold(_YOUNG_OBJECTS, *_ROUNDS)
    end_at_once_on_a_second_signal(worker=server.workers > 1)
    if server.workers > 1:
        end_with_supervisor()
    if declaration is None:
        try:
            declaration = read(file)
            check_open_access(declaration, server.host)
        except ConfigError as error:  # changed since: the supervisor tries again
            logging.getLogger("llm_proxy").error("%s", error.report())
            sys.exit(1)
    # What is there when the backends are open stays: the collector need not look at it again and
    # again. Backends of a reload come and go, and their cycles have to be found.
    # The signal that ends the process comes after the end of the application: no exit handler runs.
    reload = Reload(declaration, server.host, server.reload)
    return App(declaration, reload, opened=gc.freeze, ended=log.flush)


def open_files_as_allowed() -> None:
    """Let this process, and those it starts, have as many files open as the system allows.

    Each connection is one. What a process begins with, 1024 mostly, is for programs that know of
    no more.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # "unlimited" is not taken everywhere
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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


def listeners(bound: socket.socket) -> list[socket.socket]:
    """The socket, and copies of it: uvloop accepts one connection per turn of the loop of each.

    With one alone, a health check waits for so many turns as there are connections before it.
    """
    return [bound, *(bound.dup() for _ in range(_ACCEPTS - 1))]


def bind_hint(error: Exception) -> str:
    """What to do when an address cannot be listened on."""
    if isinstance(error, PermissionError):
        return "ports below 1024 are for the system; try `--port 8080`"
    if getattr(error, "errno", 0) == errno.EADDRINUSE:
        return "another program listens there; try `--port 0` for a free one"
    return "`--host` has to be an address of this machine, as 127.0.0.1, or 0.0.0.0 for all"


def greeting(declaration: Config, server: Server, port: int) -> str:
    """What a person sees who starts the proxy: where it is, what it serves, how to use it."""
    host = server.host.strip("[]")
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    url = f"http://{shown}:{port}"
    lines = [f"llm-proxy {__version__} listens on {url}", "", "models:"]
    models = declaration.sections["models"]
    width = max(map(len, models), default=0)
    for name, entry in models.items():
        for n, target in enumerate(entry.targets):
            leads = f"{target.backend}: {target.model or 'the same name'}"
            lines.append(f"  {'' if n else name:<{width}}  {leads}")
    notes = [note.message for note in declaration.notes] + _on_workers(declaration, server)
    lines += ["", *(f"note: {note}\n" for note in notes)]
    key = "…  # a key you declared" if _asks_for_key(declaration) else "anything"
    lines += [
        "use it:",
        f"  export ANTHROPIC_BASE_URL={url}",
        f"  export ANTHROPIC_API_KEY={key}",
        "",
    ]
    return "\n".join(lines)


def _on_workers(declaration: Config, server: Server) -> list[str]:
    if server.workers == 1:
        return []
    own = "each worker has counters and limits of its own; `/metrics` tells those of one of them"
    used = referenced_backends(declaration).items()
    return [own, *(f"each worker loads the model of `{k}`" for k, v in used if v.profile.embedded)]


def _asks_for_key(declaration: Config) -> bool:
    stages = [stage for pipeline in declaration.pipelines for stage in pipeline.stages]
    return any(isinstance(stage, Authenticate) and not stage.is_open for stage in stages)
