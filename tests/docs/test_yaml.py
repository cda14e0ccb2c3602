"""Each block of YAML in the pages passes `check`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.config.problems import ConfigError
from proxy.config import Server, read
from proxy.serve import greeting
from tests.docs.pages import ROOT, Block, Page, blocks

SHIPPED = (ROOT / "pipelines.yaml").read_text()
SECTIONS = YAML().load(SHIPPED)
ENVIRON = {
    "PROXY_API_KEY": "key",
    "DATABRICKS_HOST": "https://host.invalid",
    "DATABRICKS_TOKEN": "token",
}
KINDS = ("yaml", "yaml fragment")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, of which no module stays imported."""
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def check(block: Block, folder: Path) -> None:
    """Check a block, next to the modules of its page. Raises ConfigError."""
    for name, code in Page(block.page).modules().items():
        (folder / name).write_text(code)
    content: Any = YAML().load(block.text)
    if block.kind == "yaml fragment":
        content = {**SECTIONS, **content}
    file = folder / "pipelines.yaml"
    YAML().dump(content, file)
    greeting(read(str(file), ENVIRON), Server(), 8080)


@pytest.mark.parametrize("block", blocks(*KINDS), ids=str)
def test_each_block_passes_check(block: Block, folder: Path) -> None:
    check(block, folder)


def test_each_block_of_yaml_is_checked() -> None:
    assert not [
        str(block) for block in blocks() if "yaml" in block.kind and block.kind not in KINDS
    ]


def test_a_wrong_option_in_a_block_is_seen(folder: Path) -> None:
    block = Block("README.md", 1, "yaml fragment", "server: {prot: 1}\n")

    with pytest.raises(ConfigError, match="prot"):
        check(block, folder)


def test_the_mistake_on_the_page_is_what_check_reports(folder: Path) -> None:
    lines = SHIPPED.splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if "- authenticate" in line)
    file = folder / "pipelines.yaml"
    file.write_text("".join(lines[:first] + lines[first + 1 :]))
    page = Page("docs/configuration.md")
    output = next(
        block for block in page.blocks("text") if block.text.startswith("pipelines.yaml:")
    )

    with pytest.raises(ConfigError) as caught:
        read(str(file), ENVIRON)

    assert str(caught.value).replace(str(file), "pipelines.yaml") == output.text.strip()
