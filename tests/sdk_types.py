"""Compares what the proxy sends with recorded responses of the API and the official SDK's types.

The recordings decide which members there are; see recorded.py. The SDK's types are the second
oracle: they know all values of a member, and have to accept what the recordings have.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from anthropic.types import (
    Message,
    MessageTokensCount,
    ModelCapabilities,
    ModelInfo,
    RawMessageStreamEvent,
)
from anthropic.types.beta import BetaMessage, BetaModelInfo, BetaRawMessageStreamEvent
from anthropic.types.shared.error_details import ErrorDetails
from anthropic.types.shared.error_response import ErrorResponse
from pydantic import BaseModel

from tests.recorded import unrecorded

#: In the API's table of errors, and the SDK has classes for them, but no types of their bodies.
_UNTYPED_ERRORS = ("conflict_error", "request_too_large", "teapot_error")


def check_sent(value: Any) -> None:
    """Raise AssertionError where a JSON value is no body or event of the Messages API."""
    matches = [*unrecorded(value), *_problems_of(value)]
    assert not matches, "\n".join(matches)


def _problems_of(value: Any) -> Iterator[str]:
    kind = value.get("type")
    if kind == "ping":  # the SDK drops it before it has a type
        return
    if kind == "error":
        yield from _error_problems(value)
    elif kind == "message":
        yield from problems(value, Message)
        yield from problems(value, BetaMessage)
    elif kind == "model":
        yield from problems(value, ModelInfo)
        yield from problems(value, BetaModelInfo)
        yield from problems(value["capabilities"], ModelCapabilities, whole=True)
    elif kind is not None:
        yield from problems(value, RawMessageStreamEvent)
        yield from problems(value, BetaRawMessageStreamEvent)
    elif "data" in value:  # a page; its class in the SDK is generic, and says no more
        for item in value["data"]:
            yield from _problems_of(item)
    else:
        yield from problems(value, MessageTokensCount)


def _error_problems(value: Any) -> Iterator[str]:
    error = dict(value["error"])
    if "details" in error:  # read by the SDK, though not in its type of an error
        details = error.pop("details")
        if "error_code" in details:
            yield from problems(details, ErrorDetails, "error.details")
    if error["type"] in _UNTYPED_ERRORS:
        error["type"] = "api_error"
    yield from problems({**value, "error": error}, ErrorResponse)


def problems(value: Any, kind: Any, place: str = "", *, whole: bool = False) -> Iterator[str]:
    """Where `value` is not of the SDK's type `kind`. `whole`: optional members are wanted too."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from problems(value, get_args(kind)[0], place, whole=whole)
    elif origin in (Union, types.UnionType):
        yield from _in_union(value, list(_members(kind)), place, whole)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from _in_model(value, kind, place, whole)
    elif origin is list and isinstance(value, list):
        for n, item in enumerate(value):
            yield from problems(item, get_args(kind)[0], f"{place}.{n}", whole=whole)
    elif not _is_scalar(value, kind):
        yield f"{place}: {value!r} is no {kind}"


def _members(kind: Any) -> Iterator[Any]:
    """The members of a union, also those of unions within."""
    if get_origin(kind) is Annotated:
        yield from _members(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for value in get_args(kind):
            yield from _members(value)
    else:
        yield kind


def _in_union(value: Any, members: list[Any], place: str, whole: bool) -> Iterator[str]:
    if isinstance(value, dict):
        members = [member for member in members if _has_tag(value, member)]
    matches = [list(problems(value, member, place, whole=whole)) for member in members]
    if not matches:
        yield f"{place}: the union has no {value!r}"
    elif all(matches):
        yield from min(matches, key=len)


def _has_tag(value: dict[str, Any], model: Any) -> bool:
    """Whether a model is meant by the member that names the model, which is a literal."""
    fields = getattr(model, "model_fields", {})
    tags = [name for name in ("type", "error_code") if name in fields]
    return bool(fields) and all(
        value.get(tag) in get_args(fields[tag].annotation)
        for tag in tags
        if get_origin(fields[tag].annotation) is Literal
    )


def _in_model(value: Any, model: type[BaseModel], place: str, whole: bool) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: {value!r} is no {model.__name__}"
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    place = place or model.__name__
    for name in value.keys() - fields.keys():
        yield f"{place}.{name}: unknown to {model.__name__}"
    for name, field in fields.items():
        if name in value:
            yield from problems(value[name], field.annotation, f"{place}.{name}", whole=whole)
        elif whole or field.is_required():
            yield f"{place}.{name}: missing"


def _is_scalar(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (object, typing.Any):
        return True
    if kind is type(None):
        return value is None
    if kind is datetime:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (get_origin(kind) or kind)
