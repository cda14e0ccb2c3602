"""Repair the arguments of a tool call that are not valid JSON or do not fit the tool's schema.

    arguments                                        become                   outcome
    ----------------------------------------------   ----------------------   --------
    a JSON object that fits                          the same bytes           none
    JSON that fits after type coercion               the coerced object       coerced
    a JSON object that does not                      the same bytes           unfit
    not a JSON object, and its repair fits,          the repaired object,     repaired
    perhaps after coercion                           perhaps coerced
    anything else                                    the same bytes           broken

Coercion loses nothing: `"5"` becomes 5 where the schema allows no string, `"true"` becomes true, a
string that contains an object or a list becomes that value. The other way round, 5 becomes `"5"`
where only a string is allowed (but not 1.10, which is parsed as 1.1).

A repair changes the text between strings and numbers, never these: half a command, or one that ends
at a quote in its middle, is another command. So there is no repair if it is unclear which quotes
begin and end a string, or what a backslash in it means.
"""

from __future__ import annotations

import re
from itertools import count
from json import JSONDecoder
from typing import Any, Literal

from attrs import define

from stages.tool_repair.argument_schema import ToolSchema, decode, encode

RepairOutcome = Literal["", "coerced", "unfit", "repaired", "broken"]

#: Characters of a text that is repaired.
_MAX_REPAIRED = 50_000
# Characters of one text, and of all texts of a response, that the library gets, after each string,
# number and name was replaced by a short sign. At most they take 10 ms; the time is quadratic.
_MAX_SHAPE, _MAX_SHAPES = 4_000, 20_000
# Errors of its parser for odd or deeply nested texts; found by fuzzing.
_LIBRARY_ERRORS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_FENCES = re.compile(r"^\s*```(?:json)?|```\s*$")
#: A quoted string, a bare word, or an unterminated string.
_WORD = re.compile(r""""(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])*+'|[^\s{}\[\],:"']+|["'].*""", re.DOTALL)
#: A backslash with the next character, or a quote without a backslash.
_ESCAPE = re.compile(r'\\(.)|"', re.DOTALL)
_ESCAPES = frozenset(r"\/bfnrtu")
_STRINGS = JSONDecoder(strict=False)  # strings may contain line ends
_SIGN = re.compile(r"w\d+")
_LITERALS = {"True": True, "False": False, "None": None}


@define
class JsonRepair:
    """Repairs the broken JSON of one response.

    `budget` is the number of characters that the library may still get.
    """

    budget: int = _MAX_SHAPES

    def repair(self, text: str) -> Any:
        """The JSON value of a broken text; None if the repair would be a guess."""
        if len(text) > _MAX_REPAIRED:
            return None
        text = _FENCES.sub("", text).strip()
        if not text.endswith(("}", "]", '"', "'")):  # cut, perhaps within a number
            return None
        signs = (f'"w{at}"' for at in count())
        shape = _WORD.sub(lambda _: next(signs), text)
        if len(shape) > min(_MAX_SHAPE, self.budget):
            return None
        self.budget -= len(shape)
        return _repair_shape(text, shape)


def repair_arguments(
    arguments: str, schema: Any, repairs: JsonRepair | None = None
) -> tuple[str, RepairOutcome]:
    """The arguments for the client, and the outcome.

    `schema` is the tool's schema, or a ToolSchema. An invalid schema accepts everything.
    """
    if not arguments.strip() or arguments.strip() == "null":
        return arguments, ""
    schema = schema if isinstance(schema, ToolSchema) else ToolSchema(schema)
    outcome: RepairOutcome = "coerced"
    value = decode(arguments)
    if isinstance(value, dict) and schema.fits(value):
        return arguments, ""
    if value is None:
        outcome, value = "repaired", (repairs or JsonRepair()).repair(arguments)
    changed = schema.coerce_types(value)
    if isinstance(changed, dict) and (changed or outcome == "coerced") and schema.fits(changed):
        rewritten = encode(changed)
        if decode(rewritten) == changed:
            return rewritten, outcome
    return arguments, "unfit" if outcome == "coerced" and isinstance(value, dict) else "broken"


def _repair_shape(text: str, shape: str) -> Any:
    """`text` as JSON. The library repairs only `shape`, which has a sign for each word."""
    import json_repair  # late: it takes 30 ms, and most calls are not broken

    try:
        words = {f"w{at}": _parse_word(word) for at, word in enumerate(_WORD.findall(text))}
        value = json_repair.loads(shape, skip_json_loads=True)
        repaired = encode(value)
        if _SIGN.findall(repaired) == list(words) and repaired.count(":") == shape.count(":"):
            return _fill_in(value, words)
    except _LIBRARY_ERRORS:
        pass
    return None


def _fill_in(shape: Any, words: dict[str, Any]) -> Any:
    """Replace the signs in `shape` by the words. Raises ValueError for a repeated name."""
    if isinstance(shape, list):
        return [_fill_in(item, words) for item in shape]
    if not isinstance(shape, dict):
        return words[shape]
    filled = {words[name]: _fill_in(value, words) for name, value in shape.items()}
    if len(filled) < len(shape) or not all(isinstance(name, str) for name in filled):
        raise ValueError("repeated names, or names that are not strings")
    return filled


def _parse_word(word: str) -> Any:
    """The value of a string, number or name. Raises ValueError if it is ambiguous."""
    if word[0] not in "\"'":
        value = decode(word)
        return _LITERALS.get(word, word) if value is None and word != "null" else value
    if len(word) == 1 or word[-1] != word[0]:
        raise ValueError("an unterminated string")
    inner = word[1:-1]
    escapes = {match[1] for match in _ESCAPE.finditer(inner)} - {None, '"', "'"}
    literal = escapes.isdisjoint(_ESCAPES)  # as `\d` in a pattern; a mix of both is ambiguous

    def plain(match: re.Match[str]) -> str:
        if match[1] in (None, '"'):
            return r"\""
        if match[1] == "'":
            return "'"
        return "\\" + match[0] if literal else match[0]

    return _STRINGS.decode(f'"{_ESCAPE.sub(plain, inner)}"')


def ends_as_json(text: str) -> bool:
    """Whether a text, perhaps broken, ends as JSON does, and so is not cut."""
    return text.rstrip().endswith(("}", "]"))


def is_json(text: str) -> bool:
    """Whether a text is exactly one JSON document."""
    return decode(text) is not None
