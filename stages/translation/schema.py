"""JSON schemas of tools without the keywords a backend refuses."""

from __future__ import annotations

from typing import Any

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
