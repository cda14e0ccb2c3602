"""Texts line up in a terminal, whatever their characters are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.config.problems import Location, Problem
from pipeline.config.text_width import pad, text_width
from tests.cases import for_each


@for_each(
    ("text", "width"),
    [
        ("qwen3", 5),
        ("模型", 4),
        ("é", 1),
        ("e\u0301", 1),
        ("ﾓ", 1),
        ("\uff31", 2),
        ("│", 1),
        ("❤️", 2),
        ("👩‍👩‍👧", 2),
    ],
)
def test_the_columns_of_a_text(text: str, width: int) -> None:
    assert text_width(text) == width
    assert text_width(pad(text, 9)) == 9


def test_a_config_in_ascii_does_not_wait_for_the_tables_of_wcwidth() -> None:
    code = "import sys, proxy.config as c; c.read(sys.argv[1], {}); print('wcwidth' in sys.modules)"
    config = Path(__file__).parents[3] / "pipelines.yaml"
    command = [sys.executable, "-c", code, str(config)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"False\n"


def test_a_text_that_is_too_wide_stays() -> None:
    assert pad("模型", 3) == "模型"


def test_the_caret_is_below_its_character() -> None:
    line = '  "模型": {bakend: x}'
    place = Location(1, line.index("bakend") + 1)

    _, quoted, caret = Problem("code", "message", place).render("f", line).splitlines()

    assert text_width(caret) - 1 == text_width(quoted.partition("bakend")[0])
