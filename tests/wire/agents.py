"""What tests of agents share: the official SDK as a client, and loops of requests.

A loop is five requests of one conversation. It has a wish for thinking, a mode, and a model for
each request.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import anthropic
from attrs import frozen

#: What a client requests about thinking.
WISHES: dict[str, dict[str, Any]] = {
    "on": {"thinking": {"type": "enabled", "budget_tokens": 2000}},
    "off": {"thinking": {"type": "disabled"}},
    "unasked": {},
}


def sdk(url: str) -> anthropic.Anthropic:
    """A client of the proxy at `url`. It does not retry."""
    return anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0)


def create(client: anthropic.Anthropic, stream: bool, request: Any) -> anthropic.types.Message:
    """Send a request. Return the response, accumulated by the SDK if it is a stream."""
    if not stream:
        message: anthropic.types.Message = client.messages.create(**request)
        return message
    with client.messages.stream(**request) as events:
        return events.get_final_message()


def config_for(backends: Mapping[str, str], models: Mapping[str, str]) -> str:
    """A config with these backends, as YAML by name, and one model on each of them."""
    entries = "".join(f"  {name}: {{{options}}}\n" for name, options in backends.items())
    targets = "".join(
        f'  {name}: {{backend: {name}, model: "{model}"}}\n' for name, model in models.items()
    )
    return f"""
backends:
{entries}models:
{targets}pipelines:
  messages:
    route: POST /v1/messages
    stages: [authenticate, validate, resolve, translate-in, invoke, translate-out, stream-encode]
"""


@frozen
class Loop:
    """The requests of one conversation. `models` has the model of each request."""

    wish: str
    stream: bool
    models: list[str]


def loops(names: Sequence[str], name: str) -> list[Loop]:
    """Six loops for the model `name` of `names`: each wish in both modes. Half change the model."""
    n = names.index(name)
    result = []
    for k, (wish, stream) in enumerate(itertools.product(WISHES, (False, True))):
        changes = (n + k // 2 + stream) % 2
        other = names[(n + 1 + k) % len(names)] if changes else name
        result.append(Loop(wish, stream, [name, name, other, other, name]))
    return result
