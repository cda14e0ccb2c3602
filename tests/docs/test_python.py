"""Each block of Python in the pages compiles; stages are imported and their tests pass."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from pipeline import Stage
from tests.cases import for_each
from tests.docs.pages import PAGES, Block, Page, blocks

WITH_MODULES = [page for page in PAGES if page.modules()]


@for_each("block", [b for b in blocks() if b.kind.startswith("python")], ids=str)
def test_each_block_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", WITH_MODULES, ids=lambda page: page.path)
def test_the_modules_of_a_page_pass_their_tests(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = page.modules()
    for name, code in modules.items():
        (tmp_path / name).write_text(code)
    try:
        for name in modules:
            module = importlib.import_module(name.removesuffix(".py"))
            tests = [call for key, call in vars(module).items() if key.startswith("test_")]
            assert bool(tests) == name.startswith("test_")
            for test in tests:
                test()
    finally:
        for name in modules:
            sys.modules.pop(name.removesuffix(".py"), None)


def test_the_tutorial_and_the_readme_have_the_same_first_stage() -> None:
    (readme,) = Page("README.md").modules().values()

    assert Page("docs/writing-a-stage.md").modules()["my_stages.py"] == readme
    assert Stage.__name__ in readme
    assert len(readme.splitlines()) <= 20
