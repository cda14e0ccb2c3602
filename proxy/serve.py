"""`llm-proxy serve`: bind the port, print how to use the proxy, run the server."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import click
import uvicorn

from pipeline.config.problems import ConfigError
from pipeline.config.schema import Config
from pipeline.config.text_width import pad, text_width
from proxy import __version__, logging_setup
from proxy.absent_servers import absent_servers
from proxy.app import App
from proxy.config import Server, check_open_access, read, referenced_backends
from proxy.config_notes import has_stage
from proxy.coordinator.shared_folder import SOCKET, make_folder, remove_unless_locked
from proxy.coordinator.sharing import NOTE, Sharing
from proxy.http.disconnect import CLOSE_TIMEOUT, SHUTDOWN_NOTICE
from proxy.http.limits import ConnectionLimits
from proxy.http.protocol import HttpProtocol
from proxy.memory import tune_memory
from proxy.reload import Reload
from proxy.signals import end_at_once_on_a_second_signal, end_with_supervisor, supervisor_is_dead
from proxy.tracing import tracing_from
from stages.account import Account
from stages.authenticate import Authenticate
from stages.record import Record
from stages.ui import page_path
from stages.usage.record import MIB

# Seconds after which uvicorn closes an idle connection; HttpProtocol closes it earlier.
# uvicorn's default of 5 is also that of httpx, and so of the Anthropic SDK. Both ends would close
# at the same moment, and a request that is sent at that moment gets no response.
_KEEP_ALIVE = 60
# Seconds after which an unresponsive worker is replaced. Loading a model takes some.
_UNRESPONSIVE = 60
# Connections that are accepted per turn of the event loop.
_ACCEPTS_PER_TURN = 16


def serve(config: Config, **options: Any) -> None:
    """Serve until a signal. `options` that are not None override the section `server`.

    Raises ConfigError, or click's error if the port is taken.
    """
    section = config.sections["server"]
    server = attrs.evolve(section, **{k: v for k, v in options.items() if v is not None})
    check_open_access(config, server.host)
    raise_open_files_limit()
    listener = bind(server.host, server.port)
    click.echo(greeting(config, server, listener.getsockname()[1], absent_servers(config)))
    # The application is made in the process that serves it: each worker reads the config itself.
    start = functools.partial(_start_app, config.file, server)
    if server.workers > 1:
        _run_workers(start, server, listener)
    else:
        settings = uvicorn_config(functools.partial(start, config), server)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal once more
            uvicorn.Server(settings).run(sockets=listeners(listener))


def _run_workers(start: Callable[..., App], server: Server, listener: socket.socket) -> None:
    """Run the supervisor. Its workers share metrics and the coordinator's socket in a folder."""
    from proxy.coordinator import connection, thread
    from proxy.http.workers import Workers

    logging_setup.set_up()
    try:
        folder = make_folder()
        shared = connection.listen(Path(folder.name) / SOCKET)
    except OSError as error:
        hint = "set TMPDIR to a writable folder, or `workers: 1`"
        raise click.ClickException(
            f"workers need a temporary folder with a socket: {error}\n  hint: {hint}"
        ) from error
    with folder as name:
        settings = uvicorn_config(functools.partial(start, None, Path(name)), server)
        on_start = functools.partial(thread.start, shared)
        on_orphaned = functools.partial(remove_unless_locked, Path(name))
        try:
            Workers(settings, listeners(listener), on_start, on_orphaned).run()
        except OSError as error:
            hint = "raise the limits of open files and processes, or set fewer `workers`"
            raise click.ClickException(f"workers cannot start: {error}\n  hint: {hint}") from error


def uvicorn_config(make: Callable[[], App], server: Server) -> uvicorn.Config:
    """Return uvicorn's settings. With several workers `make` must be picklable."""
    limits = ConnectionLimits(
        min_body_bytes_per_second=server.min_body_bytes_per_second, send_timeout=server.send_timeout
    )
    return uvicorn.Config(
        make,
        factory=True,
        loop="uvloop",
        http=functools.partial(HttpProtocol, limits=limits),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # the client's address is not used
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        workers=server.workers,
        timeout_worker_healthcheck=_UNRESPONSIVE,
        timeout_graceful_shutdown=server.drain_timeout + SHUTDOWN_NOTICE,  # type: ignore[arg-type]
    )


def _start_app(file: str, server: Server, config: Config | None, folder: Path | None = None) -> App:
    """Set up the serving process, and return its application. Workers have no `config` yet.

    `folder` is that of the supervisor.
    """
    log_handler = logging_setup.set_up()
    tune_memory()
    end_at_once_on_a_second_signal(worker=server.workers > 1)
    sharing = _share(folder, server) if folder else None
    if config is None:
        try:
            config = read(file)
            check_open_access(config, server.host)
        except ConfigError as error:  # the file has changed: the supervisor starts the worker again
            logging.getLogger("llm_proxy").error("%s", error.report())
            sys.exit(1)
    reload = Reload(config, server.host, server.reload)
    return _app(config, reload, log_handler, folder, sharing)


def _share(folder: Path, server: Server) -> Sharing:
    """Join the other workers. End with the supervisor: at once if it has died already."""
    if supervisor_is_dead():
        remove_unless_locked(folder)
        sys.exit(1)
    end_with_supervisor(server.drain_timeout + SHUTDOWN_NOTICE + CLOSE_TIMEOUT)
    return Sharing(folder, server.workers)


