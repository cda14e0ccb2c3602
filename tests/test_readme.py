"""What the README shows is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.config.problems import ConfigError
from pipeline.testing import check_stage, run_stage
from proxy.config import Server, read
from proxy.serve import greeting
from tests.support import validated

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHIPPED = (ROOT / "pipelines.yaml").read_text()
ENVIRON = {
    "PROXY_API_KEY": "key",
    "DATABRICKS_HOST": "https://host.invalid",
    "DATABRICKS_TOKEN": "token",
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def shipped() -> Any:
    return YAML().load(SHIPPED)


def checked(declared: Any, folder: Path) -> None:
    file = folder / "pipelines.yaml"
    YAML().dump(declared, file)
    greeting(read(str(file), ENVIRON), Server(), 8080)


@pytest.mark.parametrize("block", blocks("yaml fragment"))
def test_each_fragment_of_yaml_is_in_order_within_the_shipped_file(
    block: str, tmp_path: Path
) -> None:
    checked({**shipped(), **YAML().load(block)}, tmp_path)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_each_whole_config_is_in_order_alone(block: str, tmp_path: Path) -> None:
    checked(YAML().load(block), tmp_path)


def test_there_is_a_whole_config_to_copy() -> None:
    assert len(blocks("yaml")) == 1


async def test_the_stage_of_ones_own_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [block for block in blocks("python") if "Stage[" in block]
    (entry,) = blocks("yaml stages")
    (tmp_path / "my_stages.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    declared = shipped()
    stages = declared["pipelines"]["messages"]["stages"]
    stages.insert(stages.index("resolve"), YAML().load(entry)[0])
    checked(declared, tmp_path)

    from my_stages import LimitTokens  # type: ignore[import-not-found]

    stage = LimitTokens(at_most=10)
    await check_stage(stage, [validated(max_tokens=50)])
    limits = [
        out.request.max_tokens
        for asked in (50, 5)
        for out in await run_stage(stage, [validated(max_tokens=asked)])
    ]

    assert limits == [10, 5]
    assert len(code.strip().splitlines()) <= 20


def test_the_problem_it_shows_is_what_check_says(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    lines = SHIPPED.splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if "- authenticate" in line)
    file.write_text("".join(lines[:first] + lines[first + 1 :]))
    (shown,) = blocks("text")

    with pytest.raises(ConfigError) as caught:
        read(str(file), ENVIRON)

    assert str(caught.value).replace(str(file), "pipelines.yaml") == shown.strip()


OPTIONAL = ("fallback", "queue")  # what comes out of them goes in
STAGE_LINES = [
    n
    for n, line in enumerate(SHIPPED.splitlines())
    if line.startswith("      - ") and line.split()[1] not in OPTIONAL
]


@pytest.mark.parametrize("number", STAGE_LINES)
def test_a_shipped_stage_that_is_deleted_is_missed_near_its_place(
    number: int, tmp_path: Path
) -> None:
    file = tmp_path / "pipelines.yaml"
    lines = SHIPPED.splitlines(keepends=True)
    file.write_text("".join(lines[:number] + lines[number + 1 :]))

    with pytest.raises(ConfigError) as caught:
        read(str(file), ENVIRON)

    (problem,) = caught.value.problems
    assert problem.code in ("chain-order", "chain-end")
    assert problem.location.line in (number, number + 1)  # where it was, or the one before
    assert "add `" in problem.hint


def test_every_profile_is_named() -> None:
    from stages.profiles.profile import profiles

    assert all(f"`{name}`" in README for name in profiles())


def test_no_address_of_a_package_registry_is_named() -> None:
    text = (ROOT / "constraints.txt").read_text()

    assert "//" not in text
    assert all(re.fullmatch(r"[\w.\-]+==[\w.\-]+", line) for line in text.split())
