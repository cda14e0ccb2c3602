"""The probe asks the embedded llama.cpp, and finds what the shipped profile says of it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from attrs import evolve
from click.testing import CliRunner

from proxy.cli import main
from proxy.config import read
from tests.real.support import ENVIRON, SHIPPED


def test_the_shipped_profile_of_the_embedded_model_is_what_the_probe_finds(tmp_path: Path) -> None:
    with contextlib.chdir(SHIPPED.parent):
        result = CliRunner(env=ENVIRON).invoke(main, ["probe", "local"])
    assert result.exit_code == 0, result.stderr
    shipped = SHIPPED.read_text()
    declared = "  local: {profile: embedded}\n"
    assert declared in shipped
    (tmp_path / "pipelines.yaml").write_text(shipped.replace(declared, result.stdout))

    found = read(str(tmp_path / "pipelines.yaml"), {}).sections["backends"]["local"].profile

    known = read(str(SHIPPED), {}).sections["backends"]["local"].profile
    assert evolve(found, profile="embedded") == known
    assert "; declared: " not in result.stdout
    assert "# `n_ctx` in /props" in result.stdout
    ignored = r"named_tool_choice: false +# ignored: the model responded with text\n"
    assert re.search(ignored, result.stdout)


def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"this is no model")
    declared = f"  local: {{profile: embedded, model_path: {file}}}\n"
    text = SHIPPED.read_text().replace("  local: {profile: embedded}\n", declared)
    (tmp_path / "pipelines.yaml").write_text(text)
    with contextlib.chdir(tmp_path):
        result = CliRunner(env=ENVIRON).invoke(main, ["probe", "local"])

    assert result.exit_code == 1
    assert not result.stdout
    assert "the embedded llama.cpp cannot be started" in result.stderr
    assert "hint:" in result.stderr
