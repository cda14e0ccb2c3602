"""Whether events can be changed, and what they cost."""

from __future__ import annotations

import subprocess
import sys

import pytest
from attrs import evolve, field
from attrs.exceptions import FrozenInstanceError

from pipeline.event import event

CHANGE = """
from stages.events import ResponseStart
ResponseStart(200).status = 500
"""


@event
class Part:
    text: str
    note: str = field(default="", eq=False)


def test_an_event_is_a_value() -> None:
    part = Part("a", note="first")

    assert part == Part("a")
    assert {part: 1}[Part("a")] == 1
    assert evolve(part, text="b") == Part("b")


def test_an_event_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        Part("a").other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("options", "refused"), [([], False), (["-X", "dev"], True)])
def test_development_mode_refuses_to_change_an_event(options: list[str], refused: bool) -> None:
    command = [sys.executable, *options, "-c", CHANGE]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (FrozenInstanceError.__name__ in run.stderr) is refused, run.stderr
