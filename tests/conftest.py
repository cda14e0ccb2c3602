"""Fixtures and hooks of all tests. Coroutines run on asyncio and on trio; a module may choose."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator

import pytest

# Write bytecode, before the first large import. Otherwise each worker of pytest-xdist, and each
# command, compiles LangChain and rewrites the assertions of Hypothesis: 3 s of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import hypothesis  # noqa: E402

pytest_plugins = ["tests.secrets"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "untraced: without coverage, since it repeats much work")
    # No deadline: the machine may be busy. The examples are the same in each run.
    hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
    hypothesis.settings.load_profile("tests")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without garbage collection, and exclude their modules from later ones.

    Each full garbage collection would visit the objects of LangChain and of all tests. Python's
    default threshold of 700 would take a sixth of the time of all tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()  # the classes that attrs replaced by those with slots
        gc.freeze()
        gc.set_threshold(20_000)  # as the command: the tests make many objects, and few cycles
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Unblock SIGHUP, which `serve` blocks: commands of later tests would inherit it.

    Collect the garbage of a test that filters warnings, while its filters apply. An object that is
    deleted later can warn during any other test, and fail it.
    """
    result = yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    if item.get_closest_marker("filterwarnings"):
        gc.collect()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Run a test without coverage if it is of Hypothesis, or is marked `untraced`.

    Coverage doubles the time of such tests, and what random input happens to cover is no measure.
    The marker `no_cover` of pytest-cov would also stop coverage in the threads of shared proxies.
    """
    trace = sys.gettrace()
    untraced = item.get_closest_marker("untraced") or item.get_closest_marker("hypothesis")
    if untraced:
        sys.settrace(None)
    try:
        return (yield)
    finally:
        if untraced:
            sys.settrace(trace)
