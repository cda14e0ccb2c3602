"""Stage names to stage classes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from attrs import frozen

from pipeline.config.problems import suggest
from pipeline.stage import Stage, signature

StageClass = type[Stage[Any, Any]]

_OF_IMPORTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    SystemExit,
    TypeError,
    ValueError,
)


class UnknownStageError(LookupError):
    """No stage has this name. `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@frozen
class Registry:
    """The stages there are, by the name they have in YAML.

    A built-in name follows from its module by rule: `translate-in` is `TranslateIn` in
    `<package>.translate_in`. Other stages are named by import path (`my_module:Redact`)
    or by an entry point in `group`. Modules are imported when their stage is asked for.
    Modules named by import path may be in `folder`, too.
    """

    package: str
    builtin: tuple[str, ...]
    group: str
    folder: str = ""

    def names(self) -> list[str]:
        """The built-in names in their usual order, then those of entry points."""
        return [*self.builtin, *sorted(set(self._entry_points()) - set(self.builtin))]

    def get(self, name: str) -> StageClass:
        """The class called `name`. Raises UnknownStageError."""
        if name in self.builtin:
            module = f"{self.package}.{name.replace('-', '_')}"
            found = _import(module, "".join(map(str.capitalize, name.split("-"))))
        elif name in (plugins := self._entry_points()):
            found = _loaded(name, plugins[name])
        elif all(parts := name.partition(":")):
            module, _, attribute = parts
            with _importable(self.folder):
                found = _import(module, attribute)
        else:
            hint = suggest(name, self.names())
            if "did you mean" not in hint:
                hint += "; a stage of your own is named by import path, as `my_module:MyStage`"
            raise UnknownStageError(f"there is no stage `{name}`", hint)
        return _checked(name, found)

    def classes(self) -> Mapping[str, StageClass]:
        """All named stages that can be loaded."""
        found: dict[str, StageClass] = {}
        for name in self.names():
            try:
                found[name] = self.get(name)
            except UnknownStageError:
                continue
        return found

    def _entry_points(self) -> dict[str, Callable[[], Any]]:
        return {point.name: point.load for point in entry_points(group=self.group)}


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Let modules in `folder` be imported meanwhile; they hide no other module.

    Only meanwhile: libraries try to import optional packages whenever they need them, and would
    run any file of such a name (`brotli.py`) in a folder that stayed on the path.
    """
    if not folder or folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _import(module: str, attribute: str) -> Any:
    found = _loaded(f"{module}:{attribute}", lambda: importlib.import_module(module))
    if not hasattr(found, attribute):
        raise UnknownStageError(
            f"module `{module}` has no `{attribute}`",
            suggest(attribute, _stage_names(vars(found).values())) or "it has no stages at all",
        )
    return getattr(found, attribute)


def _stage_names(values: Iterable[object]) -> list[str]:
    classes = [v for v in values if isinstance(v, type) and issubclass(v, Stage)]
    return [each.__name__ for each in classes if each is not Stage]


def _loaded(name: str, load: Callable[[], Any]) -> Any:
    # What somebody else's module raises on import is a problem of the declaration.
    try:
        return load()
    except _OF_IMPORTS as error:
        hint = "correct the module: it fails when it is imported"
        if isinstance(error, ModuleNotFoundError):
            hint = "put the module beside the declaration, or install it"
        raise UnknownStageError(
            f"`{name}` cannot be imported: {type(error).__name__}: {error}", hint
        ) from error


def _checked(name: str, found: Any) -> StageClass:
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise UnknownStageError(f"`{name}` is not a stage", "subclass `pipeline.Stage`")
    if "__attrs_attrs__" not in vars(found):
        raise UnknownStageError(
            f"the stage `{name}` is not an attrs class", "put `@attrs.frozen` above its class"
        )
    try:
        signature(found)
    except TypeError as error:
        hint = "derive it from `Stage[In, Out]`, with the classes of its events"
        raise UnknownStageError(f"`{name}` is not usable: {error}", hint) from error
    try:
        get_type_hints(found)
    except (AttributeError, NameError, SyntaxError, TypeError) as error:
        hint = "correct the annotations of its options"
        raise UnknownStageError(f"`{name}` is not usable: {error}", hint) from error
    return found
