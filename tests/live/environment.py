"""Environments for the servers, made with `uv` where it is installed, with `venv` and pip else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from attrs import frozen

#: Seconds between two reports of a step that takes long.
_REPORT_EVERY = 10.0


class SetupError(Exception):
    """A step of the set-up failed; the message says what to do."""


def say(text: str) -> None:
    """Print a line of progress now."""
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


def run(
    what: str,
    command: Sequence[str],
    log: Path,
    limit: float,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Run a step with its output in `log`, at most `limit` seconds. Raises SetupError."""
    say(f"{what} …")
    began = reported = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(environ or {})}
        )
        try:
            while process.poll() is None:
                now = time.monotonic()
                if now - began > limit:
                    raise SetupError(f"{what}: not done in {limit:g} s; read {log}")
                if now - reported > _REPORT_EVERY:
                    reported = now
                    say(f"  {now - began:.0f} s: {last_line(log)}")
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise SetupError(f"{what}: exit status {process.returncode}; read {log}")
    say(f"  done in {time.monotonic() - began:.0f} s")


def last_line(log: Path, width: int = 100) -> str:
    """The last line of a log that says something, at most `width` characters of it."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.strip()[:width] for line in reversed(lines) if line.strip()), "")


@frozen
class Environment:
    """A Python environment in `folder`, made at the first use and kept."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its `site-packages`."""
        return next(self.folder.glob("lib/python*/site-packages"))

    def install(self, *requirements: str, limit: float, arguments: Sequence[str] = ()) -> bool:
        """Install `requirements` if the last run did not; whether anything was done.

        PIP_FIND_LINKS and PIP_EXTRA_INDEX_URL are obeyed, also where `uv` installs.
        """
        done = self.folder / "installed.txt"
        wanted = "\n".join((sys.version, *arguments, *requirements))
        if done.exists() and wanted in done.read_text():
            say(f"{' '.join(requirements)}: installed")
            return False
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if not self.python.exists():
            say(f"make an environment in {self.folder}")
            venv.create(self.folder, with_pip=not shutil.which("uv"), symlinks=True)
        self._pip("install", *arguments, *requirements, limit=limit)
        with done.open("a") as file:
            file.write(f"{wanted}\n\n")
        return True

    def uninstall(self, *names: str, limit: float) -> None:
        """Remove packages."""
        self._pip("uninstall", *(() if shutil.which("uv") else ("-y",)), *names, limit=limit)

    def _pip(self, action: str, *arguments: str, limit: float) -> None:
        python = str(self.python)
        command = [python, "-m", "pip", action, *arguments]
        if uv := shutil.which("uv"):
            command = [uv, "pip", action, "--python", python, *arguments]
        names = " ".join(a for a in arguments if not a.startswith(("-", "/")))
        run(f"{action} {names}", command, self.folder.with_suffix(".log"), limit, _for_uv())


def _for_uv() -> dict[str, str]:
    """The variables of pip that `uv` has under names of its own."""
    pairs = {"PIP_FIND_LINKS": "UV_FIND_LINKS", "PIP_EXTRA_INDEX_URL": "UV_INDEX"}
    return {uv: os.environ[pip] for pip, uv in pairs.items() if os.environ.get(pip)}
