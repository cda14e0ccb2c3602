"""Arguments of a tool call, mended where they are no JSON or do not fit the tool's schema.

    arguments                               become                       told as
    -------------------------------------   --------------------------   ---------
    a JSON object that fits                 the same bytes               nothing
    JSON that fits after simple changes     the changed object           coerced
    a JSON object that does not             the same bytes               unfit
    no JSON object, and what it is          the repaired one,            repaired
    repaired to fits, perhaps changed       perhaps changed
    anything else                           the same bytes               broken

Simple changes are those that lose nothing: `"5"` is 5 where the schema allows no text, `"true"`
is true, and an object or a list that stands in a text is what it says; the other way round, 5 is
`"5"` where only a text is allowed (but not 1.10, which is 1.1 once it is read).

A repair changes what stands between texts and numbers, never these: half a command, or one that
ends at a quote in its middle, is another command. So there is none where it is not clear which
quotes begin and end a text, or what a backslash in it means.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import Any, Literal, NoReturn

from stages.translation.shapes import items, mapping, text
from stages.wire import json

How = Literal["", "coerced", "unfit", "repaired", "broken"]

# The library takes seconds for what nests without end, or is much longer.
_MAX_REPAIRED, _MAX_NESTED = 50_000, 1_000
_DEPTH = 20
# What its parser raises where the text is odd, or nests too deep; found by fuzzing.
_FAULTS = (ArithmeticError, AssertionError, LookupError, RecursionError, TypeError, ValueError)
_FENCES = re.compile(r"^\s*```(?:json)?|```\s*$")
#: A text in quotes, a word without any, or a text that does not end.
_WORD = re.compile(r""""(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])*+'|[^\s{}\[\],:"']+|["'].*""", re.DOTALL)
#: A backslash with what follows it, or a quote without one.
_ESCAPE = re.compile(r'\\(.)|"', re.DOTALL)
_ESCAPES = frozenset(r"\/bfnrtu")
_STRINGS = JSONDecoder(strict=False)  # a text may have line ends in it
_SIGN = re.compile(r"w\d+")
_LITERALS = {"True": True, "False": False, "None": None}


def mended(arguments: str, schema: Any) -> tuple[str, How]:
    """The arguments to give to the client, and how they were come by.

    `schema` is that of the tool; one that cannot be read is not asked.
    """
    if not arguments.strip() or arguments.strip() == "null":
        return arguments, ""
    how: How = "coerced"
    value = _decoded(arguments)
    if isinstance(value, dict) and fits(value, schema):
        return arguments, ""
    if value is None:
        how, value = "repaired", repaired(arguments)
    changed = coerced(value, {"type": "object", **mapping(schema)}, mapping(schema))
    if isinstance(changed, dict) and (changed or how == "coerced") and fits(changed, schema):
        encoded = _encoded(changed)
        if _decoded(encoded) == changed:
            return encoded, how
    return arguments, "unfit" if how == "coerced" and isinstance(value, dict) else "broken"


def repaired(text: str) -> Any:
    """What JSON there is in a text that is none, or is broken; None where it says more."""
    text = _FENCES.sub("", text).strip()
    if len(text) > _MAX_REPAIRED or text.count("{") + text.count("[") > _MAX_NESTED:
        return None
    if not text.endswith(("}", "]", '"', "'")):  # it was cut, perhaps within a number
        return None
    import json_repair  # only now: it takes 30 ms, and most calls are not broken

    try:
        words = {f"w{at}": _word(each) for at, each in enumerate(_WORD.findall(text))}
        signs = iter(words)  # the library, which guesses, sees these: it only puts them in order
        shape = _WORD.sub(lambda _: f'"{next(signs)}"', text)
        value = json_repair.loads(shape, skip_json_loads=True)
        told = _encoded(value)
        if _SIGN.findall(told) == list(words) and told.count(":") == shape.count(":"):
            return _filled(value, words)
    except _FAULTS:
        pass
    return None


def _filled(shape: Any, words: dict[str, Any]) -> Any:
    """`shape` with the words in it. Raises ValueError where a name stands twice."""
    if isinstance(shape, list):
        return [_filled(each, words) for each in shape]
    if not isinstance(shape, dict):
        return words[shape]
    filled = {words[name]: _filled(each, words) for name, each in shape.items()}
    if len(filled) < len(shape) or not all(isinstance(each, str) for each in filled):
        raise ValueError("names that are none")
    return filled


def _word(word: str) -> Any:
    """What a text, a number or a name says. Raises ValueError where that is not clear."""
    if word[0] not in "\"'":
        told = _decoded(word)
        return _LITERALS.get(word, word) if told is None and word != "null" else told
    if len(word) == 1 or word[-1] != word[0]:
        raise ValueError("a text that does not end")
    inner = word[1:-1]
    escapes = {found[1] for found in _ESCAPE.finditer(inner)} - {None, '"', "'"}
    literal = escapes.isdisjoint(_ESCAPES)  # as in a pattern, `\d`; both together is not clear

    def plain(found: re.Match[str]) -> str:
        if found[1] in (None, '"'):
            return r"\""
        if found[1] == "'":
            return "'"
        return "\\" + found[0] if literal else found[0]

    return _STRINGS.decode(f'"{_ESCAPE.sub(plain, inner)}"')


def ends_as_json(text: str) -> bool:
    """Whether a text, broken as it may be, ends as JSON does, so that it is not cut."""
    return text.rstrip().endswith(("}", "]"))


def is_json(text: str) -> bool:
    """Whether a text is one JSON document, and nothing else."""
    return _decoded(text) is not None


def fits(value: Any, schema: Any) -> bool:
    """Whether `value` is valid against `schema`."""
    import jsonschema_rs  # only now, as above

    try:
        # Patterns in linear time, and nothing is fetched: clients write these schemas.
        validator = jsonschema_rs.validator_for(
            mapping(schema), pattern_options=jsonschema_rs.RegexOptions(), retriever=_refuse
        )
        return bool(validator.is_valid(value))
    except (ValueError, jsonschema_rs.ReferencingError):
        return True


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched")


def coerced(value: Any, schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """`value` with the simple changes that the types in `schema` ask for."""
    schema = _resolved(mapping(schema), root)
    types = _types(schema, root)
    if depth >= _DEPTH:
        return value
    if types:
        value = _as_type(value, types)
    if isinstance(value, dict):
        of = mapping(schema.get("properties"))
        return {k: coerced(v, of.get(k), root, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [coerced(each, schema.get("items"), root, depth + 1) for each in value]
    return value


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference within the same document leads to."""
    reference = text(schema.get("$ref"))
    if not reference.startswith("#"):
        return schema
    found: Any = root
    for name in filter(None, reference[1:].split("/")):
        found = mapping(found).get(name)
    return mapping(found)


