"""The start: it checks that the packages `pipeline`, `proxy` and `stages` are llm-proxy's own.

These names are common. In an environment with other distributions one of them may be another's
(`proxy.py` has a `proxy`), and the files of both may be in one folder. So this module has a name
of its own, and imports nothing of the three before it has checked them.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PACKAGES = ("pipeline", "proxy", "stages")
NAME = "llm-proxy"
#: The folder of the three packages, however they were installed.
HOME = Path(__file__).resolve().parent

# A start makes many objects, and few cycles. It is set here, since a worker process imports this
# module before all others, and does not run `main`: it would take a quarter more time to start.
gc.set_threshold(20_000)


def main() -> None:
    """The command `llm-proxy`."""
    open_standard_files()
    try:
        _main()
    except KeyboardInterrupt:  # in the imports: click handles it later
        sys.exit(130)


def _main() -> None:
    if sys.argv[1:] == ["statusline"]:  # runs each second, so without the imports and checks below
        from proxy.statusline import main as statusline

        return statusline()
    for problem in foreign(HOME):
        hint = "install llm-proxy in its own environment, with `uv tool install` or `pipx install`"
        sys.exit(f"Error: {problem}; {hint}")
    from proxy.cli import main as command

    try:
        command(prog_name=NAME)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the exit flushes what could not be written
        sys.exit(f"Error: {error.strerror}; free some space, and repeat the command")


def open_standard_files() -> None:
    """Open /dev/null in place of stdin, stdout and stderr if they are closed.

    Otherwise their numbers would be those of the next files, such as the socket that listens.
    """
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number
            setattr(sys, name, os.fdopen(number, mode))


def foreign(home: Path) -> Iterator[str]:
    """What is wrong with the three packages, which have to be imported from `home`."""
    from importlib.metadata import distributions

    for package in PACKAGES:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            yield f"llm-proxy's package `{package}` is not complete in {home}"
        elif Path(spec.origin).resolve() != home / package / "__init__.py":
            yield f"`import {package}` finds {spec.origin}, not llm-proxy's package"
    for distribution in distributions(path=[str(home)]):
        for package in PACKAGES:
            if _has(distribution, package) and distribution.name != NAME:
                yield f"{distribution.name} has a package `{package}`, as llm-proxy has, in {home}"


def _has(distribution: Distribution, package: str) -> bool:
    """Whether `package` is a top-level package of the distribution."""
    names = distribution.read_text("top_level.txt")
    if names is not None:
        return package in names.split()
    return f"\n{package}/" in f"\n{distribution.read_text('RECORD')}"


if __name__ == "__main__":
    main()
