"""The probe of the embedded llama.cpp finds the shipped profile."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import anthropic
from attrs import define, evolve
from click.testing import CliRunner

from proxy.cli import main
from proxy.config import read
from proxy.probe.interview import CommonParameters, Interview, ProbeClient
from proxy.probe.question import ProbeRequest
from proxy.probe.reply import Reply
from proxy.probe.report import report
from stages.backends.backend import Backend
from stages.profiles.profile import Profile
from tests.real.support import ENVIRON, HELLO, SHIPPED, Real, embedded_url

LOCAL = "  local: {profile: embedded}\n"


@define
class TerseClient(ProbeClient):
    """Generates fewer tokens: 1 where only acceptance counts, and those of a tool call's start."""

    async def reply(self, request: ProbeRequest, common: CommonParameters | None = None) -> Reply:
        tokens = {8: 1, 160: 24}.get(request.tokens or 0, request.tokens)
        return await super().reply(evolve(request, tokens=tokens), common)


async def findings(profile: Profile, url: str) -> str:
    """Probe the model server at `url`. Return the entry of `backends`."""
    backend = Backend(evolve(profile, base_url=url, embedded=False))
    completions = await backend.open()
    client = TerseClient("local", completions, timeout=60)
    interview = Interview(client, profile, "smollm2", show_progress=lambda _: None)
    await interview.run()
    await backend.aclose()
    return report("local", {"profile": "embedded"}, profile, interview.findings, whole=False)


def shipped_profile(file: Path) -> Any:
    return read(str(file), {}).sections["backends"]["local"].profile


async def test_the_probe_finds_the_shipped_profile_of_the_embedded_model(
    tmp_path: Path, real: Real, client: anthropic.Anthropic
) -> None:
    client.messages.create(model="claude-any", max_tokens=1, messages=HELLO)  # opens the model
    shipped = shipped_profile(SHIPPED)
    entry = await findings(shipped, f"{await embedded_url(real)}/v1")
    text = SHIPPED.read_text()
    assert LOCAL in text
    (tmp_path / "pipelines.yaml").write_text(text.replace(LOCAL, entry))

    found = shipped_profile(tmp_path / "pipelines.yaml")
    assert evolve(found, profile="embedded") == shipped
    assert "; configured: " not in entry
    assert "# `n_ctx` in /props" in entry
    assert re.search(r"named_tool_choice: false +# ignored: the model responded with text\n", entry)


def test_a_model_that_cannot_be_loaded_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"this is no model")
    entry = f"  local: {{profile: embedded, model_path: {file}}}\n"
    (tmp_path / "pipelines.yaml").write_text(SHIPPED.read_text().replace(LOCAL, entry))
    with contextlib.chdir(tmp_path):
        result = CliRunner(env=ENVIRON).invoke(main, ["probe", "local"])

    assert result.exit_code == 1
    assert not result.stdout
    assert "the embedded llama.cpp cannot be started" in result.stderr
    assert "hint:" in result.stderr
