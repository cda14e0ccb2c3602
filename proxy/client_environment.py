"""The environment of a client that `llm-proxy run` starts.

The Anthropic SDKs and Claude Code read ANTHROPIC_BASE_URL and ANTHROPIC_AUTH_TOKEN. For Claude Code
there is more, from its pages "LLM gateway" and "Environment variables", seen in 2.1.197:

- ANTHROPIC_API_KEY is removed. In a terminal Claude Code asks whether to use it, and writes a part
  of it to its files.
- CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC would turn off telemetry, and the list of the gateway's
  models, too. So the parts of it are set one by one.
- CLAUDE_CODE_ATTRIBUTION_HEADER=0 omits a part of the system prompt that is for Anthropic's API.
- CLAUDE_CODE_AUTO_COMPACT_WINDOW is for names `claude-…` and counts as at least 100,000 tokens;
  CLAUDE_CODE_MAX_CONTEXT_TOKENS is for other names.
- `env` in its settings files replaces these variables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from pipeline.config.schema import Config
from stages.backends.backend import Backend
from stages.exchange import Target
from stages.routing.model_names import ModelNames

#: Set, unless the user has set them.
_SWITCHES = {
    "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
    "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
}
#: Removed: other credentials, and what makes Claude Code use another API than the Messages API.
_REMOVED = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_GATEWAY",
    "CLAUDE_CODE_USE_VERTEX",
)
_ADDRESS = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN")
#: The names by which Claude Code's main loop, its sub-agents and its background calls ask.
_MODEL_VARIABLES = (
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
)
#: A name that Claude Code may ask for, if it is not configured.
_CLIENT_MODEL = "claude-"


@frozen
class Changes:
    """The variables to set, and the names of those to remove."""

    added: Mapping[str, str]
    removed: tuple[str, ...]

    def apply(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Give the changed environment."""
        kept = {name: value for name, value in environ.items() if name not in self.removed}
        return {**kept, **self.added}


def changes(
    config: Config,
    url: str,
    key: str,
    environ: Mapping[str, str],
    model: str | None = None,
    with_api_key: bool = False,
) -> Changes:
    """Give the changes for a client of the proxy at `url`.

    `model`: the client asks for this name. `with_api_key`: set ANTHROPIC_API_KEY, too, for clients
    that read only this.
    """
    added = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": key}
    if with_api_key:
        added["ANTHROPIC_API_KEY"] = key
    if model:
        added |= dict.fromkeys(_MODEL_VARIABLES, model)
    optional = dict(_SWITCHES)
    if tokens := window(config, model or environ.get("ANTHROPIC_MODEL") or _CLIENT_MODEL):
        optional["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] = str(tokens)
        optional["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(tokens)
    added |= {name: value for name, value in optional.items() if name not in environ}
    added |= _without_http_proxy(environ)
    removed = tuple(name for name in _REMOVED if name in environ and name not in added)
    return Changes(added, removed)


def window(config: Config, name: str) -> int | None:
    """Give the smallest context window of the targets for the model `name`, if all have one."""
    names = ModelNames(config.sections["models"])
    name = names.clean(name)
    entry = names.find(name)
    targets = [
        Target(target.backend, target.model or name, target.overrides)
        for target in (entry.targets if entry else ())
    ]
    backends: Mapping[str, Backend] = config.sections["backends"]
    windows = [backends[t.backend].profile_for(t).context_window for t in targets]
    return min((tokens for tokens in windows if tokens), default=None) if all(windows) else None


def conflicts(command: Sequence[str], environ: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Yield what in Claude Code's settings would replace the variables, with its file."""
    if not Path(command[0]).name.startswith("claude"):
        return
    own = Path(environ.get("CLAUDE_CONFIG_DIR") or Path(environ.get("HOME", "/")) / ".claude")
    project = folder / ".claude"
    names = ("settings.json", "settings.local.json")
    for file in dict.fromkeys((own / names[0], *(project / name for name in names))):
        variables = _read(file).get("env")
        present = variables if isinstance(variables, dict) else {}
        yield from (f"`{name}` in {file}" for name in (*_ADDRESS, *_REMOVED) if name in present)


def _read(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _without_http_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """Exclude loopback from the HTTP proxy of the environment, if there is one."""
    lower = {name.lower() for name, value in environ.items() if value}
    if not lower & {"http_proxy", "all_proxy"}:
        return {}
    existing = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = ",".join(dict.fromkeys([*filter(None, existing.split(",")), "127.0.0.1"]))
    return {"NO_PROXY": hosts, "no_proxy": hosts}