def _types(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    """The types that a schema names; of alternatives, those of each."""
    named = schema.get("type")
    found = {text(each) for each in (named if isinstance(named, list) else [named])}
    for each in (*items(schema.get("anyOf")), *items(schema.get("oneOf"))):
        found.add(text(_resolved(mapping(each), root).get("type")))
    return found - {""}


def _as_type(value: Any, types: set[str]) -> Any:
    if isinstance(value, str) and "string" not in types:
        lowered = value.strip().lower()
        told = _decoded(lowered if lowered in ("true", "false") else value)
        return told if _type(told) & types and (told is not None or lowered == "null") else value
    if isinstance(value, int) and types == {"string"}:
        return _encoded(value)
    return value


def _type(value: Any) -> set[str]:
    """What JSON schemas call its type."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"integer", "number"} if value % 1 == 0 else {"number"}
    return {_TYPES[type(value)]}


_TYPES = {bool: "boolean", str: "string", dict: "object", list: "array", type(None): "null"}


def _decoded(arguments: str) -> Any:
    """What the JSON says; None where it is none."""
    try:
        return json.decode_answer(arguments.encode())
    except ValueError:
        return None


def _encoded(value: Any) -> str:
    """As JSON; nothing where it cannot be, as with half a pair of UTF-16."""
    try:
        return json.encode(value).decode()
    except ValueError:
        return ""
