"""Links, paths, commands, metrics and variables that the pages name exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from proxy.app import App
from proxy.cli import main
from proxy.config import read
from stages.counters import Counters
from stages.metric_families import metric_families
from stages.profiles.profile import profiles
from tests.cases import for_each
from tests.docs.pages import PAGES, ROOT, Block, Page, blocks

EVERY_PAGE = for_each("page", PAGES, ids=lambda page: page.path)
RECIPES = re.findall(r"^([a-z]+)\b.*:(?: \w+)*$", (ROOT / "Justfile").read_text(), re.MULTILINE)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
#: Commands of others; their options are not checked.
FOREIGN = ("claude", "docker", "export", "kubectl", "pipx", "python3", "uv")
OWN_PATHS = r"`((?:deploy|docs|pipeline|proxy|stages|tests)/[\w./-]*)`"


@EVERY_PAGE
def test_each_link_leads_to_a_file_and_a_heading(page: Page) -> None:
    folder = (ROOT / page.path).parent
    broken = []
    for link in page.links():
        target = urlsplit(link)
        if target.scheme:
            continue
        file = (folder / target.path).resolve() if target.path else ROOT / page.path
        if not file.exists() or (target.fragment and target.fragment not in anchors(file)):
            broken.append(link)

    assert not broken


def anchors(file: Path) -> set[str]:
    return Page(str(file.relative_to(ROOT))).anchors()


@EVERY_PAGE
def test_each_path_of_the_repository_exists(page: Page) -> None:
    paths = re.findall(OWN_PATHS, page.prose)

    assert not [path for path in paths if not (ROOT / path).exists()]


def test_each_page_is_linked_from_the_readme() -> None:
    links = {urlsplit(link).path for link in Page("README.md").links()}

    assert links >= {page.path for page in PAGES if page.path != "README.md"}


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a block: their words, without variables and redirection."""
    lines = re.sub(r"'[^']*'", lambda quoted: quoted[0].replace("\n", " "), block.text)
    for line in lines.splitlines():
        for command in line.split(" && "):
            if words := shlex.split(command.partition(" > ")[0], comments=True):
                yield words


def check_command(words: list[str]) -> None:
    """See that a command exists and takes its arguments."""
    name, *arguments = words
    name = name.removeprefix(".venv/bin/")
    if name == "llm-proxy":
        _check_llm_proxy(arguments)
    elif name == "just":
        assert not arguments or arguments[0] in RECIPES, arguments
    elif name == "curl":
        _check_request(arguments)
    else:
        assert name in (*FOREIGN, "pip", "pytest", "python"), name
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(arguments)):
        assert EXTRAS.keys() >= set(extras.split(",")), extras


def _check_llm_proxy(arguments: list[str]) -> None:
    command = main
    name, *remaining = (
        arguments if arguments and arguments[0] in main.commands else ["serve", *arguments]
    )
    # As the group makes it: click keeps a command's help option from its first context on.
    parent = click.Context(command, info_name="llm-proxy", **command.context_settings)
    command.commands[name].make_context(name, remaining, parent, resilient_parsing=False)


def _check_request(arguments: list[str]) -> None:
    url = urlsplit(arguments[0])
    pipelines = read(str(ROOT / "pipelines.yaml"), {}).pipelines
    assert any(url.path in route for pipeline in pipelines for route in pipeline.routes)
    json.loads(arguments[arguments.index("-d") + 1])


@for_each("block", blocks("sh"), ids=str)
def test_each_command_line_is_valid(block: Block) -> None:
    for words in commands(block):
        check_command(words)


def test_a_wrong_command_is_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        check_command(["llm-proxy", "serve", "--wrokers", "2"])
    with pytest.raises(AssertionError):
        check_command(["just", "tset"])


@EVERY_PAGE
def test_each_command_in_a_sentence_exists(page: Page) -> None:
    own = re.findall(r"`llm-proxy (\w+)", page.prose)
    recipes = re.findall(r"`just (\w+)", page.prose)

    assert set(own) <= main.commands.keys()
    assert set(recipes) <= set(RECIPES)


def test_each_metric_is_documented() -> None:
    text = Page("docs/operations.md").text
    metrics = {family.name for family in metric_families(Counters(), {}, {})}

    documented = re.findall(r"^\| `(llm_proxy_\w+)`", text, re.MULTILINE)

    assert {name.removesuffix("_total") for name in documented} == metrics


def test_each_variable_is_documented() -> None:
    code = "".join(file.read_text() for file in (ROOT / "proxy").rglob("*.py"))
    variables = set(re.findall(r'"((?:LLM_)?PROXY_[A-Z_]+)"', code))
    prose = "".join(page.text for page in PAGES)

    assert variables
    assert not [name for name in variables if f"`{name}" not in prose]


def test_each_profile_is_named() -> None:
    text = Page("docs/models.md").text

    assert not [name for name in profiles() if f"`{name}`" not in text]


def test_each_path_that_is_served_is_documented() -> None:
    paths = App(read(str(ROOT / "pipelines.yaml"), {})).current.static_paths
    prose = "".join(page.text for page in PAGES)

    assert not [path for path in paths if path not in prose]


def test_each_renamed_option_is_in_the_changelog() -> None:
    changelog = Page("CHANGELOG.md").text
    files = [file for folder in ("proxy", "stages") for file in (ROOT / folder).rglob("*.py")]
    code = "".join(file.read_text() for file in files)
    old = re.findall(r'renamed_from="(\w+)"', code)

    assert not [name for name in old if f"`{name}`" not in changelog]
