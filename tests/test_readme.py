"""The README is short, and what other checks read from it is there. See also tests/docs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pipeline.config.problems import ConfigError
from proxy.config import read

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHIPPED = (ROOT / "pipelines.yaml").read_text()
MAX_LINES = 120


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_it_names_the_versions_of_python_that_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert f"You need Python {', '.join(versions[:-1])} or {versions[-1]} (" in README
    assert project["requires-python"] == f">={versions[0]}"


def test_it_has_one_command_that_sets_up_and_tests() -> None:
    """`.ci/run` runs this line."""
    pattern = re.search(r"grep -E '(.*)' README.md", (ROOT / ".ci" / "run").read_text())

    assert pattern
    assert len(re.findall(rf"{pattern[1]}.*", README, re.MULTILINE)) == 1


def test_it_has_one_complete_config() -> None:
    """`.ci/installed` serves it."""
    assert len(re.findall(r"^```yaml$", README, re.MULTILINE)) == 1


OPTIONAL = ("account", "fallback", "queue")  # what comes out of them goes in
STAGE_LINES = [
    n
    for n, line in enumerate(SHIPPED.splitlines())
    if line.startswith("      - ") and line.split()[1] not in OPTIONAL
]


@pytest.mark.parametrize("number", STAGE_LINES)
def test_a_deleted_stage_is_reported_near_its_place(number: int, tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    lines = SHIPPED.splitlines(keepends=True)
    file.write_text("".join(lines[:number] + lines[number + 1 :]))

    with pytest.raises(ConfigError) as caught:
        read(str(file), {})

    (problem,) = caught.value.problems
    assert problem.code in ("chain-order", "chain-end")
    assert problem.location.line in (number, number + 1)  # where it was, or the one before
    assert "add `" in problem.hint


def test_no_address_of_a_package_registry_is_named() -> None:
    text = (ROOT / "constraints.txt").read_text()

    assert "//" not in text
    assert all(re.fullmatch(r"[\w.\-]+==[\w.\-]+", line) for line in text.split())
