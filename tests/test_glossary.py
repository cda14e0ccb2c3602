"""Identifiers, comments and strings of the code use the words in CONTRIBUTING.md."""

from __future__ import annotations

from pathlib import Path

from tests.cases import for_each
from tests.glossary import ROOT, offenders, python_offenders, replaced_words

#: Texts that have a replaced word for a reason, by module.
ALLOWED = {
    "stages/chat_completions/error_patterns.py": {"upstream": "wordings of backends"},
    "tests/stages/chat_completions/test_error_shapes.py": {"upstream": "wordings of backends"},
    "tests/stages/chat_completions/test_overflow_patterns.py": {"upstream": "wordings of backends"},
    "tests/wire/test_faults.py": {"upstream": "the message of a backend"},
}
#: Modules that list the words.
ABOUT_WORDS = ("tests/glossary.py", "tests/test_glossary.py")
CODE = ("llm_proxy.py", "pipeline", "proxy", "stages", "tests")
#: Folders and files whose text is not Python, or has no suffix.
OTHERS = (
    *(".ci", ".env.example", "Justfile", "MANIFEST.in", "deploy", "pipelines.yaml"),
    *("pyproject.toml", "stages", "tests/live/truths.yaml"),
)
NOT_READ = (".py", ".pyc", ".min.js", ".min.css", ".iife.min.js", ".LICENSE.txt")
#: Words that are part of another program's syntax, by file.
SYNTAX = {
    "deploy/nginx.conf": {"upstream": "nginx's"},
    "stages/profiles/shipped/gemini.yaml": {"else": "a keyword of JSON Schema"},
}


def modules(*roots: str) -> list[Path]:
    paths = [ROOT / root for root in roots]
    files = [path for root in paths for path in ([root] if root.is_file() else root.rglob("*.py"))]
    return [path for path in files if path.relative_to(ROOT).as_posix() not in ABOUT_WORDS]


def replaced(path: Path) -> list[str]:
    """The places of a module that have a replaced word without a reason."""
    name = path.relative_to(ROOT).as_posix()
    allowed = ALLOWED.get(name, {})
    return [
        f"{name}:{line}: {word!r} in: {around}"
        for line, word, around in python_offenders(path)
        if word.lower() not in allowed
    ]


def test_code_has_no_word_that_the_table_replaces() -> None:
    places = [place for path in modules(*CODE) for place in replaced(path)]

    assert not places, "\n".join(["see the section Words of CONTRIBUTING.md:", *places])


def other_files() -> list[Path]:
    paths = [ROOT / name for name in OTHERS]
    files = [path for root in paths for path in ([root] if root.is_file() else root.rglob("*"))]
    return [path for path in files if path.is_file() and not path.name.endswith(NOT_READ)]


def replaced_in_text(path: Path) -> list[str]:
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text()
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}"
        for match in offenders(text)
        if match[0].lower() not in SYNTAX.get(name, {})
    ]


def test_other_files_have_no_word_that_the_table_replaces() -> None:
    files = other_files()
    names = {path.relative_to(ROOT).as_posix() for path in files}
    expected = {".ci/installed", "deploy/llm-proxy.service", "stages/page/templates/page.html"}

    assert expected <= names
    assert not [place for path in files for place in replaced_in_text(path)]


def test_each_exception_is_needed() -> None:
    unused = [
        f"{name}: {word}"
        for name, words in ALLOWED.items()
        for word in words
        if word not in {place[1].lower() for place in python_offenders(ROOT / name)}
    ]

    assert not unused, "remove these from ALLOWED"


@for_each(
    ("text", "words"),
    [
        ("The client is told once.", ["told"]),
        ("It declares, declared, a declaration.", ["declares", "declared", "declaration"]),
        ("The answer comes; you answer.", ["The answer"]),
        ("one thing; else another", ["else"]),
        ("It stands\n    in front\n    of it.", ["stands", "in front\n    of"]),
        ("We recommend a standard chatroom besides, held back.", []),
    ],
)
def test_replaced_words_are_found_in_their_forms(text: str, words: list[str]) -> None:
    assert [match[0] for match in offenders(text)] == words


def test_identifiers_comments_and_strings_are_read(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('def is_told(a: str = "anew") -> None:  # behind\n    class WarRoom: ...\n')

    places = [(line, word) for line, word, _ in python_offenders(module)]

    assert places == [(1, "told"), (1, "anew"), (1, "behind"), (2, "Room")]


def test_the_words_are_those_of_the_page() -> None:
    assert {"declaration", "told", "under way"} <= set(replaced_words())
