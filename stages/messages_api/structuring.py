"""JSON values to the classes of `stages.messages_api.request`: shapes and types, nothing else.

Errors name the field as the API does: `messages.0.content.1.source.media_type: …`, members
and list positions joined with dots. Values are checked in `stages.messages_api.validation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

import attrs
from cattrs import Converter
from cattrs.errors import BaseValidationError, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from pipeline.config.structuring import is_literal, is_tuple, leaves
from stages.messages_api import request as m
from stages.messages_api.errors import drop_traceback
from stages.messages_api.unknown_fields import unknown_fields

Hook = Callable[[Any, Any], Any]

#: How much may be wrong with the items of one list until the rest of it is not looked at. Each
#: costs 3 kB and 30 µs, and there can be millions.
_MAX_WRONG = 50


def structure(value: Any) -> m.MessagesRequest:
    """Structure a request's JSON. Raises cattrs' error groups; `spell` makes texts of them."""
    try:
        return _CONVERTER.structure(value, m.MessagesRequest)
    except BaseValidationError as error:
        drop_traceback(error)
        raise


def spell(error: BaseException) -> list[str]:
    """What is wrong, each with its path: `max_tokens: Field required`."""
    problems = []
    for path, leaf in leaves(error):
        text = str(leaf)
        if isinstance(leaf, KeyError):  # cattrs notes the missing member itself as the last step
            path, text = (*path[:-1], leaf.args[0]), "Field required"
        place = ".".join(map(str, path))
        problems.append(f"{place}: {text}" if place else text)
    return problems


def either(choices: Iterable[str]) -> str:
    """`'a', 'b' or 'c'`"""
    *most, last = (f"'{choice}'" for choice in choices)
    return f"{', '.join(most)} or {last}" if most else last


def unknown_tag(tag: str, known: Iterable[str]) -> str:
    """The API's words for a `type` that does not belong here."""
    expected = ", ".join(f"'{each}'" for each in known)
    return (
        f"Input tag '{tag[:80]}' found using 'type' does not match any of the "
        f"expected tags: {expected}"
    )


def _scalar(kinds: tuple[type, ...], noun: str) -> Hook:
    def check(value: Any, kind: Any) -> Any:
        if type(value) not in kinds:  # not isinstance: True is an int
            raise ValueError(f"Input should be {noun}")
        return value

    return check


def _choice(value: Any, kind: Any) -> Any:
    if type(value) is not str or value not in get_args(kind):
        raise ValueError(f"Input should be {either(get_args(kind))}")
    return value


_object = _scalar((dict,), "an object")


def _tag(value: Any) -> str:
    tag = _object(value, None).get("type")
    if type(tag) is not str:
        raise ValueError("an object with a 'type' is required here")
    return tag


def _tagged(classes: dict[str, type]) -> Hook:
    def structure_source(value: Any, _: Any) -> Any:
        tag = _tag(value)
        if tag not in classes:
            raise ValueError(unknown_tag(tag, classes))
        return _CONVERTER.structure(value, classes[tag])

    return structure_source


def _block(value: Any, _: Any) -> Any:
    tag = _tag(value)
    if tag not in m.BLOCKS:
        return m.OtherBlock(tag, value)
    return _CONVERTER.structure(value, m.BLOCKS[tag])


def _content(_: Any, converter: Converter) -> Hook:
    blocks = _items(m.Content, converter)

    def structure_content(value: Any, kind: Any) -> Any:
        if isinstance(value, str):
            return (m.TextBlock(value),) if value else ()
        if not isinstance(value, list):
            raise ValueError("Input should be a valid string or a list of content blocks")
        return blocks(value, kind)

    return structure_content


def _items(kind: Any, converter: Converter) -> Hook:
    """As cattrs does it, but for the limit."""
    inner = get_args(kind)[0]
    structure_one = converter.get_structure_hook(inner)

    def structure_items(values: list[Any], _: Any) -> tuple[Any, ...]:
        made, wrong = [], []
        for n, value in enumerate(values):
            try:
                made.append(structure_one(value, inner))
            except (ValueError, BaseValidationError) as error:
                error.add_note(IterableValidationNote(f"item {n}", n, inner))
                wrong.append(error)
                if len(wrong) == _MAX_WRONG:
                    break
        if wrong:
            raise IterableValidationError("wrong items", wrong, kind)
        return tuple(made)

    return structure_items


def _tuple(kind: Any, converter: Converter) -> Hook:
    items = _items(kind, converter)
    shape = _scalar((list,), "a valid list")
    return lambda value, _: items(shape(value, None), kind)


def _attrs(cls: Any, converter: Converter) -> Hook:
    omitted: dict[str, Any] = {}
    if cls is m.MessagesRequest:
        omitted["unread"] = override(omit=True)
    members = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=False,
        _cattrs_detailed_validation=True,
        **omitted,
    )

    def structure_members(value: Any, _: Any) -> Any:
        value = _object(value, None)
        if None in value.values():  # clients write null for "not given"
            value = {k: v for k, v in value.items() if v is not None}
        return members(value, cls)

    return structure_members


def _request(cls: Any, converter: Converter) -> Hook:
    members = _attrs(cls, converter)

    def structure_request(value: Any, _: Any) -> Any:
        request = members(value, cls)
        names = unknown_fields(value)
        return attrs.evolve(request, unread=names) if names else request

    return structure_request


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook(str, _scalar((str,), "a valid string"))
    converter.register_structure_hook(int, _scalar((int,), "a valid integer"))
    converter.register_structure_hook(float, _scalar((int, float), "a valid number"))
    converter.register_structure_hook(bool, _scalar((bool,), "a valid boolean"))
    converter.register_structure_hook_func(lambda kind: kind == dict[str, Any], _object)
    converter.register_structure_hook_func(is_literal, _choice)
    converter.register_structure_hook_factory(attrs.has, _attrs)
    converter.register_structure_hook_factory(lambda kind: kind is m.MessagesRequest, _request)
    converter.register_structure_hook_factory(is_tuple, _tuple)
    converter.register_structure_hook_factory(lambda kind: kind == m.Content, _content)
    for union, hook in (
        (m.Block, _block),
        (m.ImageSource, _tagged(m.IMAGE_SOURCES)),
        (m.DocumentSource, _tagged(m.DOCUMENT_SOURCES)),
    ):
        converter.register_structure_hook(union, hook)
    return converter


_CONVERTER = _make_converter()
