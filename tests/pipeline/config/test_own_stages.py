"""Stages of one's own, in the real schema: next to the config, or by entry point."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.config.problems import ConfigError
from proxy.cli import main
from proxy.config import read
from stages.events import HttpRequest, ResponseBody, ResponseStart

STAGE = '''\
from attrs import frozen

from pipeline import Send, Stage, option
from stages.events import Authenticated, HttpResponse, ResponseBody, ResponseStart


@frozen
class Greet(Stage[Authenticated, HttpResponse]):
    """Responds with a greeting."""

    word: str = option("Hello", help="what to say")

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        await forward(ResponseStart(200))
        await forward(ResponseBody(f"{self.word} {event.exchange.client}".encode()))
'''

ANYWHERE = '''

from typing import TypeVar

T = TypeVar("T")


@frozen
class Count(Stage[T, T]):
    """Counts what passes."""

    start: int = option(help="the first number")

    async def handle(self, event: T, forward: Send[T]) -> None:
        await forward(event)
'''


def write_config(folder: Path, *stages: str) -> Path:
    listed = "".join(f"      - {stage}\n" for stage in stages)
    file = folder / "pipelines.yaml"
    file.write_text(f"pipelines:\n  greet:\n    route: GET /greet\n    stages:\n{listed}")
    return file


async def answer(file: Path) -> list[Any]:
    """The output of the first pipeline for a request without a body."""
    arrived = []

    async def sink(event: Any) -> None:
        arrived.append(event)

    (pipeline,) = read(str(file), {}).pipelines
    await pipeline.chain.run(HttpRequest("GET", "/greet"), sink)
    return arrived


async def test_a_stage_in_a_module_next_to_the_config_runs(tmp_path: Path) -> None:
    (tmp_path / "beside_stages.py").write_text(STAGE)
    file = write_config(tmp_path, "authenticate", "beside_stages:Greet: {word: Good day}")

    assert await answer(file) == [ResponseStart(200), ResponseBody(b"Good day anonymous")]


async def test_a_stage_that_may_be_anywhere_runs_anywhere(tmp_path: Path) -> None:
    (tmp_path / "anywhere_stages.py").write_text(STAGE + ANYWHERE)
    count = "anywhere_stages:Count: {start: 1}"
    file = write_config(tmp_path, count, "authenticate", count, "anywhere_stages:Greet", count)

    assert await answer(file) == [ResponseStart(200), ResponseBody(b"Hello anonymous")]


async def test_a_stage_of_an_installed_distribution_runs_by_its_name(tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "greeting-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "greeting_plugin.py").write_text(STAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[llm_proxy.stages]\ngreet = greeting_plugin:Greet\n")
    sys.path.append(str(site))
    file = write_config(tmp_path, "authenticate", "greet: {word: Hi}")

    assert await answer(file) == [ResponseStart(200), ResponseBody(b"Hi anonymous")]

    listed = CliRunner().invoke(main, ["stages"])
    assert "greet: Authenticated -> HttpResponse\n  Responds with a greeting.\n" in listed.output


SHOWN = """\
{name}: Authenticated -> HttpResponse
  Responds with a greeting.
    word (text; default: Hello): what to say

"""


@pytest.mark.parametrize("way", ["folder", "option", "variable"])
def test_a_stage_next_to_the_config_is_shown(tmp_path: Path, way: str) -> None:
    (tmp_path / "shown_stages.py").write_text(STAGE)
    file = write_config(tmp_path, "authenticate", "shown_stages:Greet")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = ["stages", "shown_stages:Greet"]
    environ = {"LLM_PROXY_CONFIG": str(file) if way == "variable" else None}
    arguments += ["--config", str(file)] if way == "option" else []

    with contextlib.chdir(tmp_path if way == "folder" else elsewhere):
        result = CliRunner(env=environ).invoke(main, arguments)

    assert (result.exit_code, result.output) == (0, SHOWN.format(name="shown_stages:Greet"))


def test_a_stage_that_may_be_anywhere_is_shown(tmp_path: Path) -> None:
    (tmp_path / "anywhere_stages.py").write_text(STAGE + ANYWHERE)

    with contextlib.chdir(tmp_path):
        result = CliRunner().invoke(main, ["stages", "anywhere_stages:Count"])

    assert result.output == (
        "anywhere_stages:Count: anything -> the same\n"
        "  Counts what passes.\n"
        "    start (whole number; required): the first number\n\n"
    )


SHOUT = """
import importlib.util

from d1_words import WORDS

FOUND = [importlib.util.find_spec(name) is not None for name in ("d1_words", "json")]


def find_late():
    return importlib.util.find_spec("d1_later")
"""


def test_row_d1_a_module_imports_from_its_folder_at_its_top(tmp_path: Path) -> None:
    (tmp_path / "d1_words.py").write_text("WORDS = 'Good day'\n")
    (tmp_path / "d1_later.py").write_text("")
    (tmp_path / "d1_stages.py").write_text(STAGE + SHOUT)
    before = list(sys.path)

    assert read(str(write_config(tmp_path, "authenticate", "d1_stages:Greet")), {}).pipelines

    module = sys.modules["d1_stages"]
    assert (module.WORDS, module.FOUND, module.find_late()) == ("Good day", [True, True], None)
    assert sys.path == before


def test_row_d1_a_module_that_fails_does_not_change_the_path(tmp_path: Path) -> None:
    (tmp_path / "d1_broken.py").write_text("raise RuntimeError\n")
    before = list(sys.path)

    with pytest.raises(ConfigError):
        read(str(write_config(tmp_path, "authenticate", "d1_broken:Greet")), {})

    assert sys.path == before


def test_row_d1_a_folder_that_is_on_the_path_stays_there(tmp_path: Path) -> None:
    (tmp_path / "d1_there.py").write_text(STAGE)
    sys.path.append(str(tmp_path))
    before = list(sys.path)

    assert read(str(write_config(tmp_path, "authenticate", "d1_there:Greet")), {}).pipelines

    assert sys.path == before


def test_a_module_does_not_hide_one_that_is_installed(tmp_path: Path) -> None:
    (tmp_path / "stages.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "json.py").write_text("raise RuntimeError('imported')")

    assert read(str(write_config(tmp_path, "authenticate", "list-models")), {}).pipelines
