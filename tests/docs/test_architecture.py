"""The packages in docs/architecture.md are those of the code, and so are the imports."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.page.recent import _KEPT
from tests.docs.pages import ROOT, Page

PAGE = Page("docs/architecture.md").text
PACKAGES = ("pipeline", "stages", "proxy")
#: The table: what each package may import.
ROWS: dict[str, str] = dict(re.findall(r"^\| `([\w/]+)` \|(.*)\|$", PAGE, re.MULTILINE))
_IMPORT = re.compile(r"^ *(?:from|import) ((?:pipeline|stages|proxy)\b[\w.]*)", re.MULTILINE)


def allowed(package: str) -> tuple[str, ...]:
    """The packages and modules that `package` may import; the empty name is every package."""
    row = ROWS[package]
    names = re.findall(r"`([\w/]+)(?:\.py)?`", row)
    return (package, *names, *([""] if row.strip() == "every package" else []))


def package_of(path: str) -> str:
    return max((package for package in ROWS if within(path, package)), key=len)


def within(path: str, package: str) -> bool:
    return not package or path == package or path.startswith(f"{package}/")


def imports() -> Iterator[tuple[str, str]]:
    """Each module of the project with what it imports, as paths without suffix."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            module = str(file.relative_to(ROOT).with_suffix(""))
            for name in _IMPORT.findall(file.read_text()):
                yield module, name.replace(".", "/")


def test_each_package_imports_what_the_table_says() -> None:
    foreign = [
        (module, path)
        for module, path in imports()
        if not any(within(path, other) for other in allowed(package_of(module)))
    ]

    assert not foreign


def test_each_folder_is_a_package() -> None:
    folders = [
        str(file.parent.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).glob("*/__init__.py")
    ]

    assert {*folders, *PACKAGES} - {"pipeline/config"} == ROWS.keys()
    assert all(f"{folder.rpartition('/')[2]}/" in PAGE for folder in folders)


def test_the_picture_shows_the_shipped_chain_in_its_order() -> None:
    shipped = (ROOT / "pipelines.yaml").read_text().partition("count-tokens:\n")[0]
    stages = re.findall(r"^      - ([\w-]+)", shipped, re.MULTILINE)

    assert re.findall(r"^│ ([\w-]+)(?:  |$)", PAGE, re.MULTILINE) == stages


def test_the_picture_names_modules_that_exist() -> None:
    picture = PAGE.partition("```text\n")[2].partition("```")[0]
    rows = re.findall(r"(stages/\w+)  ([a-z_, ]+)", picture)

    assert len(rows) > 4
    missing = [
        f"{folder}/{name}"
        for folder, names in rows
        for name in re.findall(r"\w+", names)
        if not (ROOT / folder / f"{name}.py").is_file()
    ]
    assert not missing


def test_both_pages_have_the_number_of_kept_exchanges() -> None:
    operations = Page("docs/operations.md").text

    assert f"in the same second, it keeps the first {_KEPT}." in PAGE
    assert f"It keeps at most {_KEPT} exchanges in a second" in operations
