"""The built wheel: each file of the product, and each package it imports."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pypdf import PdfReader
from setuptools import Distribution
from setuptools.command.build_py import build_py
from setuptools.config.pyprojecttoml import apply_configuration

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("pipeline", "proxy", "stages")
#: Imported on trio alone, so by programs that have brought it.
OF_TRIO = {"outcome", "trio"}


def sources() -> set[str]:
    """The files of the product, relative to the root."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    kept = [path for path in files if path.is_file() and "__pycache__" not in path.parts]
    return {"llm_proxy.py", *(path.relative_to(ROOT).as_posix() for path in kept)}


def built(root: Path) -> set[str]:
    """The files that setuptools takes into the wheel of the project in `root`."""
    with contextlib.chdir(root):
        distribution = Distribution({"script_name": "setup.py"})
        apply_configuration(distribution, "pyproject.toml")
        command = distribution.get_command_obj("build_py")
        assert isinstance(command, build_py)
        command.ensure_finalized()
        return set(command.get_output_mapping().values())


def test_the_wheel_has_the_product_s_files_and_no_others() -> None:
    assert built(ROOT) == sources()


@pytest.mark.parametrize("lost", ["stages/new/__init__.py", "proxy/new.yaml", "stages/a/b.jinja"])
def test_a_new_package_and_new_data_are_in_the_wheel(tmp_path: Path, lost: str) -> None:
    for name in ("pyproject.toml", "README.md", "llm_proxy.py", "proxy/__init__.py"):
        result = tmp_path / name
        result.parent.mkdir(exist_ok=True)
        result.write_text((ROOT / name).read_text())
    new = tmp_path / lost
    for folder in (tmp_path / "stages", new.parent):
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
    new.touch()

    assert lost in built(tmp_path)


def imports() -> Iterator[tuple[str, str]]:
    """Each top-level name that the product imports anywhere, with the file."""
    for file in sorted(sources()):
        if file.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / file).read_text())):
                if isinstance(node, ast.Import):
                    yield from ((alias.name.partition(".")[0], file) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module.partition(".")[0], file


def requirements() -> dict[str, Requirement]:
    """The product's own requirements, without what only its developers need."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *extras["embedded"], *extras["otel"], *extras["shared"]]
    return {canonicalize_name(item.name): item for item in map(Requirement, lines)}


def test_row_a6_each_import_is_of_a_configured_distribution() -> None:
    names, ours = packages_distributions(), {"llm_proxy", *PACKAGES}
    allowed = requirements().keys()

    foreign = {
        (name, file)
        for name, file in imports()
        if name not in sys.stdlib_module_names | ours | OF_TRIO
        and not allowed & set(map(canonicalize_name, names.get(name, ())))
    }

    assert foreign == set()
    assert len(allowed) > 20


def test_row_a6_trio_is_imported_inside_functions_alone() -> None:
    tops = [
        ast.unparse(node)
        for file in sources()
        if file.endswith(".py")
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]

    assert len(tops) > 500
    assert [top for top in tops if re.search(r"\b(trio|outcome)\b", top)] == []


def test_row_a6_pypdf_brings_decryption_and_fonts() -> None:
    extras = requirements()["pypdf"].extras
    brought = {
        item.name
        for item in map(Requirement, requires("pypdf") or ())
        if item.marker and any(item.marker.evaluate({"extra": extra}) for extra in extras)
    }

    assert brought >= {"cryptography", "fonttools"}


def test_row_a6_a_font_with_its_own_encoding_file_is_read() -> None:
    """Without fonttools it would be control characters, and a warning in the log."""
    (page,) = PdfReader(Path(__file__).with_name("own-encoding.pdf")).pages

    assert page.extract_text() == "Hi"
