"""Names to stage classes: built in, by import path, by entry point."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from pipeline.config.registry import Registry, UnknownStageError
from stages.authenticate import Authenticate
from stages.translate_in import TranslateIn
from tests.cases import for_each
from tests.pipeline.support import Begin, Tap

GROUP = "some.stages"
REGISTRY = Registry("stages", ("translate-in", "authenticate"), GROUP)
HERE = "tests.pipeline.support"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory on the import path."""
    sys.path.append(str(tmp_path))
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()


def install(folder: Path, entries: str) -> None:
    """A distribution with entry points, as an installer writes it."""
    info = folder / "some_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}")


def refusal(name: str, registry: Registry = REGISTRY) -> UnknownStageError:
    with pytest.raises(UnknownStageError) as caught:
        registry.get(name)
    return caught.value


STAGE = """\
from attrs import frozen
from pipeline import Stage
from tests.pipeline.support import Middle, Start


@frozen
class Mine(Stage[Start, Middle]):
    pass
"""


def test_a_built_in_name_follows_from_module_and_class() -> None:
    assert REGISTRY.get("translate-in") is TranslateIn
    assert REGISTRY.get("authenticate") is Authenticate


def test_an_import_path_names_any_stage() -> None:
    assert REGISTRY.get(f"{HERE}:Begin") is Begin


def test_an_entry_point_names_a_stage(folder: Path) -> None:
    write(folder, "plugged_module", STAGE)
    install(folder, "mine = plugged_module:Mine\n")

    assert REGISTRY.get("mine").__module__ == "plugged_module"
    assert REGISTRY.names() == ["translate-in", "authenticate", "mine"]
    assert REGISTRY.classes()["mine"] is REGISTRY.get("mine")


def test_an_entry_point_may_hold_a_colon(folder: Path) -> None:
    install(folder, f"some:tap = {HERE}:Tap\n")

    assert REGISTRY.get("some:tap") is Tap


def test_an_entry_point_does_not_replace_what_is_built_in(folder: Path) -> None:
    install(folder, f"authenticate = {HERE}:Tap\n")

    assert REGISTRY.get("authenticate") is Authenticate
    assert REGISTRY.names() == ["translate-in", "authenticate"]


def test_a_broken_entry_point_is_reported_and_hides_no_other(folder: Path) -> None:
    install(folder, f"lost = no_such_module:Mine\nfound = {HERE}:Tap\nbare = {HERE}:T\n")

    assert str(refusal("lost")).startswith("`lost` cannot be imported: ModuleNotFoundError")
    assert str(refusal("bare")) == "`bare` is not a stage"
    assert list(REGISTRY.classes()) == ["translate-in", "authenticate", "found"]


def test_a_misspelt_name_has_a_hint() -> None:
    error = refusal("translatein")

    assert (str(error), error.hint) == (
        "there is no stage `translatein`",
        "did you mean `translate-in`?",
    )


def test_an_unknown_name_lists_the_names_and_the_way_to_own_ones() -> None:
    assert refusal("zzz").hint == (
        "use one of: `authenticate`, `translate-in`; "
        "your own stage is named by import path, as `my_module:MyStage`"
    )


@for_each("name", ["", ":", "module:", ":Class", "a.b"])
def test_half_an_import_path_is_an_unknown_name(name: str) -> None:
    assert str(refusal(name)) == f"there is no stage `{name}`"


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        ("1 +", "SyntaxError", "correct the module"),
        ("import no_such_module", "ModuleNotFoundError: No module named", "put the module next to"),
        ("from pipeline import Stagge", "ImportError", "correct the module"),
        ("raise RuntimeError('not today')", "RuntimeError: not today", "correct the module"),
        ("{}['key']", "KeyError: 'key'", "correct the module"),
        ("open('/no/such/file')", "FileNotFoundError", "correct the module"),
        ("assert False, 'never'", "AssertionError: never", "correct the module"),
        ("1 / 0", "ZeroDivisionError", "correct the module"),
        ("undefined", "NameError", "correct the module"),
        ("None.attribute", "AttributeError", "correct the module"),
        ("int('x')", "ValueError", "correct the module"),
        ("int(None)", "TypeError", "correct the module"),
    ],
)
def test_a_module_that_cannot_be_imported_is_reported(
    folder: Path, code: str, words: str, hint: str
) -> None:
    write(folder, "failing_module", code)

    error = refusal("failing_module:Mine")

    assert str(error).startswith("`failing_module:Mine` cannot be imported: ")
    assert words in str(error)
    assert error.hint.startswith(hint)


def test_for_a_module_without_the_class_its_stages_are_listed() -> None:
    error = refusal(f"{HERE}:Finisch")

    assert str(error) == f"module `{HERE}` has no `Finisch`"
    assert error.hint == "did you mean `Finish`?"


def test_the_class_stage_itself_is_not_suggested(folder: Path) -> None:
    write(folder, "few_stages", STAGE)

    assert refusal("few_stages:Zzz").hint == "use one of: `Mine`"


def test_a_module_without_stages_says_so() -> None:
    assert refusal("string:Template2").hint == "it has no stages"


CLASSES = """\
from attrs import frozen
from pipeline import Stage
from tests.pipeline.support import Begin, Start

class Plain(Stage[Start, Start]): ...
class OfBegin(Begin): ...

@frozen
class Untyped(Stage): ...

@frozen
class Misspelt(Stage[Start, Start]):
    words: "Wrods"

@frozen
class Attributeless(Stage[Start, Start]):
    words: "Stage.Wrods"

@frozen
class Unparsable(Stage[Start, Start]):
    words: "a b"

function = print
number = 5
"""


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("function", "`classes:function` is not a stage", "subclass `pipeline.Stage`"),
        ("number", "`classes:number` is not a stage", "subclass `pipeline.Stage`"),
        ("Start", "`classes:Start` is not a stage", "subclass `pipeline.Stage`"),
        ("Plain", "the stage `classes:Plain` is not an attrs class", "put `@attrs.frozen` above"),
        ("OfBegin", "the stage `classes:OfBegin` is not an attrs", "put `@attrs.frozen` above"),
        ("Untyped", "`classes:Untyped` is not usable: Untyped does not say", "derive it from"),
        ("Stage", "`classes:Stage` is not usable: Stage does not say", "derive it from"),
        ("Misspelt", "`classes:Misspelt` is not usable: name 'Wrods'", "correct the annotations"),
        ("Attributeless", "`classes:Attributeless` is not usable: ", "correct the annotations"),
        ("Unparsable", "`classes:Unparsable` is not usable: ", "correct the annotations"),
    ],
)
def test_an_unusable_stage_is_reported(folder: Path, name: str, message: str, hint: str) -> None:
    write(folder, "classes", CLASSES)

    error = refusal(f"classes:{name}")

    assert str(error).startswith(message)
    assert error.hint.startswith(hint)


def test_a_stage_is_imported_only_when_it_is_asked_for(folder: Path) -> None:
    write(folder, "costly", "raise SystemExit")
    install(folder, "costly = costly:Mine\n")

    assert "costly" in REGISTRY.names()
    assert REGISTRY.get("authenticate") is Authenticate
    assert "costly" not in sys.modules
