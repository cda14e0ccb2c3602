"""What `llm-proxy probe` prints of backends of several kinds, word for word: in `probes/`.

With GOLDEN_WRITE set the files are written again, to be read in the diff.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from proxy.cli import main
from proxy.config import read
from stages.profiles.profile import Profile
from tests.wire.backend import Received
from tests.wire.personalities import KEY, PERSONAS, Persona, Reply, answer, called, lenient

GOLDEN = Path(__file__).with_name("probes")
TEXT = """\
backends:
  asked:
    base_url: "${BACKEND_URL}/v1"
    api_key: "${BACKEND_KEY}"
  plain: {base_url: "http://user:secret-in-url@127.0.0.1:1/v1", headers: {x-key: secret-header}}
  unset: {base_url: "${NO_SUCH_HOST}"}
models:
  claude-test: {backend: asked, model: some-model}
pipelines:
  models:
    route: GET /v1/models
    stages: [authenticate, list-models]
"""


@frozen
class Probed:
    """A backend on a real socket, and the command that asks it."""

    backend: Persona
    folder: Path

    def environ(self) -> dict[str, str | None]:
        given = {"BACKEND_URL": self.backend.url, "BACKEND_KEY": KEY}
        return {"LLM_PROXY_CONFIG": None, "PROXY_API_KEY": None, **given}

    def probe(self, *arguments: str) -> Result:
        with contextlib.chdir(self.folder):
            return CliRunner(env=self.environ()).invoke(main, ["probe", *arguments])

    def pasted(self, entries: str) -> Profile:
        """The backend `asked` of a config with these entries of `backends`."""
        file = self.folder / "pasted.yaml"
        models = TEXT[TEXT.index("models:") :]
        file.write_text(f"backends:\n{entries}{models}")
        environ = {name: value for name, value in self.environ().items() if value}
        profile: Profile = read(str(file), environ).sections["backends"]["asked"].profile
        return profile


def started(folder: Path, persona: str) -> Iterator[Probed]:
    (folder / "pipelines.yaml").write_text(TEXT)
    backend = Persona(ways=PERSONAS[persona]())
    yield Probed(backend, folder)
    backend.close()


@pytest.fixture
def probed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Probed]:
    yield from started(tmp_path, getattr(request, "param", "lenient"))


def without_ports(text: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)


@pytest.mark.parametrize("probed", PERSONAS, indirect=True)
def test_what_is_printed_of(probed: Probed, request: pytest.FixtureRequest) -> None:
    result = probed.probe("asked")
    reply = f"=== stdout\n{result.stdout}=== stderr, exit {result.exit_code}\n{result.stderr}"
    reply = without_ports(reply)
    file = GOLDEN / f"{request.node.callspec.params['probed']}.txt"
    if "GOLDEN_WRITE" in os.environ:
        file.write_text(reply, encoding="utf-8")

    assert reply == file.read_text(encoding="utf-8")
    assert KEY not in reply
    assert "Traceback" not in reply


@pytest.mark.parametrize("probed", ["lenient", "reasoning"], indirect=True)
def test_json_has_the_findings_with_their_evidence(probed: Probed) -> None:
    text, asked, everything = (
        probed.probe("asked", *way) for way in ((), ("--json",), ("--json", "--all"))
    )
    some, whole = json.loads(asked.stdout), json.loads(everything.stdout)

    assert some["connection"] == {"base_url": "${BACKEND_URL}/v1", "api_key": "${BACKEND_KEY}"}
    assert (some["backend"], some["model"]) == ("asked", "some-model")
    assert f"{some['requests']} requests, {some['output_tokens']} output tokens" in text.stderr
    profile = probed.pasted(text.stdout)
    found = {key: each for key, each in some["findings"].items() if each["found"]}
    assert found
    for key, each in found.items():
        field = key.removeprefix("fields.")
        measured = profile.fields[field] if field != key else getattr(profile, key)
        assert each["value"] == json.loads(json.dumps(measured)), key
        assert each["evidence"]
    asked_keys = {k: each for k, each in whole["findings"].items() if each["evidence"]}
    assert asked_keys.keys() == some["findings"].keys() < whole["findings"].keys()
    assert KEY not in asked.output + everything.output


@pytest.mark.parametrize("probed", ["dies-midway"], indirect=True)
def test_json_has_what_was_found_before_the_backend_died(probed: Probed) -> None:
    result = probed.probe("asked", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["findings"]
    assert "`asked` stopped responding" in result.stderr


@pytest.mark.parametrize("whole", [(), ("--all",)], ids=["differences", "all"])
@pytest.mark.parametrize("probed", ["strict", "lenient", "reasoning", "dies-midway"], indirect=True)
def test_what_is_printed_can_be_pasted(probed: Probed, whole: tuple[str, ...]) -> None:
    result = probed.probe("asked", *whole)

    profile = probed.pasted(result.stdout)

    assert profile.api_key == KEY
    assert profile.base_url == f"{probed.backend.url}/v1"


@pytest.mark.parametrize("probed", ["strict", "lenient", "reasoning"], indirect=True)
def test_all_keys_agree_with_the_differences(probed: Probed) -> None:
    some, everything = (
        probed.pasted(probed.probe("asked", *way).stdout) for way in ((), ("--all",))
    )

    assert some == everything


@pytest.mark.parametrize("probed", ["reasoning"], indirect=True)
def test_the_findings_are_the_profile(probed: Probed) -> None:
    profile = probed.pasted(probed.probe("asked").stdout)

    assert profile.max_tokens_field == "max_completion_tokens"
    assert profile.prefill_options == {
        "add_generation_prompt": False,
        "continue_final_message": True,
    }
    assert profile.effort_levels == ("none", "low", "medium", "high")
    assert profile.reasoning_request == "effort"
    assert profile.reasoning_history == "reasoning_content"
    assert not profile.think_tags
    assert profile.tokenizer == "vllm"
    assert profile.context_window == 40960
    assert profile.fields["thinking"] == profile.fields["top_k"] == "map"


def echoing(request: Received) -> Reply:
    """Like llama.cpp, echo a prefill in an unstreamed response only."""
    body = request.body or {}
    if body.get("messages", [{}])[-1].get("role") != "assistant":
        return lenient(request)
    return answer(f"{'' if body.get('stream') else body['messages'][-1]['content']} 4, 5,")


@pytest.mark.parametrize("profile", ["generic", "llamacpp"])
@pytest.mark.parametrize("arguments", [(), ("--all",)], ids=["differences", "all"])
def test_row_l3_an_echo_of_the_prefill_is_written(
    profile: str, arguments: tuple[str, ...], probed: Probed
) -> None:
    file = probed.folder / "pipelines.yaml"
    file.write_text(TEXT.replace("  asked:\n", f"  asked:\n    profile: {profile}\n"))
    probed.backend.ways = echoing
    pasted = probed.pasted(probed.probe("asked", *arguments).stdout)

    assert (pasted.echoes_prefill, pasted.fields["prefill"]) == (True, "map")


def test_row_l3_a_configured_echo_that_there_is_not_is_corrected(probed: Probed) -> None:
    file = probed.folder / "pipelines.yaml"
    file.write_text(TEXT.replace("  asked:\n", "  asked:\n    echoes_prefill: true\n"))
    probed.backend.ways = lambda r: answer(" 4, 5,") if "[list]" in str(r.body) else lenient(r)

    assert not probed.pasted(probed.probe("asked").stdout).echoes_prefill


def test_a_backend_outside_the_config_is_probed_at_its_url(probed: Probed) -> None:
    url = f"{probed.backend.url}/v1"
    result = probed.probe("asked", "--url", url, "--api-key-env", "BACKEND_KEY")

    assert result.exit_code == 0
    assert probed.backend.request(1).headers["authorization"] == f"Bearer {KEY}"
    assert probed.pasted(result.stdout).api_key == KEY
    assert KEY not in result.output
    (entry,) = YAML(typ="safe").load(result.stdout).values()
    assert entry["base_url"] == url


def test_the_key_may_be_in_the_env_file(probed: Probed) -> None:
    (probed.folder / ".env").write_text("ANOTHER=key-from-the-file\n")
    url = f"{probed.backend.url}/v1"

    assert probed.probe("asked", "--url", url, "--api-key-env", "ANOTHER").exit_code == 0
    assert probed.backend.request().headers["authorization"] == "Bearer key-from-the-file"


def test_the_option_model_is_used(probed: Probed) -> None:
    probed.probe("asked", "--model", "another-model")

    bodies = [r.body for r in probed.backend.requests if r.path == "/v1/chat/completions"]
    assert {body["model"] for body in bodies} == {"another-model"}


def test_a_model_may_be_one_of_several_targets(probed: Probed) -> None:
    targets = "targets: [{backend: plain, model: other}, {backend: asked, model: second}]"
    text = TEXT.replace("backend: asked, model: some-model", targets)
    (probed.folder / "pipelines.yaml").write_text(text)
    probed.probe("asked")

    bodies = [r.body for r in probed.backend.requests if r.path == "/v1/chat/completions"]
    assert {body["model"] for body in bodies} == {"second"}


@pytest.mark.parametrize("probed", ["strict"], indirect=True)
def test_it_costs_little(probed: Probed) -> None:
    probed.probe("asked")

    limits = [(r.body or {}).get("max_tokens", 0) for r in probed.backend.requests]
    assert len(limits) < 70
    assert sum(limits) < 1100


NOWHERE = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["askd"], "there is no backend `askd`", "did you mean `asked`?"),
        (["unset"], "backend `unset` cannot be used", "NO_SUCH_HOST is not set"),
        (["new", "--url", "gpu:8000"], "must be an http", "write it as `http"),
        (["new", "--url", NOWHERE, "--key-variable", "UNSET"], "UNSET is not set", "in `.env`"),
        (["new", "--url", NOWHERE, "--key-variable", "sk-secret"], "takes the name", "as NAME="),
    ],
)
def test_a_backend_that_cannot_be_probed_is_reported_with_a_hint(
    arguments: list[str], message: str, hint: str, probed: Probed
) -> None:
    result = probed.probe(*arguments)

    assert result.exit_code == 1
    assert not result.stdout
    problem, hint_line = result.stderr.strip().splitlines()
    assert message in problem
    assert hint in hint_line
    assert "secret" not in result.output


def test_a_key_variable_goes_with_a_url(probed: Probed) -> None:
    result = probed.probe("asked", "--api-key-env", "BACKEND_KEY")

    assert result.exit_code == 2
    assert "--api-key-env needs --url" in result.stderr


def test_secrets_in_the_config_become_variables(probed: Probed) -> None:
    host = probed.backend.url.removeprefix("http://")
    entry = f"""
  my-own:
    base_url: "http://user:secret-1@{host}/v1"
    api_key: "${{NO_SUCH:-secret-2}}"
    headers: {{x-key: "${{NO_SUCH:-}}secret-3", x-more: "${{BACKEND_KEY}}"}}
