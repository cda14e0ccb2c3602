"""Plain values to attrs objects, strictly, with every problem at its place.

cattrs does the work. Its lenient defaults are replaced (`bool("false")` is True, an `int`
is taken for a `str`), and its error groups become paths and messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.cols import (
    homogenous_tuple_structure_factory,
    is_mapping,
    mapping_structure_factory,
)
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from pipeline.document import Document, FromEnvironment, Path
from pipeline.problems import Problem, nearest
from pipeline.stage import OptionError, UnavailableError

Hook = Callable[[Any, Any], Any]

_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def make_converter() -> Converter:
    """A strict converter. Callers may register hooks for their own types."""
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in _NOUNS:
        converter.register_structure_hook(kind, _scalar_hook(kind))
    converter.register_structure_hook_func(is_literal, _literal)
    for predicate, factory in (
        (is_mapping, _mapping_hook),
        (is_tuple, _tuple_hook),
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


def leaves(error: BaseException, path: Path = ()) -> Iterator[tuple[Path, BaseException]]:
    """The single errors in a cattrs error group, each with the path of the value it is about."""
    if isinstance(error, BaseValidationError):
        for each in error.exceptions:
            yield from leaves(each, (*path, *_step(each)))
    else:
        yield path, error


def to_problems(error: BaseException, path: Path, document: Document) -> Iterator[Problem]:
    """Each leaf of `error`, raised while structuring the value at `path`."""
    for where, leaf in leaves(error, path):
        if isinstance(leaf, ForbiddenExtraKeysError):
            known = [] if leaf.cl is None else option_names(leaf.cl)
            for key in sorted(leaf.extra_fields):
                yield Problem(
                    "unknown-option",
                    f"`{where[-1]}` has no option `{key}`",
                    document.key((*where, key)),
                    nearest(key, known) or "it takes no options",
                )
        elif isinstance(leaf, KeyError):
            message = f"the option `{leaf.args[0]}` is missing"
            hint = f"add `{leaf.args[0]}: …`"
            yield Problem("missing-option", message, document.key(where[:-1]), hint)
        elif isinstance(leaf, OptionError):
            location = document.at((*where, leaf.option))
            yield Problem("bad-option", str(leaf), location, leaf.hint)
        elif isinstance(leaf, UnavailableError):
            yield Problem("unavailable", str(leaf), document.key(where), leaf.hint)
        else:
            subject = f"`{spell(where[len(path) :])}`: " if len(where) > len(path) else ""
            yield Problem("bad-option", f"{subject}{leaf}", document.at(where))


def option_names(cls: type) -> list[str]:
    """The options of a stage or section class: its fields, without those the engine fills."""
    return [a.name for a in attrs.fields(cls) if a.init and "section" not in a.metadata]


def spell(path: Path) -> str:
    """A path as a person writes it: `keys[1]`, `local.base_url`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def describe(value: Any) -> str:
    """A value as a person would call it. A text from the environment is never shown."""
    if isinstance(value, FromEnvironment):
        return "another text (from the environment)"
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
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        raise ValueError(f"expected {_NOUNS[kind]}, got {describe(value)}")

    return structure


def _from_environment(text: FromEnvironment, kind: type) -> Any:
    """An unquoted `${VAR}`, read as YAML would read its text."""
    if kind is str:
        return str(text)
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        number = kind(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _literal(value: Any, kind: Any) -> Any:
    for choice in get_args(kind):
        if value == choice and isinstance(value, type(choice)):
            return choice
    listed = ", ".join(f"`{choice}`" for choice in get_args(kind))
    raise ValueError(f"expected one of {listed}, got {describe(value)}")


def _tuple_hook(kind: Any, converter: Converter) -> Hook:
    return _shaped(list, "a list", homogenous_tuple_structure_factory(kind, converter))


def _mapping_hook(kind: Any, converter: Converter) -> Hook:
    return _shaped(dict, "a mapping", mapping_structure_factory(kind, converter))


def _attrs_hook(cls: Any, converter: Converter) -> Hook:
    given: dict[str, Any] = {
        a.name: override(struct_hook=lambda value, _: value)
        for a in attrs.fields(cls)
        if "section" in a.metadata
    }
    inner = make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **given
    )
    return _shaped(dict, "a mapping", inner)


def _shaped(wanted: type, noun: str, inner: Hook) -> Hook:
    def structure(value: Any, kind: Any) -> Any:
        if not isinstance(value, wanted):
            raise ValueError(f"expected {noun}, got {describe(value)}")
        return inner(value, kind)

    return structure


def _step(error: BaseException) -> Path:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()
