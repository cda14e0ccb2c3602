"""One proxy for most tests here, with a backend that each test scripts.

A module whose tests need another one has a fixture `lasting` of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from tests.wire.backend import ScriptedBackend
from tests.wire.client import Client
from tests.wire.command import RELOADABLE, Reloadable, command
from tests.wire.proxy import SharedProxy, config_text, proxy_with_backend

# LangChain is imported here. Otherwise its import falls into the first test that calls a backend,
# takes longer than that test's timeouts, and raises the warnings of other libraries as errors.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stages.backends.langchain  # noqa: F401


@pytest.fixture(scope="session")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    with proxy_with_backend(tmp_path_factory.mktemp("proxy"), config_text) as client:
        yield client


@pytest.fixture(scope="session")
def reloadable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloadable]:
    """The installed command, which reads its config again at SIGHUP alone."""
    file = tmp_path_factory.mktemp("reloadable") / "pipelines.yaml"
    text = config_text("http://127.0.0.1:1")
    file.write_text(f"server: {{{RELOADABLE}}}\n{text}")
    with command(file, at_most=600) as running:
        yield Reloadable(running, file)


@pytest.fixture
def backend(shared_proxy: SharedProxy) -> Iterator[ScriptedBackend]:
    yield shared_proxy.backend
    shared_proxy.backend.forget()


@pytest.fixture
def url(shared_proxy: SharedProxy, backend: ScriptedBackend) -> str:
    return shared_proxy.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    client = Client(url)
    yield client
    client.close()
