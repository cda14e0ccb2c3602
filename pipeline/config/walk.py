"""Finds which options a value sets, from the class that the value becomes."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import attrs
from cattrs.cols import is_mapping

from pipeline.config.document import Path
from pipeline.config.redaction import SecretPart
from pipeline.config.structuring import is_list, is_union

_SECRET_NAME = re.compile(r"(?:.*_)?(?:keys?|token|secret|password|credentials?|authorization)")

#: A type with its own structuring hook, and the class that has its options.
OptionClasses = Mapping[Any, type]


def set_options(
    value: Any, kind: Any, path: Path, classes: OptionClasses
) -> Iterator[tuple[Path, attrs.Attribute[Any] | None]]:
    """Yield each option that `value` sets: its path, and its field or None if it is unknown.

    An outer option comes before the options in it. An option may be set by its old name. If
    `value` should be a mapping of options with secrets among them and is not, yield `path` itself.
    """
    fields = option_fields(kind, classes)
    if fields:
        if isinstance(value, dict):
            for key, item in value.items():
                field, item_kind = fields.get(key, (None, Any))
                yield (*path, key), field
                yield from set_options(item, item_kind, (*path, key), classes)
        elif value is not None and _has_secrets(fields):
            yield path, None
    elif is_mapping(kind):
        item_kind = (*get_args(kind), Any, Any)[1]
        for key, item in value.items() if isinstance(value, dict) else ():
            yield from set_options(item, item_kind, (*path, key), classes)
        if isinstance(value, (str, list)) and _has_secrets(option_fields(item_kind, classes)):
            yield path, None
    elif isinstance(value, list) and is_list(kind):
        for n, item in enumerate(value):
            yield from set_options(item, (*get_args(kind), Any)[0], (*path, n), classes)


def option_fields(kind: Any, classes: OptionClasses) -> dict[str, tuple[attrs.Attribute[Any], Any]]:
    """Give the options of a class by name, old names included, each with its type.

    A union has the options of all its classes. Other types have none.
    """
    kind = classes.get(kind, kind)
    members = get_args(kind) if is_union(kind) else (get_origin(kind) or kind,)
    return {
        name: option
        for member in members
        if isinstance(member, type) and attrs.has(member)
        for name, option in _fields(member).items()
    }


def _has_secrets(fields: dict[str, tuple[attrs.Attribute[Any], Any]]) -> bool:
    return any(is_secret(field) for field, _ in fields.values())


@functools.cache
def _fields(cls: type) -> dict[str, tuple[attrs.Attribute[Any], Any]]:
    kinds = get_type_hints(cls)
    return {
        name: (field, kinds[field.name])
        for field in attrs.fields(cls)
        if field.init and "section" not in field.metadata
        for name in (field.name, field.metadata.get("renamed_from"))
        if name
    }


def is_secret(field: attrs.Attribute[Any]) -> bool:
    """Whether the value of an option, or a part of the value, must not be shown."""
    return bool(secret_part(field))


def secret_part(field: attrs.Attribute[Any]) -> bool | SecretPart:
    """Give the secret part of an option's text: all, none, or what a function gives.

    A name such as `token` makes an option secret too.
    """
    secret: bool | SecretPart = field.metadata.get("secret", False)
    return secret or bool(_SECRET_NAME.fullmatch(field.name))
