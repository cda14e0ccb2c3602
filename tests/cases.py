"""A decorator for a table of cases: one test that lists the cases that fail."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_Test = Callable[..., Any]
_Ids = Callable[[Any], object] | Iterable[str] | None


def for_each(names: str | tuple[str, ...], rows: Iterable[Any], ids: _Ids = None) -> _Decorator:
    """Call the test with each row, as `pytest.mark.parametrize` does, but as one test.

    All rows run. The test fails with one error for each row that fails, and the error has the
    row's id as a note. For rows that show one fact: rows that show several facts, or share a
    fixture that keeps state (`tmp_path`, `caplog`), take `pytest.mark.parametrize`.
    """
    if isinstance(names, str):
        names = tuple(name.strip() for name in names.split(","))
    return _Decorator(names, list(_labelled(names, list(rows), ids)))


class _Decorator:
    def __init__(self, names: tuple[str, ...], rows: list[tuple[str, dict[str, Any]]]) -> None:
        assert rows, "no case: the test could not fail"
        self._names, self._rows = names, rows

    def __call__(self, test: _Test) -> _Test:
        wrapper = self._coroutine(test) if inspect.iscoroutinefunction(test) else self._plain(test)
        functools.update_wrapper(wrapper, test)
        signature = inspect.signature(test)
        assert set(self._names) <= signature.parameters.keys()
        fixtures = [
            parameter for name, parameter in signature.parameters.items() if name not in self._names
        ]
        wrapper.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        return wrapper

    def _plain(self, test: _Test) -> _Test:
        def run(*args: Any, **fixtures: Any) -> None:
            errors: list[BaseException] = []
            for label, row in self._rows:
                with _collected(errors, label):
                    test(*args, **fixtures, **row)
            _raise(errors)

        return run

    def _coroutine(self, test: _Test) -> _Test:
        async def run(*args: Any, **fixtures: Any) -> None:
            errors: list[BaseException] = []
            for label, row in self._rows:
                with _collected(errors, label):
                    await test(*args, **fixtures, **row)
            _raise(errors)

        return run


def _labelled(
    names: tuple[str, ...], rows: list[Any], ids: _Ids
) -> Iterator[tuple[str, dict[str, Any]]]:
    labels = list(ids) if ids is not None and not callable(ids) else None
    for number, row in enumerate(rows):
        parameters = pytest.param(row) if len(names) == 1 else pytest.param(*row)
        label: object = ", ".join(repr(value) for value in parameters.values)
        if isinstance(row, type(parameters)):
            assert not row.marks, "marks have no effect here"
            parameters, label = row, row.id or label
        if labels is not None:
            label = labels[number]
        elif callable(ids):
            label = ", ".join(str(ids(value)) for value in parameters.values)
        yield str(label), dict(zip(names, parameters.values, strict=True))


@contextmanager
def _collected(errors: list[BaseException], label: str) -> Iterator[None]:
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # it is raised later
        error.add_note(f"case: {label}")
        errors.append(error)


def _raise(errors: list[BaseException]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        labels = "\n".join(note for error in errors for note in error.__notes__)
        raise BaseExceptionGroup(f"{len(errors)} cases fail:\n{labels}", errors)
