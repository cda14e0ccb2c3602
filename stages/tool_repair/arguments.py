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
from itertools import count
from json import JSONDecoder
from typing import Any, Literal

from attrs import define

from stages.tool_repair.argument_schema import ToolSchema, decode, encode

Outcome = Literal["", "coerced", "unfit", "repaired", "broken"]

#: Characters of a text.
_MAX_REPAIRED = 50_000
# Characters that the library sees of it, where each text, number and name is a short sign: of one
# text, and of all texts of an answer. So much takes 10 ms at worst, twice that four times as long.
_MAX_SHAPE, _MAX_SHAPES = 4_000, 20_000
# What its parser raises where the text is odd, or nests too deep; found by fuzzing.
_LIBRARY_ERRORS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_FENCES = re.compile(r"^\s*```(?:json)?|```\s*$")
#: A text in quotes, a word without any, or a text that does not end.
_WORD = re.compile(r""""(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])*+'|[^\s{}\[\],:"']+|["'].*""", re.DOTALL)
#: A backslash with what follows it, or a quote without one.
_ESCAPE = re.compile(r'\\(.)|"', re.DOTALL)
_ESCAPES = frozenset(r"\/bfnrtu")
_STRINGS = JSONDecoder(strict=False)  # a text may have line ends in it
_SIGN = re.compile(r"w\d+")
_LITERALS = {"True": True, "False": False, "None": None}


@define
class JsonRepair:
    """Repairs the broken JSON of one answer. `left` is what the library may still see of it."""

    budget: int = _MAX_SHAPES

    def repair(self, text: str) -> Any:
        """What JSON there is in a text that is none, or is broken; None where it says more."""
        if len(text) > _MAX_REPAIRED:
            return None
        text = _FENCES.sub("", text).strip()
        if not text.endswith(("}", "]", '"', "'")):  # it was cut, perhaps within a number
            return None
        signs = (f'"w{at}"' for at in count())
        shape = _WORD.sub(lambda _: next(signs), text)
        if len(shape) > min(_MAX_SHAPE, self.budget):
            return None
        self.budget -= len(shape)
        return _repair_shape(text, shape)


def repair_arguments(
    arguments: str, schema: Any, repairs: JsonRepair | None = None
) -> tuple[str, Outcome]:
    """The arguments to give to the client, and how they were come by.

    `schema` is that of the tool, or a ToolSchema; one that cannot be read is not asked.
    """
    if not arguments.strip() or arguments.strip() == "null":
        return arguments, ""
    schema = schema if isinstance(schema, ToolSchema) else ToolSchema(schema)
    how: Outcome = "coerced"
    value = decode(arguments)
    if isinstance(value, dict) and schema.fits(value):
        return arguments, ""
    if value is None:
        how, value = "repaired", (repairs or JsonRepair()).repair(arguments)
    changed = schema.coerce_types(value)
    if isinstance(changed, dict) and (changed or how == "coerced") and schema.fits(changed):
        written = encode(changed)
        if decode(written) == changed:
            return written, how
    return arguments, "unfit" if how == "coerced" and isinstance(value, dict) else "broken"


def _repair_shape(text: str, shape: str) -> Any:
    """`text` as JSON, of which the library only puts the signs in `shape` in order."""
    import json_repair  # only now: it takes 30 ms, and most calls are not broken

    try:
        words = {f"w{at}": _parse_word(each) for at, each in enumerate(_WORD.findall(text))}
        value = json_repair.loads(shape, skip_json_loads=True)
        told = encode(value)
        if _SIGN.findall(told) == list(words) and told.count(":") == shape.count(":"):
            return _fill_in(value, words)
    except _LIBRARY_ERRORS:
        pass
    return None


def _fill_in(shape: Any, words: dict[str, Any]) -> Any:
    """`shape` with the words in it. Raises ValueError where a name stands twice."""
    if isinstance(shape, list):
        return [_fill_in(each, words) for each in shape]
    if not isinstance(shape, dict):
        return words[shape]
    filled = {words[name]: _fill_in(each, words) for name, each in shape.items()}
    if len(filled) < len(shape) or not all(isinstance(each, str) for each in filled):
        raise ValueError("names that are none")
    return filled


def _parse_word(word: str) -> Any:
    """What a text, a number or a name says. Raises ValueError where that is not clear."""
    if word[0] not in "\"'":
        told = decode(word)
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
    return decode(text) is not None
