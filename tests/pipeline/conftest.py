"""Undo the imports of each test: loading makes modules next to a config importable."""

import importlib
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _imports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    importlib.invalidate_caches()
    yield
    sys.path[:] = path
    result = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(result):
            del sys.modules[name]
