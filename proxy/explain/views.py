"""Events as JSON, for people: requests, and responses put together from their parts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
from attrs import Factory, define

from stages.chat_completions.chunks import choices_of, reasoning_text
from stages.chat_completions.json_values import as_array, as_object, as_string
from stages.events import (
    Authenticated,
    ChatChunk,
    ChatEvent,
    ChatRequest,
    HttpRequest,
    HttpResponse,
    Resolved,
    ResponseBody,
    ResponseStart,
    Validated,
)
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.request import MessagesRequest
from stages.messages_api.stream_events import StreamEvent

Json = dict[str, Any]

_SECRET_HEADERS = {"authorization", "proxy-authorization", "x-api-key", "cookie"}
_STARS = "***"


def is_response(event: Any) -> bool:
    """Whether an event is a part of a response."""
    return isinstance(event, (ChatEvent, StreamEvent, HttpResponse))


def request_view(event: Any) -> Json:
    """Give an event of a request as JSON. Members that did not change look the same in each."""
    if isinstance(event, HttpRequest):
        headers = {k: _STARS if k in _SECRET_HEADERS else v for k, v in event.headers.items()}
        view: Json = {"method": event.method, "path": event.path, "headers": headers}
        return view | ({"query": dict(event.query)} if event.query else {})
    if isinstance(event, Authenticated):
        return {**request_view(event.http), "client": event.exchange.client}
    if isinstance(event, (Validated, Resolved)):
        view = {**request_view(Authenticated(event.http)), **_plain(event.request)}
        return view | (_target(event) if isinstance(event, Resolved) else {})
    if isinstance(event, ChatRequest):
        chat = {"messages": event.messages, **event.options}
        base = request_view(Authenticated(event.resolved.http))
        return {**base, "model": event.resolved.target.model, **_target(event.resolved), **chat}
    whole = _plain(event)
    return whole if isinstance(whole, dict) else {"event": whole}


def _target(event: Resolved) -> Json:
    target: Json = {"backend": event.target.backend, "model": event.target.model}
    if event.target.overrides:
        target["overrides"] = sorted(event.target.overrides)  # the values may be large
    alternatives = [f"{other.backend}/{other.model}" for other in event.alternatives]
    return {"target": target, **({"alternatives": alternatives} if alternatives else {})}


def _plain(value: Any) -> Any:
    """Give attrs objects as JSON, without members that have their default."""
    if attrs.has(type(value)):
        kind = getattr(value, "type", None)
        members: Json = {} if kind is None else {"type": kind}
        for field in attrs.fields(type(value)):
            visible = field.repr or isinstance(value, MessagesRequest)
            member = getattr(value, field.name)
            if visible and field.name != "exchange" and not _is_default(field, member):
                members[field.name.lstrip("_")] = _plain(member)
        return members
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float)) else repr(value)


def _is_default(field: attrs.Attribute[Any], value: Any) -> bool:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = attrs.NOTHING if default.takes_self else default.factory()
    return bool(default is not attrs.NOTHING and value == default)


@define(eq=False)
class ResponseView:
    """The parts of a response on one arrow, put together."""

    chat: Json = Factory(dict)
    message: MessageBuilder = Factory(MessageBuilder)
    http: Json = Factory(dict)
    complete: bool = False
    """Whether the last part of the HTTP response came."""
    _calls: dict[Any, Json] = Factory(dict)

    def add(self, event: Any) -> None:
        """Add the next part."""
        if isinstance(event, ChatChunk):
            self._add_chunk(event.data)
        elif isinstance(event, StreamEvent):
            self.message.add(event)
        elif isinstance(event, ResponseStart):
            self.http |= {"status": event.status, "headers": dict(event.headers), "bytes": 0}
        elif isinstance(event, ResponseBody):
            self.http["bytes"] = self.http.get("bytes", 0) + len(event.data)
            self.complete = not event.more

    def views(self) -> dict[str, Json]:
        """Give the response, by protocol."""
        views = {"chat": self.chat, "message": self.message.message, "http": self.http}
        return {name: view for name, view in views.items() if view}

    def _add_chunk(self, data: Json) -> None:
        for choice in choices_of(data):
            delta = as_object(choice.get("delta")) or as_object(choice.get("message"))
            for name, text in (
                ("content", as_string(delta.get("content"))),
                ("reasoning", reasoning_text(delta)),
            ):
                if text:
                    self.chat[name] = self.chat.get(name, "") + text
            for n, call in enumerate(map(as_object, as_array(delta.get("tool_calls")))):
                self._add_call(call.get("index", n), as_object(call.get("function")))
            if choice.get("finish_reason"):
                self.chat["finish_reason"] = choice["finish_reason"]
        if data.get("usage"):
            self.chat["usage"] = data["usage"]

    def _add_call(self, index: Any, function: Json) -> None:
        if str(index) not in self._calls:
            self._calls[str(index)] = {"name": "", "arguments": ""}
            self.chat.setdefault("tool_calls", []).append(self._calls[str(index)])
        call = self._calls[str(index)]
        call["name"] = as_string(function.get("name")) or call["name"]
        call["arguments"] += as_string(function.get("arguments")) or ""


def masked(value: Any, secrets: Collection[str]) -> Any:
    """Give JSON with stars in place of each of `secrets`, wherever it is in a text."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _STARS)
        return value
    if isinstance(value, dict):
        return {masked(key, secrets): masked(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, secrets) for item in value]
    return value
