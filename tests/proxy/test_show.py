"""`llm-proxy show`: the pipelines of a config as drawings."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from tests.docs.pages import ROOT, Page

CONFIG = """\
models: {}
pipelines:
  models:
    route: [GET /v1/models, GET /models]
    stages:
      - authenticate: {keys: [sk-very-secret]}
      - drawn_stages:Greet: {words: [Good day, 5], greeting: {times: 3}}
      - drawn_stages:Either
      - list-models
  other:
    route: GET /other
    stages: [authenticate, list-models]
"""
STAGES = '''
from typing import Any, TypeVar
from attrs import frozen
from pipeline import Stage, option
from stages.events import Authenticated, HttpResponse

T = TypeVar("T")

@frozen
class Greeting:
    times: int = 1

@frozen
class Greet(Stage[T, T]):
    """Greet the client. And more.

    Even more.
    """

    words: tuple[Any, ...] = ()
    greeting: Greeting = Greeting()
    unset: str = "unset"

@frozen
class Either(Stage[Authenticated, Authenticated | HttpResponse]):
    pass
'''
DRAWN = """\
models: GET /v1/models, GET /models

  client
  │ HttpRequest
  authenticate         Refuse requests without a valid key, before their body is read.
  │   keys: ***
  │ Authenticated
  drawn_stages:Greet   Greet the client.
  │   words: [Good day, 5], greeting: {…}
  │ Authenticated
  drawn_stages:Either
  │ Authenticated or HttpResponse
  list-models          List the entries of `models`, without patterns.
  │ HttpResponse
  client
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drawn_stages.py").write_text(STAGES)
    (tmp_path / "pipelines.yaml").write_text(CONFIG)
    return tmp_path


def show(folder: Path, *arguments: str) -> Result:
    environ = {"LLM_PROXY_CONFIG": None, "PROXY_API_KEY": None}
    with contextlib.chdir(folder):
        return CliRunner(env=environ).invoke(main, ["show", *arguments])


def test_a_pipeline_is_drawn_with_events_and_options_and_without_keys(folder: Path) -> None:
    result = show(folder, "models")

    assert (result.exit_code, result.output) == (0, DRAWN)


def test_all_pipelines_are_drawn_by_default(folder: Path) -> None:
    result = show(folder)

    assert result.stdout.startswith(f"{DRAWN}\nother: GET /other\n")


def test_json_is_for_scripts(folder: Path) -> None:
    first, second = json.loads(show(folder, "--json").stdout)

    assert (first["name"], first["routes"]) == ("models", ["GET /v1/models", "GET /models"])
    assert (first["start"], second["stages"][1]["name"]) == ("HttpRequest", "list-models")
    assert first["stages"][2]["after"] == ["Authenticated", "HttpResponse"]
    assert [stage["line"] for stage in first["stages"]] == [6, 7, 8, 9]
    assert "sk-very-secret" not in json.dumps(first)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["model"], 1, "there is no pipeline `model` in pipelines.yaml\n  hint: did you mean"),
        (["--config", "absent.yaml"], 1, "there is no such file"),
        (["--jsn"], 2, "No such option"),
    ],
    ids=["name", "file", "option"],
)
def test_a_wrong_command_line(folder: Path, arguments: list[str], code: int, words: str) -> None:
    result = show(folder, *arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr


def test_the_drawing_on_the_page_is_that_of_the_shipped_config() -> None:
    blocks = [block.text for block in Page("docs/operations.md").blocks("text")]

    assert show(ROOT, "messages").stdout in blocks
