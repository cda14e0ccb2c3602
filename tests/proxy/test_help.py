"""Each command has help with an example, and refuses a number of seconds that no timer takes."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from proxy.cli import main
from tests.cases import for_each


def commands(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    yield before
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield (*before, name)


@for_each("command", list(commands(main)), ids=" ".join)
def test_the_help_has_an_example(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"])

    assert result.exit_code == 0
    assert "Example" in result.output


@pytest.mark.parametrize("option", ["--port", "--workers"])
def test_a_word_is_no_whole_number(option: str) -> None:
    result = CliRunner().invoke(main, ["serve", option, "many"])

    assert result.exit_code == 2
    assert "'many' is not a valid whole number." in result.output


@pytest.mark.parametrize("command", [("init",), ("probe", "x")], ids=" ".join)
def test_nan_is_no_timeout(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*command, "--timeout", "nan"])

    assert result.exit_code == 2
    assert "'nan' is not a number of seconds." in result.output