"""
    text = TEXT.replace("backends:", f"backends:{entry}", 1)
    (probed.folder / "pipelines.yaml").write_text(text)
    result = probed.probe("my-own")

    assert result.exit_code == 0
    assert "secret" not in result.output
    entry = YAML(typ="safe").load(result.stdout)["my-own"]
    assert entry["base_url"] == "${MY_OWN_BASE_URL}"
    assert entry["api_key"] == "${MY_OWN_API_KEY}"
    assert entry["headers"] == {"x-key": "${MY_OWN_X_KEY}", "x-more": "${BACKEND_KEY}"}


def test_a_password_in_the_url_is_not_printed(probed: Probed) -> None:
    host = probed.backend.url.removeprefix("http://")
    result = probed.probe("new", "--url", f"http://user:secret@{host}/v1")

    assert result.exit_code == 0
    assert "secret" not in result.output


def test_a_silent_backend_is_a_timeout(probed: Probed) -> None:
    reply = lenient(Received(0, "GET", "/v1/models", {}, None))
    probed.backend.ways = lambda r: reply if r.path == "/v1/models" else (0, None)
    result = probed.probe("asked", "--timeout", "1")

    assert result.exit_code == 1
    assert "no response in 1 seconds" in result.stderr


def test_a_web_page_instead_of_responses_is_reported(probed: Probed) -> None:
    probed.backend.ways = lambda _: (200, {"status": "ok"})
    result = probed.probe("asked")

    assert result.exit_code == 1
    assert "200, but not a chat completion" in result.stderr
    assert "hint: check base_url" in result.stderr


def test_a_refused_key_is_reported_before_a_missing_model(probed: Probed) -> None:
    probed.backend.ways = lambda _: (401, {"error": {"message": "no key"}})
    result = probed.probe("new", "--url", f"{probed.backend.url}/v1")

    assert result.exit_code == 1
    assert "no key" in result.stderr
    assert "hint: check `api_key`" in result.stderr


@pytest.mark.parametrize("arguments", [["new", "--url", NOWHERE], ["plain"]])
def test_an_absent_backend_is_reported_with_one_hint(arguments: list[str], probed: Probed) -> None:
    result = probed.probe(*arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: backend `{arguments[0]}`: cannot be reached (Connection refused): "
        "check that it runs, and its `base_url`\n"
    )


def test_a_word_as_the_key_is_not_cut_from_messages(probed: Probed) -> None:
    probed.backend.ways = lambda _: (400, {"error": {"message": "model ollama/x is unknown"}})
    text = TEXT.replace("${BACKEND_KEY}", "ollama")
    (probed.folder / "pipelines.yaml").write_text(text)
    result = probed.probe("asked")

    assert "model ollama/x is unknown" in result.stderr


def test_the_text_of_a_model_cannot_end_a_comment(probed: Probed) -> None:
    reply = called("x\n    base_url: http://evil.invalid")
    probed.backend.ways = lambda r: reply if r.path.endswith("completions") else lenient(r)
    profile = probed.pasted(probed.probe("asked", "--all").stdout)

    assert profile.base_url == f"{probed.backend.url}/v1"


def test_of_several_models_one_has_to_be_named(probed: Probed) -> None:
    probed.backend.ways = lambda _: (200, {"data": [{"id": "one"}, {"id": "two"}]})
    result = probed.probe("new", "--url", f"{probed.backend.url}/v1")

    assert result.exit_code == 1
    assert "hint: name one with `--model`: one, two" in result.stderr
