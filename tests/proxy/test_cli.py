"""The command line: what it says, where, and how it ends."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve, fields
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from pipeline.config.structuring import make_converter
from proxy import __version__
from proxy.cli import main
from proxy.serve import bind
from stages import REGISTRY
from stages.profiles.describe import profile_named
from stages.profiles.policies import SUPPORTED
from stages.profiles.profile import Profile
from stages.profiles.profile import profiles as shipped
from tests import secrets
from tests.cases import for_each

ROOT = Path(__file__).parents[2]

TEXT = """\
backends:
  here: {profile: ollama}
  unset: {base_url: "${NO_SUCH_HOST}"}
models:
  some: {backend: here}
pipelines:
  models:
    route: [GET /v1/models, GET /v1/other]
    stages: [authenticate, list-models]
"""
BROKEN = TEXT.replace("list-models", "list-model").replace("backend: here", "backend: her")


@pytest.fixture(autouse=True)
def _path() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


def cli(*arguments: str, folder: str | Path = ROOT, **environ: str) -> Result:
    """Run the command in `folder`; standard output and error are kept apart."""
    given = {"LLM_PROXY_CONFIG": None, "PROXY_API_KEY": None, **environ}
    with contextlib.chdir(folder):
        result = CliRunner(env=given).invoke(main, arguments)
    secrets.printed(result.output)
    return result


def write(folder: Path, text: str = TEXT, name: str = "pipelines.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


HELP = """\
Usage: llm-proxy [OPTIONS] COMMAND [ARGS]...

  Speak the Anthropic Messages API to clients, and use any OpenAI-compatible
  backend.

  Without a command it serves. The stages of pipelines.yaml say what happens to
  a request.

  Examples:
    llm-proxy init                         find a model server, write pipelines.yaml
    llm-proxy run -- claude                start Claude Code with a proxy of its own
    llm-proxy                              serve ./pipelines.yaml
    llm-proxy --host 0.0.0.0 --port 9000   serve elsewhere
    llm-proxy check --config my.yaml       report the problems of my.yaml

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
"""


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_shows_how_to_use_it(option: str) -> None:
    result = CliRunner().invoke(main, [option], prog_name="llm-proxy")

    assert result.exit_code == 0
    assert result.stdout.startswith(HELP)
    assert result.stdout.removeprefix(HELP).splitlines() == [
        "  check       Report every problem of the config.",
        "  explain     Show what each stage of a pipeline does to a request.",
        "  init        Find a model server, and write a config for it.",
        "  keys        Make, list and revoke the API keys of clients.",
        "  probe       Find out what a backend supports, and print its profile.",
        "  profiles    List the backend profiles, or print the profile NAME.",
        "  replay      Run recorded exchanges again, and compare the results.",
        "  run         Run COMMAND with a proxy of its own.",
        "  schema      Print a JSON Schema of the config, for editors.",
        "  serve       Serve the pipelines of the config.",
        "  show        Draw the pipelines of the config.",
        "  stages      List the stages with their events and options.",
        "  statusline  Print a status line for Claude Code.",
        "  usage       Print what was used: requests, tokens, backend hours and cost.",
    ]


_INIT = ["--config", "--backend", "--model", "--api-key-env", "--embedded"]


@for_each(
    ("command", "options"),
    [
        ("serve", ["--config", "--host", "--port", "--workers"]),
        ("check", ["--config", "--fix", "--json"]),
        ("stages", ["--config", "--json"]),
        ("profiles", ["--fields", "--json"]),
        ("init", [*_INIT, "--print", "--timeout"]),
        ("run", ["--config", "--model", "--api-key", "--log", "--print"]),
        ("statusline", []),
        ("schema", ["--config"]),
        ("show", ["--config", "--json"]),
        ("explain", ["--config", "--pipeline", "--dry", "--json"]),
        (
            "replay",
            [
                "--config",
                "--against",
                "--pipeline",
                "--limit",
                "--concurrency",
                "--fail-on-difference",
                "--json",
            ],
        ),
        (
            "probe",
            ["--config", "--model", "--url", "--api-key-env", "--all", "--json", "--timeout"],
        ),
    ],
)
def test_each_command_has_help_of_its_own(command: str, options: list[str]) -> None:
    result = cli(command, "--help")

    assert result.exit_code == 0
    assert re.findall(r"^  (--(?!help)[\w-]+)", result.stdout, re.MULTILINE) == options
    assert "Example" in result.stdout or command in ("serve", "check", "stages", "profiles")


def test_defaults_are_in_the_help() -> None:
    text = " ".join(cli("serve", "--help").stdout.split())

    assert "The config file. [default: (LLM_PROXY_CONFIG, or ./pipelines.yaml)]" in text
    assert "Number of worker processes. [default: (as in the config); x>=1]" in text
    assert "Timeout of each request. [default: 60.0; x>=1]" in " ".join(
        cli("probe", "--help").stdout.split()
    )


def test_the_old_name_of_api_key_env_works_and_is_hidden(tmp_path: Path) -> None:
    assert "--key-variable" not in cli("probe", "--help").stdout

    results = [
        cli("probe", "x", "--url", "http://x.invalid", flag, "not a name", folder=tmp_path)
        for flag in ("--key-variable", "--api-key-env")
    ]

    assert [result.exit_code for result in results] == [1, 1]
    assert results[0].output == results[1].output
    assert "takes the name of a variable" in results[0].stderr


def test_the_version_is_printed() -> None:
    assert cli("--version").stdout == f"llm-proxy, version {__version__}\n"


@for_each(
    ("arguments", "words"),
    [
        (["chek"], "No such command 'chek'"),
        (["serve", "--prot", "80"], "No such option"),
        (["--port", "65536"], "65536 is not in the range"),
        (["serve", "--port", "-1"], "-1 is not in the range"),
        (["serve", "--port", "http"], "'http' is not a valid whole number"),
        (["check", "some.yaml"], "Got unexpected extra argument"),
        (["init", "--backend", "http://gpu:8000/v1"], "NAME=URL, such as gpu=http://"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_reported(arguments: list[str], words: str) -> None:
    result = cli(*arguments)

    assert result.exit_code == 2
    assert words in result.stderr


def test_check_prints_the_routes_of_a_valid_config(tmp_path: Path) -> None:
    write(tmp_path)

    result = cli("check", folder=tmp_path)

    assert (result.exit_code, result.stdout) == (
        0,
        "models: GET /v1/models, GET /v1/other\npipelines.yaml is in order\n",
    )
    assert result.stderr == (
        "pipelines.yaml:3:3: note[missing-variable]: `unset` is not used, and cannot be: "
        "the environment variable NO_SUCH_HOST is not set or is empty\n"
        '    3 |   unset: {base_url: "${NO_SUCH_HOST}"}\n'
        "      |   ^\n"
    )


@pytest.mark.parametrize(
    ("text", "count"), [(BROKEN, "2 problems"), ("", "1 problem")], ids=["two", "one"]
)
def test_problems_go_to_standard_error(tmp_path: Path, text: str, count: str) -> None:
    write(tmp_path, text)

    result = cli("check", folder=tmp_path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith(f"\n\n{count}\n")


@pytest.mark.parametrize("arguments", [["serve"], [], ["--port", "0"]], ids=str)
def test_serve_reports_a_broken_config_like_check(tmp_path: Path, arguments: list[str]) -> None:
    write(tmp_path, BROKEN)

    served, checked = cli(*arguments, folder=tmp_path), cli("check", folder=tmp_path)

    assert (served.exit_code, served.stdout) == (1, "")
    assert served.stderr == checked.stderr


def test_the_option_wins_over_the_variable_and_the_default_file(tmp_path: Path) -> None:
    write(tmp_path, "usual: 1")
    given = write(tmp_path, "given: 1", "given.yaml")
    named = write(tmp_path, "named: 1", "named.yaml")

    def read(*arguments: str, **environ: str) -> str:
        return cli("check", *arguments, folder=tmp_path, **environ).stderr.splitlines()[1]

    variable = {"LLM_PROXY_CONFIG": str(named)}
    assert read("--config", str(given), **variable).endswith("| given: 1")
    assert read(**variable).endswith("| named: 1")
    assert read().endswith("| usual: 1")


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    file = write(tmp_path, TEXT.replace("backend: here", "backend: '${BACKEND}'"))
    (tmp_path / ".env").write_text("BACKEND=here\nLLM_PROXY_CONFIG=not-from-here.yaml\n")

    def ends(**environ: str) -> int:
        return cli("check", "--config", str(file), **environ).exit_code

    assert (ends(), ends(BACKEND="nowhere")) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["--host", "0.0.0.0"], [1]),
        (["--host", "192.0.2.1", "--port", "0"], [1]),
    ],
    ids=["all", "another"],
)
def test_serve_refuses_a_public_address_without_keys(
    tmp_path: Path, arguments: list[str], lines: list[int]
) -> None:
    write(tmp_path)

    result = cli("serve", *arguments, folder=tmp_path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"so anybody who reaches {arguments[1]} could use it" in result.stderr
    assert result.stderr.endswith("\n1 problem\n")


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    write(tmp_path)

    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = cli("serve", "--port", str(port), folder=tmp_path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: cannot listen on 127.0.0.1:{port}: ")
    assert "hint: another program uses this port; try `--port 0`" in result.stderr


def test_stages_lists_all_that_are_built_in() -> None:
    result = cli("stages")

    names = re.findall(r"^([a-z-]+): [\w ]+ -> ", result.stdout, re.MULTILINE)
    assert (result.exit_code, names) == (0, list(REGISTRY.builtin))


def test_stages_shows_the_named_ones() -> None:
    result = cli("stages", "invoke", "resolve")

    assert re.findall(r"^(\S+): ", result.stdout, re.MULTILINE) == ["invoke", "resolve"]
    assert "idle_timeout (number; default: 300): longest silence" in result.stdout


def test_stages_reports_an_unknown_name() -> None:
    result = cli("stages", "invok")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == ("Error: there is no stage `invok`\n  hint: did you mean `invoke`?\n")


def test_profiles_lists_all_that_ship() -> None:
    result = cli("profiles")

    assert (result.exit_code, result.stdout.splitlines()) == (0, list(shipped()))
    assert "ollama" in shipped()


@pytest.mark.parametrize("name", shipped())
def test_a_profile_can_be_pasted_into_the_config(tmp_path: Path, name: str) -> None:
    result = cli("profiles", name)

    whole = YAML(typ="safe", pure=True).load(result.stdout)
    assert (result.exit_code, list(whole)) == (0, [name])
    made = make_converter().structure(
        {"base_url": "http://backend.invalid/v1", **shipped()[name], **whole[name]}, Profile
    )
    assert made == evolve(profile_named(name), profile=name)
    left_out = {"base_url", "api_key", "headers", "embedded"}
    assert set(whole[name]) == {each.name for each in fields(Profile)} - left_out
    assert whole[name]["fields"].keys() == SUPPORTED.keys()


def test_the_table_of_fields_has_all_policies() -> None:
    result = cli("profiles", "--fields")

    lines = result.stdout.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert result.exit_code == 0
    assert [row[0].strip("`") for row in rows[2:]] == list(SUPPORTED)
    policies = {each: profile_named(each).fields for each in shipped()}
    for field, usual, rest_of_row in rows[2:]:
        reported = dict.fromkeys(shipped(), usual)
        for policy, names in (each.split(": ") for each in rest_of_row.split("; ") if each):
            reported |= dict.fromkeys(re.findall("`([^`]+)`", names), policy)
        name = field.strip("`")
        assert reported == {each: policies[each][name] for each in shipped()}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("olama", "did you mean `ollama`?"), ("nothing", "use one of: `azure`, `cerebras`")],
)
def test_profiles_reports_an_unknown_name(name: str, hint: str) -> None:
    result = cli("profiles", name)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: there is no profile `{name}`\n  hint: {hint}")


def test_check_prints_json_for_scripts(tmp_path: Path) -> None:
    write(tmp_path)
    good = cli("check", "--json", folder=tmp_path)
    write(tmp_path, BROKEN)
    bad = cli("check", "--json", folder=tmp_path)

    routes = {"models": ["GET /v1/models", "GET /v1/other"]}
    assert (good.exit_code, good.stderr, bad.exit_code, bad.stderr) == (0, "", 1, "")
    result = json.loads(good.stdout)
    assert (result["valid"], result["pipelines"]) == (True, routes)
    assert [(p["severity"], p["code"]) for p in result["problems"]] == [
        ("note", "missing-variable")
    ]
    result = json.loads(bad.stdout)
    errors = [(p["line"], p["hint"]) for p in result["problems"] if p["severity"] == "error"]
    assert (result["valid"], result["pipelines"]) == (False, {})
    assert errors == [(5, "did you mean `here`?"), (9, "did you mean `list-models`?")]


def test_stages_and_profiles_print_json_for_scripts() -> None:
    (queue,) = json.loads(cli("stages", "--json", "queue").stdout)
    names = json.loads(cli("profiles", "--json").stdout)
    profile = json.loads(cli("profiles", "--json", "ollama").stdout)

    assert (queue["accepts"], queue["emits"]) == (["ChatRequest"], ["ChatRequest", "ChatWaiting"])
    assert ["queue_timeout"] in [option["path"] for option in queue["options"]]
    assert names == list(shipped())
    assert (profile["profile"], profile["effort_levels"]) == (
        "ollama",
        ["none", "low", "medium", "high"],
    )
