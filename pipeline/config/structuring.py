"""Plain values to attrs objects, strictly, with every problem at its place.

The work is by cattrs, without its lenient defaults (`bool("false")` is True, an `int` is accepted
as a `str`). Its error groups become paths and messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.cols import (
    is_any_set,
    is_mapping,
    is_sequence,
    list_structure_factory,
    mapping_structure_factory,
)
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from pipeline.config.document import Document, FromEnvironment, Path, Unquoted
from pipeline.config.options import OptionError, UnavailableError
from pipeline.config.problems import Problem, suggest

Hook = Callable[[Any, Any], Any]

_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_HINTS = {
    "true or false": "write `true` or `false`, without quotes",
    "a whole number": "write it in digits, without quotes",
    "a number": "write it in digits, without quotes",
    "a text": "put quotes around it",
    "a list": "write it as `[one, another]`",
    "a mapping": "write it as `{name: value}`, or as indented lines of `name: value`",
}


class KindError(ValueError):
    """A value has the wrong type: `wanted` is, for example, `a list`. `hint` says what to write."""

    def __init__(self, wanted: str, value: Any, hint: str = "") -> None:
        super().__init__(f"expected {wanted}, got {describe(value)}")
        self.hint = hint or _HINTS.get(wanted, "")
        if isinstance(value, FromEnvironment):
            self.hint = "correct the variable"
        elif value is None and not hint:
            self.hint = "give it a value, or remove it"
        elif isinstance(value, (dict, list)) and wanted in _NOUNS.values():
            self.hint = "give it one value"


def make_converter() -> Converter:
    """Make a strict converter. Callers may register hooks for their own types."""
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in _NOUNS:
        converter.register_structure_hook(kind, _scalar_hook(kind))
    converter.register_structure_hook_func(is_literal, _literal)
    for predicate, factory in (
        (is_mapping, _mapping_hook),
        (is_list, _list_hook),
        (attrs.has, _attrs_hook),
    ):
        converter.register_structure_hook_factory(predicate, factory)
    return converter


def is_literal(kind: Any) -> bool:
    """Whether a type is `Literal[…]`."""
    return get_origin(kind) is Literal


def is_tuple(kind: Any) -> bool:
    """Whether a type is `tuple[…]`."""
    return get_origin(kind) is tuple


def is_union(kind: Any) -> bool:
    """Whether a type is `X | Y`."""
    return get_origin(kind) in (Union, UnionType)


def is_list(kind: Any) -> bool:
    """Whether a type is written as a list in YAML: `tuple[X, …]`, `list[X]`, `frozenset[X]`."""
    if is_tuple(kind):
        return get_args(kind)[1:] == (...,)
    return is_sequence(kind) or is_any_set(kind)


def leaf_errors(error: BaseException, path: Path = ()) -> Iterator[tuple[Path, BaseException]]:
    """Yield the single errors in a cattrs error group, each with the path of its value."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from leaf_errors(inner, (*path, *_step(inner)))
    else:
        yield path, error


def to_problems(error: BaseException, path: Path, document: Document) -> Iterator[Problem]:
    """Yield a problem for each single error in `error`, raised for the value at `path`."""
    for where, leaf in leaf_errors(error, path):
        if isinstance(leaf, ForbiddenExtraKeysError):
            names = [] if leaf.cl is None else option_names(leaf.cl)
            for key in sorted(leaf.extra_fields):
                yield Problem(
                    "unknown-option",
                    f"`{last_name(where)}` has no option `{document.redact(key, (*where, key))}`",
                    document.location_of_key((*where, key)),
                    suggest(key, names) or "it takes no options",
                )
        elif isinstance(leaf, KeyError) and where[-1:] == leaf.args:
            if where[:-1] in document.merging:
                continue
            message = f"the option `{leaf.args[0]}` is missing"
            hint = f"add `{leaf.args[0]}: …`"
            yield Problem("missing-option", message, document.location_of_key(where[:-1]), hint)
        elif isinstance(leaf, OptionError):
            where = (*where, leaf.option)
            message, hint = (document.redact(text, where) for text in (str(leaf), leaf.hint))
            yield Problem("bad-option", message, document.location_of(where), hint)
        elif isinstance(leaf, UnavailableError):
            message, hint = (document.redact(text, where) for text in (str(leaf), leaf.hint))
            yield Problem("unavailable", message, document.location_of_key(where), hint)
        else:
            name = spell(where[len(path) :]) or last_name(where)
            plain = isinstance(leaf, (TypeError, ValueError)) and str(leaf)
            message = document.redact(plain or f"{type(leaf).__name__}: {leaf}", where)
            hint = leaf.hint if isinstance(leaf, KindError) else ""
            yield Problem("bad-option", f"`{name}`: {message}", document.location_of(where), hint)


