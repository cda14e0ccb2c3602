"""JSON schemas as a backend takes them, in tools and as the form of the answer."""

from __future__ import annotations

from typing import Any

from stages.translation.shapes import items, mapping

# Here the members are names of the author's, not keywords.
_NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
# Here the value is data.
_DATA = ("const", "default", "enum", "examples")


def without(schema: Any, keywords: frozenset[str]) -> Any:
    """`schema` without `keywords`, wherever they stand as keywords."""
    if isinstance(schema, list):
        return [without(each, keywords) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key in keywords:
            continue
        if key in _DATA:
            kept[key] = value
        elif key in _NAMED and isinstance(value, dict):
            kept[key] = {name: without(each, keywords) for name, each in value.items()}
        else:
            kept[key] = without(value, keywords)
    return kept


def is_closed(schema: Any) -> bool:
    """Whether each object in `schema` requires all its properties, and allows no other."""
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    names, required = schema.get("properties"), items(schema.get("required"))
    if isinstance(names, dict) or schema.get("type") == "object":
        optional = any(name not in required for name in mapping(names))
        if optional or schema.get("additionalProperties") is not False:
            return False
    inner = (
        list(value.values()) if key in _NAMED and isinstance(value, dict) else value
        for key, value in schema.items()
        if key not in _DATA
    )
    return all(map(is_closed, inner))
