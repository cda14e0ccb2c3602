"""The command that installs packages into this environment, for hints."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys


def install_command() -> str:
    """The command, without the packages."""
    return _command(_with_pip())


def _with_pip() -> bool:
    """Whether this environment has pip. Environments made by uv do not."""
    return any(importlib.metadata.distributions(name="pip"))


def _command(pip: bool) -> str:
    python = shlex.quote(sys.executable)
    return f"{python} -m pip install" if pip else f"uv pip install --python {python}"
