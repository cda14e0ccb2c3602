"""JSON values to the classes of `request` and `blocks`: shapes and types, nothing else.

Errors name the field as the API does: `messages.0.content.1.source.media_type: …`, members
and list positions joined with dots. Values are checked in `stages.messages_api.validation`.

A hook for a class also adds the unknown members of its object to the UnknownFields of the request.
Their names contain the place of the object, so each place has a hook of its own.

In place of the JSON of all messages, of the system prompt or of the tools, `structure` accepts a
Part.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
from cattrs import Converter
from cattrs.errors import (
    BaseValidationError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from pipeline.config.structuring import is_literal, is_tuple, leaf_errors
from stages.messages_api import blocks as b
from stages.messages_api.errors import drop_traceback
from stages.messages_api.problem_texts import either, unknown_tag
from stages.messages_api.request import Message, MessagesRequest, Tool, UnreadMembers
from stages.messages_api.unknown_fields import CACHE_CONTROL, UnknownFields, read_fields

Hook = Callable[[Any, Any], Any]

#: After this many wrong items of one list, the rest of the list is not structured. An error costs
#: 3 kB and 30 µs, and there can be millions.
_MAX_WRONG = 50
#: The collector of the request that `structure` works on, which cattrs has no argument for.
_UNKNOWN_FIELDS: ContextVar[UnknownFields] = ContextVar("unknown_fields")


@attrs.frozen(eq=False)
class Part:
    """One or all messages, the system prompt, or the tools: structured before the request."""

    value: Any
    unknown_fields: tuple[str, ...]


def structure(value: Any) -> MessagesRequest:
    """Structure a request's JSON. Raises cattrs' error groups; `spell` renders them as texts."""
    request: MessagesRequest
    request, names = _structure(_request, value)
    return attrs.evolve(request, unknown_fields=names) if names else request


def structure_part(member: str, value: Any) -> Part:
    """Structure a message, or the whole value of `system` or `tools`. Raises as `structure` does.

    `member` is `messages`, `system` or `tools`.
    """
    return Part(*_structure(_PARTS[member], value))


def _structure(hook: Hook, value: Any) -> tuple[Any, tuple[str, ...]]:
    """Return what `hook` makes of `value`, and the names of unknown members."""
    unknown = UnknownFields()
    token = _UNKNOWN_FIELDS.set(unknown)
    try:
        return hook(value, None), unknown.names()
    except BaseValidationError as error:
        drop_traceback(error)
        raise
    finally:
        _UNKNOWN_FIELDS.reset(token)


def _request(value: Any, _: Any) -> Any:
    request = _REQUEST(value, MessagesRequest)
    if not _UNREAD_MEMBERS.isdisjoint(value):
        _UNREAD(value, UnreadMembers)
    return request


def spell(error: BaseException) -> list[str]:
    """The problems in an error of `structure`, each with its path: `max_tokens: Field required`."""
    problems = []
    for path, leaf in leaf_errors(error):
        text = str(leaf)
        if isinstance(leaf, KeyError):  # cattrs notes the missing member itself as the last step
            path, text = (*path[:-1], leaf.args[0]), "Field required"
        place = ".".join(map(str, path))
        problems.append(f"{place}: {text}" if place else text)
    return problems


def _scalar(kinds: tuple[type, ...], noun: str) -> Hook:
    def check(value: Any, kind: Any) -> Any:
        if type(value) not in kinds:  # not isinstance: True is an int
            raise ValueError(f"Input should be {noun}")
        return value

    return check


def _choice(literal: Any) -> Hook:
    choices = get_args(literal)

    def check(value: Any, _: Any) -> Any:
        if type(value) is not str or value not in choices:
            raise ValueError(f"Input should be {either(choices)}")
        return value

    return check


_object = _scalar((dict,), "an object")


def _tag(value: Any) -> str:
    tag = _object(value, None).get("type")
    if type(tag) is not str:
        raise ValueError("an object with a 'type' is required here")
    return tag


def _tagged(classes: dict[str, type], place: str, converter: Converter) -> Hook:
    hooks = {tag: _attrs(cls, converter, place) for tag, cls in classes.items()}

    def structure_source(value: Any, _: Any) -> Any:
        tag = _tag(value)
        if tag not in hooks:
            raise ValueError(unknown_tag(tag, hooks))
        return hooks[tag](value, None)

    return structure_source


def _register_blocks(converter: Converter) -> None:
    hooks: dict[str, Hook] = {}

    def structure_block(value: Any, _: Any) -> Any:
        tag = _tag(value)
        hook = hooks.get(tag)
        if hook is None:
            if value.get(CACHE_CONTROL) is not None:
                _UNKNOWN_FIELDS.get().add_cache_control()
            return b.OtherBlock(tag, value)
        return hook(value, None)

    converter.register_structure_hook(b.Block, structure_block)  # blocks contain blocks
    hooks.update((tag, _attrs(cls, converter, tag)) for tag, cls in b.BLOCKS.items())


def _content(_: Any, converter: Converter) -> Hook:
    blocks = _items(b.Content, converter.get_structure_hook(b.Block))

    def structure_content(value: Any, kind: Any) -> Any:
        if isinstance(value, str):
            return (b.TextBlock(value),) if value else ()
        if not isinstance(value, list):
            raise ValueError("Input should be a valid string or a list of content blocks")
        return blocks(value, kind)

    return structure_content


def _items(kind: Any, structure_item: Hook) -> Hook:
    """As cattrs structures a tuple, but with _MAX_WRONG."""
    item_kind = get_args(kind)[0]

    def structure_items(values: list[Any], _: Any) -> tuple[Any, ...]:
        items, errors = [], []
        for n, value in enumerate(values):
            try:
                items.append(structure_item(value, item_kind))
            except (ValueError, BaseValidationError) as error:
                error.add_note(IterableValidationNote(f"item {n}", n, item_kind))
                errors.append(error)
                if len(errors) == _MAX_WRONG:
                    break
        if errors:
            raise IterableValidationError("wrong items", errors, kind)
        return tuple(items)

    return structure_items


def _tuple(kind: Any, converter: Converter, place: str = "") -> Hook:
    item_kind = get_args(kind)[0]
    return _list(_items(kind, _at(item_kind, place, converter)))


def _list(structure_items: Hook) -> Hook:
    shape = _scalar((list,), "a valid list")
    return lambda value, kind: structure_items(shape(value, None), kind)


def _at(kind: Any, place: str, converter: Converter) -> Hook:
    """The hook for values at `place`."""
    if get_origin(kind) in (Union, UnionType):
        kinds = [option for option in get_args(kind) if option is not NoneType]
        kind = kinds[0] if len(kinds) == 1 else kind  # `_attrs` removes null
    if kind == b.ImageSource:
        return _tagged(b.IMAGE_SOURCES, place, converter)
    if kind == b.DocumentSource:
        return _tagged(b.DOCUMENT_SOURCES, place, converter)
    if is_tuple(kind) and kind != b.Content:
        return _tuple(kind, converter, place)
    return _attrs(kind, converter, place) if attrs.has(kind) else converter.get_structure_hook(kind)


def _attrs(cls: Any, converter: Converter, place: str | None = None) -> Hook:
    """The hook for objects of `cls` at `place`; "" is the request. None: add no unknown members."""
    read = read_fields(cls, place or "")
    overrides: dict[str, Any] = {}
    kinds = get_type_hints(cls)
    names = read.intersection(field.name for field in attrs.fields(cls))
    for name in names if place is not None else ():
        path = f"{place}.{name}" if place else name
        overrides[name] = override(struct_hook=_at(kinds[name], path, converter))
    if cls is MessagesRequest:
        overrides["unknown_fields"] = override(omit=True)
        overrides |= {name: override(struct_hook=hook) for name, hook in _request_hooks().items()}
    members = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=False,
        _cattrs_detailed_validation=True,
        **overrides,
    )

    def structure_members(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            _object(value, None)  # raises; a call for each object would cost much
        if None in value.values():  # clients write null for "not given"
            value = {k: v for k, v in value.items() if v is not None}
        if not value.keys() <= read and place is not None:
            _UNKNOWN_FIELDS.get().add(value, place, read)
        return members(value, cls)

    return structure_members


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook(str, _scalar((str,), "a valid string"))
    converter.register_structure_hook(int, _scalar((int,), "a valid integer"))
    converter.register_structure_hook(float, _scalar((int, float), "a valid number"))
    converter.register_structure_hook(bool, _scalar((bool,), "a valid boolean"))
    converter.register_structure_hook_func(lambda kind: kind == dict[str, Any], _object)
    converter.register_structure_hook_factory(is_literal, _choice)
    converter.register_structure_hook_factory(attrs.has, _attrs)
    converter.register_structure_hook_factory(is_tuple, _tuple)
    converter.register_structure_hook_factory(lambda kind: kind == b.Content, _content)
    _register_blocks(converter)
    return converter


def _request_hooks() -> dict[str, Hook]:
    """The hooks of the members that may have Parts."""
    return {
        "messages": _or_part(_list(_items(tuple[Message, ...], _PARTS["messages"]))),
        "system": _or_part(_PARTS["system"]),
        "tools": _or_part(_PARTS["tools"]),
    }


def _or_part(hook: Hook) -> Hook:
    def structure_or_take(value: Any, kind: Any) -> Any:
        if type(value) is not Part:
            return hook(value, kind)
        if value.unknown_fields:
            _UNKNOWN_FIELDS.get().add_names(value.unknown_fields)
        return value.value

    return structure_or_take


_CONVERTER = _make_converter()
_PARTS: dict[str, Hook] = {
    "messages": _attrs(Message, _CONVERTER, "messages"),
    "system": _CONVERTER.get_structure_hook(b.Content),
    "tools": _tuple(tuple[Tool, ...], _CONVERTER, "tools"),
}
_REQUEST = _attrs(MessagesRequest, _CONVERTER, "")
_UNREAD = _attrs(UnreadMembers, _CONVERTER)
_UNREAD_MEMBERS = read_fields(UnreadMembers, "")
