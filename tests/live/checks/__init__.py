"""The checks. Each returns what it saw; what is expected is next to its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import frozen

from tests.live.requests import Live

Run = Callable[[Live], Awaitable[str]]


@frozen
class Check:
    """An observation. `*` in `expected` matches any text."""

    name: str
    expected: str
    run: Run


class Checks(list[Check]):
    """The checks of a module, in the order in which they run."""

    def add(self, name: str, expected: str) -> Callable[[Run], Run]:
        """Add the function below."""

        def added(run: Run) -> Run:
            self.append(Check(name, expected, run))
            return run

        return added
