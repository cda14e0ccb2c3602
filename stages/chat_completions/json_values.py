"""Read JSON members of unknown type: the value if its type fits, otherwise an empty one."""

from __future__ import annotations

from typing import Any

#: Longer numbers count as 0: no prompt has a trillion tokens, and the sums of a day in the usage
#: record have 64 bits.
_DIGITS = 12


def as_object(value: Any) -> dict[str, Any]:
    """`value` if it is an object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def as_array(value: Any) -> list[Any]:
    """`value` if it is a list, otherwise an empty one."""
    return value if isinstance(value, list) else []


def as_string(value: Any) -> str:
    """`value` if it is a string, otherwise an empty one."""
    return value if isinstance(value, str) else ""


def as_count(value: Any) -> int:
    """`value` if it is a whole number of 0 or more, also as `12.0` or `"12"`; otherwise 0."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
        value = int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value < 10**_DIGITS else 0
