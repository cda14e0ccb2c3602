"""Where the official SDK's types of a request name the values that are allowed, others are refused.

The members are found by walking the SDK's types and ours next to each other, so a member that a
later SDK restricts, or that we begin to read, has to be added here.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs
import pytest
import typing_extensions
from anthropic.types import message_create_params as ga
from anthropic.types.beta import message_create_params as beta

from stages.messages_api import blocks as b
from stages.messages_api import request as m
from stages.messages_api.errors import InvalidRequestError
from stages.validate import Validate
from stages.wire.json_codec import encode
from tests.cases import for_each
from tests.support import body

_WRAPPERS = (Annotated, typing_extensions.Required, typing_extensions.NotRequired)
_UNIONS = (Union, types.UnionType)
#: Blocks hold blocks, at any depth; they are one place here.
_NESTED = re.compile(r"\.content((\.source)?\.content)+")


def sdk_literals(
    kind: Any, path: str = "", seen: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Each path in the SDK's type of a request that has a Literal, and its values."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        yield _NESTED.sub(".content", path), inner
    elif origin in _UNIONS:
        for item in inner:
            yield from sdk_literals(item, path, seen)
    elif origin is not None and origin is not dict:  # a wrapper, or an iterable
        assert origin in _WRAPPERS or len(inner) == 1, kind
        yield from sdk_literals(inner[0], path, seen)
    elif typing_extensions.is_typeddict(kind) and kind.__name__ not in seen:
        hints = typing_extensions.get_type_hints(kind, include_extras=True)
        for name, hint in hints.items():
            yield from sdk_literals(hint, f"{path}.{name}", (*seen, kind.__name__))


def our_members(kind: Any, path: str = "", seen: tuple[type, ...] = ()) -> Iterator[str]:
    """Each path that our classes read."""
    inner = get_args(kind)
    if isinstance(kind, type) and attrs.has(kind):
        if kind in (*b.BLOCKS.values(), *b.DOCUMENT_SOURCES.values()):
            yield _NESTED.sub(".content", f"{path}.type")
        if kind not in seen:
            for name, hint in typing.get_type_hints(kind).items():
                yield from our_members(hint, f"{path}.{name}", (*seen, kind))
    elif get_origin(kind) in (*_UNIONS, tuple):
        for item in inner:
            yield from our_members(item, path, seen)
    else:
        yield _NESTED.sub(".content", path)


def _said(*blocks: Any, role: str = "user") -> dict[str, Any]:
    first = {"role": "user", "content": "a"}
    return {"messages": [first, {"role": role, "content": list(blocks)}]}


def _document(**source: Any) -> dict[str, Any]:
    return _said({"type": "document", "source": source})


def _image(value: str) -> dict[str, Any]:
    source = {"type": "base64", "media_type": value, "data": "QUJD"}
    return _said({"type": "image", "source": source})


def _choice(value: str) -> dict[str, Any]:
    tool = {"name": "f", "input_schema": {"type": "object"}}
    return {"tools": [tool], "tool_choice": {"type": value, "name": "f"}}


def _system_message(**members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "a"}, {"role": "system", **members}]}


_FORMAT = "output_config.format.type"
#: A request with a value in each place, and where the refusal says it is.
CHECKED: dict[str, tuple[Callable[[str], dict[str, Any]], str]] = {
    "messages.role": (lambda v: {"messages": [{"role": v, "content": "a"}]}, "messages.0.role"),
    "messages.clear_at": (
        lambda v: _system_message(content="a", clear_at=v),
        "messages.1.clear_at",
    ),
    "messages.output_config.effort": (
        lambda v: _system_message(output_config={"effort": v}),
        "messages.1.output_config.effort",
    ),
    "messages.content.type": (lambda v: _said({"type": v}), "messages.1.content.0"),
    "messages.content.source.type": (
        lambda v: _document(type=v),
        "messages.1.content.0.source",
    ),
    "messages.content.source.media_type": (_image, "messages.1.content.0.source.media_type"),
    "system.type": (lambda v: {"system": [{"type": v, "text": "a"}]}, "system.0"),
    "output_config.effort": (lambda v: {"output_config": {"effort": v}}, "output_config.effort"),
    _FORMAT: (lambda v: {"output_config": {"format": {"type": v, "schema": {}}}}, _FORMAT),
    "thinking.type": (lambda v: {"thinking": {"type": v}}, "thinking.type"),
    "thinking.display": (
        lambda v: {"thinking": {"type": "adaptive", "display": v}},
        "thinking.display",
    ),
    "tool_choice.type": (_choice, "tool_choice.type"),
    "service_tier": (lambda v: {"service_tier": v}, "service_tier"),
    "speed": (lambda v: {"speed": v}, "speed"),
}
#: What is not checked, and why. Nor are the members of sections that nothing here reads
#: (`cache_control`, `mcp_servers`, `fallbacks` and other betas): the response names the section.
LENIENT = {
    "model": "a name is resolved by the config, not by the SDK's list",
    "stream": "a boolean: the SDK has one type for each of its values",
    "tools.type": "an unknown type is a tool of Anthropic's servers, and has a policy",
    "tools.name": "the SDK fixes the name of a typed tool; any name works here",
    "tools.allowed_callers": "only `direct` counts; the list of the others grows with each year",
    "messages.content.name": "of calls that Anthropic's servers made; they are left out",
}


def _literals() -> dict[str, set[Any]]:
    matches: dict[str, set[Any]] = {}
    for root in (ga.MessageCreateParamsNonStreaming, beta.MessageCreateParamsNonStreaming):
        for path, values in sdk_literals(root):
            matches.setdefault(path.removeprefix("."), set()).update(values)
    return matches


LITERALS = _literals()
OURS = {
    path.removeprefix(".")
    for kind in (m.MessagesRequest, m.UnreadMembers)
    for path in our_members(kind)
}


def refusal(options: dict[str, Any]) -> str:
    """The problem of a request; empty without one."""
    try:
        Validate().parse(encode(body(**options)))
    except InvalidRequestError as error:
        return error.message
    return ""


def test_row_c17_each_named_member_is_checked_or_lenient() -> None:
    read = LITERALS.keys() & OURS
    assert "thinking.display" in read
    assert read == CHECKED.keys() | LENIENT.keys()
    assert not CHECKED.keys() & LENIENT.keys()


@for_each("path", CHECKED)
def test_row_c17_a_value_unknown_to_the_sdk_is_refused(path: str) -> None:
    make, place = CHECKED[path]
    assert refusal(make("bogus")).startswith(f"{place}: ")


@for_each("path", [path for path in CHECKED if not path.endswith(".type")])
def test_row_c17_each_value_that_the_sdk_names_is_accepted(path: str) -> None:
    make, place = CHECKED[path]
    for value in LITERALS[path] - {"application/pdf", "text/plain"}:  # of documents
        assert f"{place}: " not in refusal(make(value))


@for_each("value", [3, True, {}, []])
@for_each("name", ["service_tier", "speed", "inference_geo"])
def test_row_c17_a_wrong_type_is_refused_in_unread_members(name: str, value: Any) -> None:
    assert refusal({name: value}).startswith(f"{name}: Input should be ")
    assert refusal({name: None}) == ""


@pytest.mark.parametrize("path", ["tools.allowed_callers", "tools.type"])
def test_row_c17_what_is_lenient_is_accepted(path: str) -> None:
    own = {"name": "f", "input_schema": {"type": "object"}}
    value = {"allowed_callers": ["bogus"]} if path.endswith("callers") else {"type": "bogus_1"}
    assert refusal({"tools": [{**own, **value}]}) == ""