def last_name(path: Path) -> str:
    """Name the end of a path for people: `invoke`, `keys[1]`."""
    names = [n for n, step in enumerate(path) if isinstance(step, str)]
    return spell(path[names[-1] :])


def option_names(cls: type) -> list[str]:
    """Give the options of a stage or section class: its fields, except those for whole sections."""
    return [a.name for a in attrs.fields(cls) if a.init and "section" not in a.metadata]


def spell(path: Path) -> str:
    """Spell a path for people: `keys[1]`, `local.base_url`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def describe(value: Any) -> str:
    """Describe a value for people, without a text from the environment."""
    if isinstance(value, FromEnvironment):
        return "a text from the environment"
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return f"the text {value!r}"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _scalar_hook(kind: type) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, FromEnvironment):
            value = _from_environment(value, kind)
        if kind is float and type(value) in (int, float):
            with suppress(OverflowError):
                if math.isfinite(number := float(value)):  # `.inf` would break sums of seconds
                    return number
        elif type(value) is kind:
            return value
        raise KindError(_NOUNS[kind], value)

    return structure


def _from_environment(text: FromEnvironment, kind: type) -> Any:
    """Read an unquoted `${VAR}` as YAML reads its text. A quoted one is a text."""
    if kind is str:
        return str(text)
    if not isinstance(text, Unquoted):
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        number = kind(text)
        return number if math.isfinite(number) else text
    except (ValueError, OverflowError):
        return text


def _literal(value: Any, kind: Any) -> Any:
    for choice in get_args(kind):
        if value == choice and (isinstance(value, str) or type(value) is type(choice)):
            return choice
    listed = ", ".join(f"`{choice}`" for choice in get_args(kind))
    near = suggest(value, map(str, get_args(kind))) if isinstance(value, str) else ""
    raise KindError(f"one of {listed}", value, near)


def _list_hook(kind: Any, converter: Converter) -> Hook:
    items = list_structure_factory(kind, converter)
    origin: Any = get_origin(kind) or kind
    sequence = origin if origin in (list, set, frozenset) else tuple
    return _shaped(list, "a list", lambda value, kind: sequence(items(value, kind)))


def _mapping_hook(kind: Any, converter: Converter) -> Hook:
    return _shaped(dict, "a mapping", mapping_structure_factory(kind, converter))


def _attrs_hook(cls: Any, converter: Converter) -> Hook:
    whole_sections: dict[str, Any] = {
        a.name: override(struct_hook=lambda value, _: value)
        for a in attrs.fields(cls)
        if "section" in a.metadata
    }
    inner = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        **whole_sections,
    )
    return _shaped(dict, "a mapping", inner, _options_hint(cls))


def _options_hint(cls: type) -> str:
    options = option_names(cls)
    fields = [field for field in attrs.fields(cls) if field.name in options]
    required = [f"`{field.name}`" for field in fields if field.default is attrs.NOTHING]
    if required:
        return f"give it {' and '.join(required)}"
    return f"give it options by name, as `{options[0]}`" if options else "it takes no options"


def _shaped(wanted: type, noun: str, inner: Hook, hint: str = "") -> Hook:
    def structure(value: Any, kind: Any) -> Any:
        if not isinstance(value, wanted):
            raise KindError(noun, value, hint)
        return inner(value, kind)

    return structure


def _step(error: BaseException) -> Path:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()
