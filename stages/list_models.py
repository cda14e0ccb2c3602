"""The stage `list-models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from pipeline import Send, Stage, reference, section
from stages.backends.backend import Backend
from stages.backends.config import ModelEntry
from stages.events import Authenticated, HttpResponse, json_response
from stages.exchange import Target
from stages.messages_api.errors import InvalidRequestError, NotFoundError
from stages.profiles.capabilities import capabilities
from stages.routing.allowed_models import AllowedModels, is_pattern
from stages.routing.model_names import ModelNames
from stages.wire.json_codec import encode

_DEFAULT_LIMIT, _MAX_LIMIT = 20, 1000


@frozen
class ListModels(Stage[Authenticated, HttpResponse]):
    """List the entries of `models`, without patterns.

    On a route with `{id}` it describes that model, also if a pattern or the default serves it. If
    the client's key has `models`, it lists only those.
    """

    models: Mapping[str, ModelEntry] = section("models")
    backends: dict[str, Backend] = section("backends")
    default: str | None = reference("models", None, help="the same as `default` of `resolve`")
    _served: ModelNames = field(init=False, repr=False)

    @_served.default
    def _index(self) -> ModelNames:
        return ModelNames(self.models, self.default)

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        name, allowed = event.http.path_params.get("id"), event.exchange.allowed_models
        body = self._page(event.http.query, allowed) if name is None else self._one(name, allowed)
        for part in json_response(encode(body)):
            await forward(part)

    def _names(self, allowed: AllowedModels | None) -> list[str]:
        names = [name for name in self.models if not is_pattern(name)]
        return names if allowed is None else [name for name in names if allowed.allows(name)]

    def _one(self, name: str, allowed: AllowedModels | None) -> dict[str, Any]:
        name = self._served.clean(name)
        if allowed is not None and not allowed.allows(name):
            raise allowed.refusal(name)
        entry = self._served.find(name)
        if entry is None:
            raise NotFoundError(f"model: {name[:200]}")
        return self._info(name, entry)

    def _page(self, query: Any, allowed: AllowedModels | None) -> dict[str, Any]:
        names = self._names(allowed)
        after, before, limit = query.get("after_id"), query.get("before_id"), _limit(query)
        if after and before:
            raise InvalidRequestError("after_id and before_id cannot be given together")
        for cursor in filter(None, (after, before)):
            if cursor not in names:
                raise InvalidRequestError(f"there is no model {cursor[:200]!r} to list from")
        if before:
            rest = names[: names.index(before)]
            shown = rest[-limit:]
        else:
            rest = names[names.index(after) + 1 :] if after else names
            shown = rest[:limit]
        return {
            "data": [self._info(name, self.models[name]) for name in shown],
            "has_more": len(shown) < len(rest),
            "first_id": shown[0] if shown else None,
            "last_id": shown[-1] if shown else None,
        }

    def _info(self, name: str, entry: ModelEntry) -> dict[str, Any]:
        model = entry.targets[0]
        target = Target(model.backend, model.model or name, model.overrides)
        profile = self.backends[model.backend].profile_for(target)
        limits = {"max_input_tokens": profile.context_window} if profile.context_window else {}
        return {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "1970-01-01T00:00:00Z",  # unknown
            "lifecycle": "active",
            "deprecated_at": None,
            "retires_at": None,
            "line": None,
            **limits,
            "capabilities": capabilities(profile),
        }


def _limit(query: Any) -> int:
    text = query.get("limit", str(_DEFAULT_LIMIT))
    if not (len(text) < 5 and text.isascii() and text.isdecimal() and 1 <= int(text) <= _MAX_LIMIT):
        raise InvalidRequestError(f"limit: Input should be between 1 and {_MAX_LIMIT}")
    return int(text)
