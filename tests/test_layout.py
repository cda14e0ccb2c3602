"""The rules of the layout: who may import whom, and how large a module may be."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from stages import REGISTRY

ROOT = Path(__file__).parent.parent
MODULES = [
    ROOT / "llm_proxy.py",
    *(
        path
        for package in ("pipeline", "stages", "proxy")
        for path in (ROOT / package).rglob("*.py")
    ),
]
# Imports point one way: proxy -> stages -> pipeline.
FORBIDDEN = {"pipeline": ("stages", "proxy"), "stages": ("proxy",), "proxy": (), "llm_proxy.py": ()}
NOT_FOR_THE_ENGINE = (
    "aiohttp",
    "httpx2",
    "langchain_core",
    "langchain_openai",
    "starlette",
    "uvicorn",
)
LANGCHAIN = ("langchain_core", "langchain_openai", "langsmith")
MAX_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_TEST_LINES = 400
MAX_NAME = 65  # with `test_`; a row's name is a part of it


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imported(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def top_level(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def by_path(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_point_one_way() -> None:
    upward = [
        f"{by_path(path)} imports {name}"
        for path in MODULES
        for name in top_level(path) & set(FORBIDDEN[path.relative_to(ROOT).parts[0]])
    ]

    assert not upward


def test_the_engine_knows_no_http_and_no_language_model() -> None:
    names = [
        f"{by_path(path)} imports {name}"
        for path in MODULES
        if by_path(path).startswith("pipeline/")
        for name in top_level(path) & set(NOT_FOR_THE_ENGINE)
    ]

    assert not names


def test_langchain_is_touched_in_one_module() -> None:
    touching = [by_path(path) for path in MODULES if top_level(path) & set(LANGCHAIN)]

    assert touching == ["stages/backends/langchain.py"]


def test_row_a5_pypdf_is_only_in_its_own_process() -> None:
    """Work that may take minutes runs only in a process that can be killed."""
    names = {by_path(path): set(imported(path)) for path in MODULES}
    touching = [path for path, matches in names.items() if matches & {"pypdf", "stages.pdf.worker"}]

    assert touching == ["stages/pdf/worker.py"]


def test_translation_is_pure_and_synchronous() -> None:
    translation = [path for path in MODULES if by_path(path).startswith("stages/translation/")]
    impure = [
        by_path(path)
        for path in translation
        if top_level(path) & {"anyio", "logging", "os", "pathlib", "time"}
        or any(isinstance(node, (ast.AsyncFunctionDef, ast.Await)) for node in nodes(path))
    ]

    assert translation
    assert not impure


def test_modules_and_functions_fit_a_reader() -> None:
    long = []
    for path in MODULES:
        text = path.read_text()
        if len(text.splitlines()) > MAX_LINES:
            long.append(by_path(path))
        long += [
            f"{by_path(path)}: {node.name}"
            for node in nodes(path)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
        ]

    assert not long


def test_test_modules_and_their_names_fit_a_reader() -> None:
    long = []
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        if len(text.splitlines()) > MAX_TEST_LINES:
            long.append(by_path(path))
        names = re.findall(r"^ *(?:async )?def (\w+)", text, re.MULTILINE)
        long += [f"{by_path(path)}: {name}" for name in names if len(name) > MAX_NAME]

    assert not long


def test_each_stage_is_a_module_with_a_test_of_its_own() -> None:
    modules = {name: name.replace("-", "_") for name in REGISTRY.builtin}
    lost = [
        name
        for name, module in modules.items()
        if not (ROOT / "stages" / f"{module}.py").is_file()
        or not (ROOT / "tests" / "stages" / f"test_{module}.py").is_file()
        or REGISTRY.get(name).__module__ != f"stages.{module}"
    ]

    assert modules
    assert not lost


def test_there_is_one_broad_except() -> None:
    broad = [
        by_path(path)
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]

    assert broad == ["proxy/endpoint.py"]


def test_packages_side_by_side_do_not_import_each_other() -> None:
    """Each of them can be read, tested, or replaced alone."""
    forbidden = {
        "translation": ("backends", "tool_repair"),
        "backends": ("translation", "tool_repair"),
        "tool_repair": ("translation", "backends"),
        "chat_completions": ("translation", "backends", "tool_repair"),
    }
    crossing = [
        f"{by_path(path)} imports {name}"
        for package, others in forbidden.items()
        for path in (ROOT / "stages" / package).rglob("*.py")
        for name in imported(path)
        if f"{name}.".startswith(tuple(f"stages.{other}." for other in others))
    ]

    assert not crossing


def test_no_module_imports_itself_through_others() -> None:
    imports = {module_name(path): set(module_imports(path)) for path in MODULES}
    while leaves := {name for name, names in imports.items() if not names & imports.keys()}:
        imports = {name: names - leaves for name, names in imports.items() if name not in leaves}

    assert not imports


def module_name(path: Path) -> str:
    return by_path(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def module_imports(path: Path) -> Iterator[str]:
    """The modules that a module imports when it is imported itself, not within a function."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
