"""One proxy for most tests here, in front of a backend that each test scripts anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import frozen

from tests.wire.backend import ScriptedBackend
from tests.wire.client import Client
from tests.wire.proxy import declaration, proxy


@frozen
class Lasting:
    backend: ScriptedBackend
    url: str


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    backend = ScriptedBackend()
    with proxy(tmp_path_factory.mktemp("proxy"), declaration(backend.url)) as url:
        yield Lasting(backend, url)
    backend.close()


@pytest.fixture
def backend(lasting: Lasting) -> Iterator[ScriptedBackend]:
    yield lasting.backend
    lasting.backend.forget()


@pytest.fixture
def url(lasting: Lasting, backend: ScriptedBackend) -> str:
    return lasting.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    made = Client(url)
    yield made
    made.leave()
