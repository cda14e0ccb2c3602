"""`llm-proxy probe` against a server, each line that it prints compared with truths.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.live.environment import SetupError, run
from tests.live.judging import Result, compare
from tests.live.process import Running
from tests.live.proxy import COMMAND, config, environ

#: Seconds the whole of a probe may take.
_LIMIT = 900.0
_PASSES = "probe: a config with it passes `check`"
_UNFOUND = ("# undetermined", "# as configured")


def probe(server: Running, model: str, folder: Path) -> str:
    """The output of the probe for a server without a config. Raises SetupError."""
    entry, reported = folder / "probed.yaml", server.place.folder / "probe.log"
    script = 'exec "$@" > "$0"'  # the entry goes to stdout, the progress to stderr
    asked = ["probe", "probed", "--url", f"{server.url}/v1", "--api-key-env", "LIVE_KEY"]
    command = [COMMAND, *asked, "--model", model, "--all", "--timeout", "120"]
    reported.write_bytes(b"")
    run("probe", ["sh", "-c", script, str(entry), *command], reported, _LIMIT, environ())
    return entry.read_text()


def found(entry: str) -> dict[str, Any]:
    """The keys of an entry that the probe has found out, `fields.NAME` for policies."""
    lines = [line for line in entry.splitlines() if not any(mark in line for mark in _UNFOUND)]
    [profile] = YAML(typ="safe", pure=True).load("\n".join(lines)).values()
    known = flat(profile)
    return {key: value for key, value in known.items() if key not in ("base_url", "api_key")}


def flat(profile: dict[str, Any]) -> dict[str, Any]:
    """A profile with its policies as `fields.NAME`."""
    fields = profile.get("fields") or {}
    keys = {key: value for key, value in profile.items() if key != "fields"}
    return {**keys, **{f"fields.{name}": policy for name, policy in fields.items()}}


def results(server: Running, entry: str) -> list[Result]:
    """Each line that claims something, next to what is true."""
    truths = YAML(typ="safe", pure=True).load(Path(__file__).with_name("truths.yaml"))
    return compare(found(entry), flat(truths[server.server.name]))


def checked(server: Running, model: str, entry: str, file: Path) -> Result:
    """Whether a config with the entry passes `llm-proxy check`; the config is in `file` then."""
    file.write_text(config(server.server, model, server.url, entry))
    command = [COMMAND, "check", "--config", str(file)]
    try:
        run("check a config with it", command, server.place.folder / "check.log", 60, environ())
    except SetupError as problem:
        return Result(_PASSES, "yes", str(problem))
    return Result(_PASSES, "yes", "yes")
