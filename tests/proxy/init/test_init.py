"""`llm-proxy init` in an empty folder, with fake model servers on real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import jsonschema_rs
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from proxy.cli import main
from proxy.config import read
from proxy.init.discovery import USUAL_ADDRESSES
from stages.profiles.profile import profiles
from tests.proxy.model_servers import ModelServer, llamacpp, model_server, models, ollama, vllm
from tests.test_readme import SHIPPED

COMMAND = str(Path(sys.executable).with_name("llm-proxy"))
NOBODY = "http://127.0.0.1:1/v1"


@pytest.fixture
def two_models() -> Iterator[ModelServer]:
    with model_server(ollama("llama3.2:latest", "qwen3:8b", loaded={"qwen3:8b": 40960})) as fake:
        yield fake


def init(folder: Path, *arguments: str, **servers: str) -> Result:
    """Run `llm-proxy init` in `folder`; nothing is at the usual addresses except `servers`."""
    at = {**dict.fromkeys(USUAL_ADDRESSES, NOBODY), **servers}
    usual = [f"--usual-address={name}={url}" for name, url in at.items()]
    with contextlib.chdir(folder):
        env = {"LLM_PROXY_CONFIG": None, "PROXY_API_KEY": None}
        return CliRunner(env=env).invoke(main, ["init", *usual, *arguments])


def config_of(folder: Path) -> str:
    return (folder / "pipelines.yaml").read_text()


def test_a_new_config_has_what_the_server_reports(tmp_path: Path) -> None:
    with model_server(llamacpp("qwen3-8b", window=16384, slots=4)) as fake:
        result = init(tmp_path, llamacpp=f"{fake.root}/v1")

    assert result.exit_code == 0, result.output
    assert f"llamacpp  {fake.root}/v1  llamacpp, 1 model\n" in result.stderr
    assert result.stderr.count("nothing responds") == 4
    assert result.stdout == (
        "wrote pipelines.yaml: claude-* goes to qwen3-8b of llamacpp\n"
        "wrote pipelines.schema.json: editors complete and check the config with it\n\nnext:\n"
        "  llm-proxy run --model qwen3-8b -- claude   start Claude Code with this proxy\n"
        "  llm-proxy serve                            serve, and print how to use it\n"
    )
    config = read(str(tmp_path / "pipelines.yaml"), {})
    backend = config.sections["backends"]["llamacpp"].profile
    assert (backend.context_window, backend.max_concurrent_calls) == (16384, 4)
    assert backend.base_url == f"{fake.root}/v1"
    targets = {name: entry.targets[0] for name, entry in config.sections["models"].items()}
    assert {name: (t.backend, t.model) for name, t in targets.items()} == {
        "claude-*": ("llamacpp", "qwen3-8b"),
        "qwen3-8b": ("llamacpp", None),
    }
    assert not config.notes


def test_the_chain_of_a_new_config_is_the_shipped_one(tmp_path: Path) -> None:
    with model_server(vllm("m", window=32768)) as fake:
        init(tmp_path, vllm=f"{fake.root}/v1")

    assert config_of(tmp_path).partition("\npipelines:")[2] == SHIPPED.partition("\npipelines:")[2]


def test_the_proxy_gets_another_port_if_the_server_has_its_own(tmp_path: Path) -> None:
    from proxy.init.new_config import Choice, new_config

    choice = Choice("llamacpp", "llamacpp", USUAL_ADDRESSES["llamacpp"], model="m")

    assert "port: 8081}" in new_config(choice, with_schema=False)


SCHEMA = "pipelines.schema.json"


def names_schema(folder: Path) -> bool:
    return config_of(folder).startswith(f"# yaml-language-server: $schema={SCHEMA}\n")


def test_an_editor_finds_the_schema_that_the_config_names(
    tmp_path: Path, two_models: ModelServer
) -> None:
    init(tmp_path, "--yes", ollama=f"{two_models.root}/v1")

    assert names_schema(tmp_path)
    printed = CliRunner().invoke(main, ["schema"]).output
    assert (tmp_path / SCHEMA).read_text() == printed
    schema = jsonschema_rs.validator_for(json.loads(printed))
    assert schema.is_valid(YAML(typ="safe").load(config_of(tmp_path)))


@pytest.mark.parametrize(
    "text", ["mine", "[]", '{"title": "mine"}', "{}"], ids=["text", "list", "schema", "empty"]
)
def test_a_foreign_file_is_not_overwritten_and_not_named(
    tmp_path: Path, two_models: ModelServer, text: str
) -> None:
    (tmp_path / SCHEMA).write_text(text)

    result = init(tmp_path, "--yes", ollama=f"{two_models.root}/v1")

    assert result.exit_code == 0, result.output
    assert (tmp_path / SCHEMA).read_text() == text
    assert not names_schema(tmp_path)
    assert "unchanged: pipelines.schema.json is no schema of a config" in result.stdout


def test_an_older_schema_stays_and_is_named(tmp_path: Path, two_models: ModelServer) -> None:
    older = '{"title": "the config of llm-proxy", "type": "object"}'
    (tmp_path / SCHEMA).write_text(older)

    result = init(tmp_path, "--yes", ollama=f"{two_models.root}/v1")

    assert (tmp_path / SCHEMA).read_text() == older
    assert names_schema(tmp_path)
    assert "`llm-proxy schema > pipelines.schema.json` updates it" in result.stdout


def test_the_schema_is_next_to_the_config(tmp_path: Path, two_models: ModelServer) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()

    init(tmp_path, "--yes", "--config", "conf/my.yaml", ollama=f"{two_models.root}/v1")

    assert sorted(each.name for each in folder.iterdir()) == ["my.yaml", SCHEMA]


def test_print_writes_no_file(tmp_path: Path, two_models: ModelServer) -> None:
    result = init(tmp_path, "--yes", "--print", ollama=f"{two_models.root}/v1")

    assert (result.exit_code, list(tmp_path.iterdir())) == (0, [])
    init(tmp_path, "--yes", ollama=f"{two_models.root}/v1")
    assert result.stdout == config_of(tmp_path)


def test_print_of_an_existing_config_prints_the_addition(
    tmp_path: Path, two_models: ModelServer
) -> None:
    (tmp_path / "pipelines.yaml").write_text(OWN)

    result = init(tmp_path, "--yes", "--print", ollama=f"{two_models.root}/v1")

    assert config_of(tmp_path) == OWN
    init(tmp_path, "--yes", ollama=f"{two_models.root}/v1")
    assert result.stdout == config_of(tmp_path) != OWN
    assert [each.name for each in tmp_path.iterdir()] == ["pipelines.yaml"]


def test_several_models_need_a_choice(tmp_path: Path, two_models: ModelServer) -> None:
    result = init(tmp_path, ollama=f"{two_models.root}/v1")

    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "with --model, or the first with --yes: llama3.2:latest, qwen3:8b" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "model"),
    [(["--yes"], "llama3.2:latest"), (["--model", "qwen3:8b"], "qwen3:8b")],
    ids=["yes", "model"],
)
def test_options_choose(
    tmp_path: Path, two_models: ModelServer, arguments: list[str], model: str
) -> None:
    result = init(tmp_path, *arguments, ollama=f"{two_models.root}/v1")

    assert result.exit_code == 0, result.output
    entry = read(str(tmp_path / "pipelines.yaml"), {}).sections["models"]["claude-*"]
    assert entry.model == model


def test_the_window_of_one_of_several_models_is_that_models(
    tmp_path: Path, two_models: ModelServer
) -> None:
    init(tmp_path, "--model", "qwen3:8b", ollama=f"{two_models.root}/v1")

    profile = read(str(tmp_path / "pipelines.yaml"), {}).sections["backends"]["ollama"].profile
    assert (profile.context_window, profile.models["qwen3:8b"]) == (None, {"context_window": 40960})


def test_a_model_that_no_server_has_is_reported(tmp_path: Path, two_models: ModelServer) -> None:
    result = init(tmp_path, "--model", "mistral", ollama=f"{two_models.root}/v1")

    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "no server has the model mistral\n  hint: these are there: llama3.2" in result.stderr


OWN = """\
# mine
backends:
  a: {profile: vllm}   # the first

