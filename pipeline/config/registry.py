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
    """No stage has this name. `hint` is the next action."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@frozen
class Registry:
    """The available stages, by their names in YAML.

    A built-in name follows from its module by rule: `translate-in` is `TranslateIn` in
    `<package>.translate_in`. Other stages are named by import path (`my_module:Redact`)
    or by an entry point in `group`. A module is imported when its stage is needed. Modules of
    import paths may also be in `folder`.
    """

    package: str
    builtin: tuple[str, ...]
    group: str
    folder: str = ""

    def names(self) -> list[str]:
        """Give the built-in names in their usual order, then those of entry points."""
        return [*self.builtin, *sorted(set(self._entry_points()) - set(self.builtin))]

    def get(self, name: str) -> StageClass:
        """Give the class called `name`. Raises UnknownStageError."""
        if name in self.builtin:
            module = f"{self.package}.{name.replace('-', '_')}"
            stage = _import(module, "".join(map(str.capitalize, name.split("-"))))
        elif name in (plugins := self._entry_points()):
            stage = _loaded(name, plugins[name])
        elif all(parts := name.partition(":")):
            module, _, attribute = parts
            with _importable(self.folder):
                stage = _import(module, attribute)
        else:
            hint = suggest(name, self.names())
            if "did you mean" not in hint:
                hint += "; your own stage is named by import path, as `my_module:MyStage`"
            raise UnknownStageError(f"there is no stage `{name}`", hint)
        return _checked(name, stage)

    def classes(self) -> Mapping[str, StageClass]:
        """Load all stages with a name, except those that cannot be loaded."""
        classes: dict[str, StageClass] = {}
        for name in self.names():
            try:
                classes[name] = self.get(name)
            except UnknownStageError:
                continue
        return classes

    def _entry_points(self) -> dict[str, Callable[[], Any]]:
        return {point.name: point.load for point in entry_points(group=self.group)}


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Make the modules in `folder` importable for a while. They hide no other module.

    The folder does not stay on the path: libraries import optional packages at any time, and would
    run a file with such a name (`brotli.py`) in the folder.
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
    loaded = _loaded(f"{module}:{attribute}", lambda: importlib.import_module(module))
    if not hasattr(loaded, attribute):
        raise UnknownStageError(
            f"module `{module}` has no `{attribute}`",
            suggest(attribute, _stage_names(vars(loaded).values())) or "it has no stages",
        )
    return getattr(loaded, attribute)


def _stage_names(values: Iterable[object]) -> list[str]:
    classes = [v for v in values if isinstance(v, type) and issubclass(v, Stage)]
    return [stage.__name__ for stage in classes if stage is not Stage]


def _loaded(name: str, load: Callable[[], Any]) -> Any:
    # An exception of an own module during its import is a problem of the config.
    try:
        return load()
    except _OF_IMPORTS as error:
        hint = "correct the module: its import fails"
        if isinstance(error, ModuleNotFoundError):
            hint = "put the module next to the config, or install it"
        raise UnknownStageError(
            f"`{name}` cannot be imported: {type(error).__name__}: {error}", hint
        ) from error


def _checked(name: str, stage: Any) -> StageClass:
    if not (isinstance(stage, type) and issubclass(stage, Stage)):
        raise UnknownStageError(f"`{name}` is not a stage", "subclass `pipeline.Stage`")
    if "__attrs_attrs__" not in vars(stage):
        raise UnknownStageError(
            f"the stage `{name}` is not an attrs class", "put `@attrs.frozen` above its class"
        )
    try:
        signature(stage)
    except TypeError as error:
        hint = "derive it from `Stage[In, Out]`, with the classes of its events"
        raise UnknownStageError(f"`{name}` is not usable: {error}", hint) from error
    try:
        get_type_hints(stage)
    except (AttributeError, NameError, SyntaxError, TypeError) as error:
        hint = "correct the annotations of its options"
        raise UnknownStageError(f"`{name}` is not usable: {error}", hint) from error
    return stage