def serve_in_background(
    config: Config,
    listener: socket.socket,
    transform: Callable[[Config], Config],
    unlogged_path: str,
) -> None:
    """Serve until a SIGTERM, in this process, which has no terminal. For `llm-proxy run`.

    `transform` is applied to the config, and to those of later reloads. Successful requests whose
    path begins with `unlogged_path` are not logged, because they come each second.
    """

    def is_logged(record: logging.LogRecord) -> bool:
        exchange = getattr(record, "exchange", None)
        return not (exchange and exchange.status == 200 and exchange.path.startswith(unlogged_path))

    server = attrs.evolve(config.sections["server"], host="127.0.0.1", workers=1, drain_timeout=0.5)

    def start() -> App:
        log_handler = logging_setup.set_up()
        log_handler.addFilter(is_logged)
        tune_memory()
        end_at_once_on_a_second_signal(worker=True)
        reload = Reload(transform(config), server.host, server.reload, transform=transform)
        return _app(reload.running, reload, log_handler)

    raise_open_files_limit()
    uvicorn.Server(uvicorn_config(start, server)).run(sockets=listeners(listener))


def _app(
    config: Config,
    reload: Reload,
    log_handler: logging.Handler,
    folder: Path | None = None,
    sharing: Sharing | None = None,
) -> App:
    # Objects that exist when the first backends are open stay for good: the collector can skip
    # them, but not the backends of a reload. The signal that ends the process comes after the end
    # of the app, so no exit handler runs: `on_close` flushes the log.

    def on_close() -> None:
        log_handler.flush()
        if sharing and supervisor_is_dead():  # it cannot remove its folder
            sharing.remove_folder()

    return App(config, reload, gc.freeze, on_close, folder, tracing_from(os.environ), sharing)


def raise_open_files_limit() -> None:
    """Raise the limit of open files to the system's maximum, also for child processes.

    Each connection is one. The usual limit of 1024 is for programs that use `select`.
    """
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems do not accept "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises click.ClickException."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)
    except (OSError, TypeError, UnicodeError) as error:  # the latter two: not a host name
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {reason}\n  hint: {bind_hint(error)}"
        ) from error
    return listener


def listeners(listener: socket.socket) -> list[socket.socket]:
    """Return the socket and duplicates of it: uvloop accepts one connection per turn from each.

    With a single socket, a health check waits one turn for each connection that came before it.
    """
    return [listener, *(listener.dup() for _ in range(_ACCEPTS_PER_TURN - 1))]


def bind_hint(error: Exception) -> str:
    """Return the next action after a failed bind."""
    if isinstance(error, PermissionError):
        return "ports below 1024 need privileges; try `--port 8080`"
    if getattr(error, "errno", 0) == errno.EADDRINUSE:
        return "another program uses this port; try `--port 0` for a free one"
    return "set `--host` to an address of this machine, such as 127.0.0.1, or to 0.0.0.0 for all"


def greeting(config: Config, server: Server, port: int, found: Iterable[str] = ()) -> str:
    """Return the text printed at start: URL, models, notes (also `found`), client's settings."""
    host = server.host.strip("[]")
    bracketed = f"[{host}]" if ":" in host else host
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, bracketed)  # noqa: S104
    url = f"http://{reachable}:{port}"
    lines = [f"llm-proxy {__version__} listens on {url}", "", "models:"]
    models = config.sections["models"]
    width = max(map(text_width, models), default=0)
    for name, entry in models.items():
        for n, target in enumerate(entry.targets):
            destination = f"{target.backend}: {target.model or 'the same name'}"
            lines.append(f"  {pad('' if n else name, width)}  {destination}")
    lines += _storage(config)
    if path := page_path(config.pipelines):
        lines += ["", f"page: {url}{path}"]
    notes = [note.message for note in config.notes] + _worker_notes(config, server)
    notes += logging_setup.unknown_values(os.environ)
    notes += found
    lines += ["", *(f"note: {note}\n" for note in notes)]
    key = "…  # PROXY_API_KEY, or a key of the config" if _requires_key(config) else "anything"
    lines += [
        "set for the client:",
        f"  export ANTHROPIC_BASE_URL={url}",
        f"  export ANTHROPIC_AUTH_TOKEN={key}",
        "",
    ]
    return "\n".join(lines)


def _storage(config: Config) -> list[str]:
    """The files that the proxy writes, with their limits."""
    lines = []
    if has_stage(config, Account):
        usage = config.sections["usage"]
        lines += ["", f"usage: {usage.path}, at most {usage.max_bytes / MIB:g} MiB"]
    if has_stage(config, Record):
        recordings = config.sections["recordings"]
        what = "with prompts" if recordings.redact else "with prompts, not redacted"
        limit = f"at most {recordings.max_bytes / MIB:g} MiB"
        lines += ["", f"recordings, {what}: {recordings.path}, {limit}"]
    return lines


def _worker_notes(config: Config, server: Server) -> list[str]:
    if server.workers == 1:
        return []
    used = referenced_backends(config).items()
    embedded = [name for name, backend in used if backend.profile.embedded]
    return [NOTE, *(f"the workers share a process with the model of `{name}`" for name in embedded)]


def _requires_key(config: Config) -> bool:
    stages = [stage for pipeline in config.pipelines for stage in pipeline.stages]
    return any(isinstance(stage, Authenticate) and not stage.is_open for stage in stages)