models:
  "claude-*": {backend: a, model: x}   # keep this

pipelines:
  one: {route: GET /v1/models, stages: [authenticate, list-models]}
"""


def test_a_config_is_extended_and_the_rest_kept(tmp_path: Path, two_models: ModelServer) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(OWN)
    file.chmod(0o640)

    result = init(tmp_path, "--model", "llama3.2:latest", ollama=f"{two_models.root}/v1")

    assert result.exit_code == 0, result.output
    added = f'  ollama: {{profile: ollama, base_url: "{two_models.root}/v1"}}'
    comment = "  # add context_window: Ollama reports it while the model is loaded\n"
    assert file.read_text() == OWN.replace(
        "# the first\n", f"# the first\n{added}{comment}"
    ).replace("# keep this\n", '# keep this\n  "llama3.2:latest": {backend: ollama}\n')
    assert file.stat().st_mode & 0o777 == 0o640
    assert "unchanged: `claude-*` of `models` was there already (line 7)" in result.stdout

    again = init(tmp_path, "--model", "qwen3:8b", ollama=f"{two_models.root}/v1")

    assert "unchanged: `ollama` of `backends` was there already (line 4)" in again.stdout
    override = '  "qwen3:8b": {backend: ollama, overrides: {context_window: 40960}}\n'
    assert override in file.read_text()


def test_a_backend_with_the_name_of_another_server_stays(tmp_path: Path) -> None:
    (tmp_path / "pipelines.yaml").write_text(
        OWN.replace("  a:", "  vllm:").replace(": a,", ": vllm,")
    )
    with model_server(vllm("m", window=32768)) as fake:
        result = init(tmp_path, vllm=f"{fake.root}/v1")

    assert result.exit_code == 0, result.output
    assert "m: {backend: vllm-2}" in config_of(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OWN.replace("list-models", "list-model"), "there is no stage `list-model`"),
        ("", "the file is empty"),
    ],
    ids=["broken", "empty"],
)
def test_a_broken_config_is_not_touched(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pipelines.yaml").write_text(text)

    result = init(tmp_path, "--embedded")

    assert (result.exit_code, config_of(tmp_path)) == (1, text)
    assert words in result.stderr


def test_nothing_is_found(tmp_path: Path) -> None:
    result = init(tmp_path)

    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "no model server responds\n  hint: start a model server" in result.stderr


# The extra `embedded` has no wheels for some platforms; there the command must work without it.
@pytest.mark.skipif(not find_spec("xllamacpp"), reason="the embedded model is not installed")
@pytest.mark.parametrize("option", ["--yes", "--embedded"])
def test_the_embedded_model_takes_the_place_of_a_server(tmp_path: Path, option: str) -> None:
    result = init(tmp_path, option)

    assert result.exit_code == 0, result.output
    config = read(str(tmp_path / "pipelines.yaml"), {})
    assert config.sections["backends"]["local"].profile.embedded
    assert "looking" in result.stderr or option == "--embedded"

    again = init(tmp_path, "--embedded")

    assert (again.exit_code, "added" in again.stdout) == (0, False)


@pytest.mark.parametrize("options", [(), ("--yes",)], ids=["", "yes"])
def test_a_named_server_without_models_is_not_replaced(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("GPU_PASSWORD=s3cret\n")
    address = "gpu=http://user:${GPU_PASSWORD}@127.0.0.1:1/v1"
    result = init(tmp_path, "--backend", address, *options)

    assert (result.exit_code, [file.name for file in tmp_path.iterdir()]) == (1, [".env"])
    assert "no model is found at the backend `gpu`\n  hint: check its address" in result.stderr
    assert "s3cret" not in result.output


def test_servers_that_are_not_model_servers_are_skipped(tmp_path: Path) -> None:
    anthropic = {"/v1/models": {"data": [{"id": "m"}], "first_id": "m", "has_more": False}}
    with (
        model_server(anthropic) as proxy,
        model_server({"/v1/models": {"hello": 1}}) as other,
        model_server(ollama()) as empty,
    ):
        roots = {"vllm": proxy.root, "sglang": other.root, "ollama": empty.root}
        result = init(tmp_path, **{name: f"{root}/v1" for name, root in roots.items()})

    assert result.exit_code == 1
    for words in ("such as this proxy's", "not a list of models", "it has no models"):
        assert words in result.stderr


@pytest.mark.parametrize(
    ("responses", "profile"),
    [
        ({"/v1/models": models("m", owned_by="sglang")}, "sglang"),
        ({"/v1/models": models("m"), "/api/v0/models": models("m")}, "lmstudio"),
        ({"/v1/models": models("m", owned_by="me")}, "generic"),
    ],
    ids=["sglang", "lmstudio", "generic"],
)
def test_a_named_server_is_recognised(tmp_path: Path, responses: object, profile: str) -> None:
    assert isinstance(responses, dict)
    with model_server(responses) as fake:
        result = init(tmp_path, "--backend", f"gpu={fake.root}")  # without `/v1`

    assert result.exit_code == 0, result.output
    assert f'gpu: {{profile: {profile}, base_url: "{fake.root}/v1"}}' in config_of(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--backend", "unknown"],
        ["--backend", "gpu=gpu:8000"],
        ["--backend", "gpu=http://"],
        ["--backend", "gpu=http://gpu:8000/v1/chat/completions"],
        ["--api-key-env", "KEY"],
        ["--backend", "vllm", "--api-key-env", "NO_SUCH_KEY"],
        ["--embedded", "--model", "m"],
    ],
    ids=str,
)
def test_wrong_options_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    assert init(tmp_path, *arguments).exit_code == 2


def test_the_key_of_a_named_server_may_be_in_the_file_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GPU_KEY=s3cret\n")
    with model_server(vllm("m", window=32768)) as fake:
        result = init(tmp_path, "--backend", f"gpu={fake.root}/v1", "--api-key-env", "GPU_KEY")

    assert result.exit_code == 0, result.output
    assert 'api_key: "${GPU_KEY}"' in config_of(tmp_path)


def test_a_file_env_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff")
    assert "error[file-unreadable]" in init(tmp_path, "--backend", "ollama").stderr


def test_the_usual_addresses_are_those_of_the_profiles() -> None:
    shipped = {name: profiles()[name].get("base_url") for name in USUAL_ADDRESSES}

    assert shipped == {**USUAL_ADDRESSES, "llamacpp": None}


def test_a_person_at_a_terminal_is_asked(tmp_path: Path, two_models: ModelServer) -> None:
    """The installed command; nothing else may be at the usual addresses of this machine."""
    usual = [f"--usual-address={name}={NOBODY}" for name in USUAL_ADDRESSES if name != "ollama"]
    ours, theirs = pty.openpty()
    os.write(ours, b"2\n")
    ended = subprocess.run(
        [COMMAND, "init", f"--usual-address=ollama={two_models.root}/v1", *usual],
        cwd=tmp_path,
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(ours)
    os.close(theirs)

    assert ended.returncode == 0, ended.stderr
    assert "   1  llama3.2:latest  (ollama)\n   2  qwen3:8b  (ollama)\n" in ended.stderr
    assert '"claude-*": {backend: ollama, model: "qwen3:8b"}' in config_of(tmp_path)
