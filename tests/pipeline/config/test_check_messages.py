"""The output of `llm-proxy check`: one text file per case, in `messages/`.

Each holds the files of a directory under `=== NAME` and ends with `=== check exits with N` and
the whole output. `=== NAME in latin-1` is a file in another encoding; under
`=== the shipped pipelines.yaml, with` are lines to remove (`-`) and to put there (`+`).
With GOLDEN_WRITE set the outputs are written again, to be read in the diff.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main

ROOT = Path(__file__).parents[3]
CASES = sorted(Path(__file__).with_name("messages").glob("*.txt"))
SHIPPED = "the shipped pipelines.yaml, with"
EXIT = "check exits with "
# What must not come in from the machine the tests run on.
ENVIRONMENT = {
    "LLM_PROXY_CONFIG": None,
    "PROXY_API_KEY": None,
    "DATABRICKS_HOST": None,
    "DATABRICKS_TOKEN": None,
}


def sections(text: str) -> list[tuple[str, str]]:
    """The heading and the body of each part of a case."""
    parts = re.split(r"^=== (.+)\n", text, flags=re.MULTILINE)
    assert not parts[0], "a case begins with a heading"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def shipped(edit: str) -> str:
    """The pipelines.yaml that comes with the project, edited."""
    lines = edit.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] == "-")
    new = "".join(line[1:] for line in lines if line[0] == "+")
    text = (ROOT / "pipelines.yaml").read_text(encoding="utf-8")
    assert old in text, "the shipped file does not have these lines any more"
    return text.replace(old, new, 1)


def write(heading: str, body: str, folder: Path) -> None:
    """Put one file of a case in its place."""
    if heading == SHIPPED:
        (folder / "pipelines.yaml").write_text(shipped(body), encoding="utf-8")
    else:
        name, _, encoding = heading.partition(" in ")
        (folder / name).write_text(body, encoding=encoding or "utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_check_says(case: Path, tmp_path: Path) -> None:
    *files, (_, expected) = parts = sections(case.read_text(encoding="utf-8"))
    for heading, body in files:
        write(heading, body, tmp_path)
    with contextlib.chdir(tmp_path):
        result = CliRunner(env=ENVIRONMENT).invoke(main, ["check"])
    ending = f"{EXIT}{result.exit_code}"
    if "GOLDEN_WRITE" in os.environ:
        whole = [*files, (ending, result.output)]
        case.write_text("".join(f"=== {h}\n{b}" for h, b in whole), encoding="utf-8")
    assert f"{ending}\n{result.output}" == f"{parts[-1][0]}\n{expected}"


def test_every_case_is_run() -> None:
    assert len(CASES) > 40
