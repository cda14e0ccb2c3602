"""The text of a new config, and the entries for an existing one."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from pipeline.config.edit import add_entry, line_of
from proxy.init.discovery import Facts, ModelServer
from proxy.probe.report import scalar
from stages.profiles.profile import profiles
from stages.routing.allowed_models import is_pattern

#: The names that Claude Code and most clients of the Messages API ask for.
CLIENT_MODELS = "claude-*"

_TEMPLATE = """\
{schema}# A request goes through the stages of its pipeline, in their order.
# `llm-proxy check` reports the problems of this file; `llm-proxy stages` lists the stages.
# ${{NAME}} and ${{NAME:-default}} come from the environment, or from a `.env` next to this file.

server: {{host: 127.0.0.1, port: {port}}}

# The servers that have the models. `llm-proxy profiles` lists the profiles.
backends:
  {backend}

# The names that clients use, exact or as a pattern, and the backend and model for each.
models:
  {models}

# Keys of clients with names, models and expiry: `llm-proxy keys new NAME` adds the section `keys`.

pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate              # {{keys: [...]}}; default: the key is PROXY_API_KEY
      - account                   # records usage in usage.db; see `llm-proxy usage`
      - validate
      - resolve
      - fallback                  # tries a model's next target; see also `retry`
      - translate-in
      - queue                     # for backends with `max_concurrent_calls`
      - invoke: {{idle_timeout: 300}}
      - translate-out
      - stream-encode
      # For limits of keys, models and sessions add `limit` after `resolve`, and a section `limits`.
      # For weak models add `extract-reasoning` before `invoke`, and `repair-tools` after it. With
      # `repair-tools`, the arguments of a tool call arrive only when they are complete.

  count-tokens:
    route: POST /v1/messages/count_tokens
    stages:
      - authenticate
      - validate: {{endpoint: count-tokens}}
      - resolve
      - fallback
      - translate-in
      - count-tokens

  models:
    route: [GET /v1/models, "GET /v1/models/{{id:path}}"]
    stages:
      - authenticate
      - list-models

  metrics:                        # for Prometheus
    route: GET /metrics
    stages:
      - authenticate
      - metrics

  ui:                             # a page for people, at http://127.0.0.1:{port}/ui
    route: [GET /ui, "GET /ui/{{path:path}}"]
    stages:
      - authenticate: {{basic: true}}   # a browser asks for the key
      - ui
"""
_SCHEMA = "# yaml-language-server: $schema=pipelines.schema.json\n"


@frozen
class Choice:
    """A backend and one of its models. `profile: embedded` has no `base_url`.

    `written_url` is the `base_url` for the config, with variables in it; default: `base_url`.
    """

    name: str
    profile: str
    base_url: str = ""
    api_key_env: str = ""
    model: str = ""
    facts: Facts = Facts()
    other_models: bool = False
    """Whether the backend has more models, so that its window is that of one of them."""
    written_url: str = ""

    @classmethod
    def of(cls, server: ModelServer, model: str, facts: Facts) -> Choice:
        """Give the choice of a model of a server."""
        address, others = server.address, len(server.models) > 1
        connection = (server.name, server.profile, address.base_url, address.api_key_env)
        return cls(*connection, model, facts, others, address.written_url)

    @property
    def backend(self) -> dict[str, Any]:
        """The entry of `backends`, without what its profile says already."""
        shipped = profiles()[self.profile]
        entry: dict[str, Any] = {"profile": self.profile}
        if self.base_url and self.base_url != shipped.get("base_url"):
            entry["base_url"] = self.written_url or self.base_url.replace("${", "$${")
        if self.api_key_env:
            entry["api_key"] = f"${{{self.api_key_env}}}"
        window = {"context_window": self.facts.context_window}
        if self.facts.context_window:
            entry |= {"models": {self.model: window}} if self.other_models else window
        if self.facts.max_concurrent_calls:
            entry["max_concurrent_calls"] = self.facts.max_concurrent_calls
        return entry

    @property
    def backend_comment(self) -> str:
        """What a reader of the entry has to know."""
        if self.facts.context_window:
            return "as the server reports it"
        if self.profile == "ollama":
            return "add context_window: Ollama reports it while the model is loaded"
        return ""

    def entries(self, new_backend: bool = True) -> dict[str, str]:
        """The entries of `models`, by name. The model's own name is one, unless it is a pattern.

        If the backend is not new, the entries have the window, because the backend may have others.
        """
        target: dict[str, Any] = {"backend": self.name}
        if self.facts.context_window and not new_backend:
            target["overrides"] = {"context_window": self.facts.context_window}
        entries = {CLIENT_MODELS: _literal({"backend": self.name, "model": self.model, **target})}
        if not is_pattern(self.model):
            entries[self.model] = scalar(target)
        return entries


def new_config(choice: Choice, with_schema: bool) -> str:
    """Give the text of a new config with one backend. `with_schema`: an editor's line is first."""
    comment = f"  # {choice.backend_comment}" if choice.backend_comment else ""
    return _TEMPLATE.format(
        schema=_SCHEMA if with_schema else "",
        port=8081 if ":8080/" in choice.base_url else 8080,
        backend=f"{scalar(choice.name)}: {scalar(choice.backend)}{comment}",
        models="\n  ".join(f"{_literal(k)}: {value}" for k, value in choice.entries().items()),
    )


@frozen
class Addition:
    """An edited config. `added` and `unchanged` are for people: what is new, what was there."""

    text: str
    added: tuple[str, ...]
    unchanged: tuple[str, ...]


def extend(text: str, choice: Choice) -> Addition:
    """Add a choice to the text of a config. Raises EditError.

    An entry that is there already is not changed.
    """
    added, unchanged = [], []
    new = not line_of(text, "backends", choice.name)
    rows = [("backends", choice.name, scalar(choice.backend), choice.backend_comment)]
    rows += [("models", name, value, "") for name, value in choice.entries(new).items()]
    for section, name, value, comment in rows:
        if line := line_of(text, section, name):
            unchanged.append(f"`{name}` of `{section}` was there already (line {line})")
        else:
            text = add_entry(text, section, _literal(name), value, comment)
            added.append(f"`{name}` to `{section}`")
    return Addition(text, tuple(added), tuple(unchanged))


def _literal(value: Any) -> str:
    return scalar(value).replace("${", "$${")
