"""One proxy for all rows, in front of a backend that each test scripts anew."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from tests.conformance.support import DECLARATION, Talk
from tests.wire.backend import ScriptedBackend
from tests.wire.client import Client
from tests.wire.proxy import proxy


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedBackend, str]]:
    backend = ScriptedBackend()
    text = DECLARATION.format(url=backend.url)
    with proxy(tmp_path_factory.mktemp("conformance"), text) as url:
        yield backend, url
    backend.close()


@pytest.fixture
def talk(served: tuple[ScriptedBackend, str]) -> Iterator[Talk]:
    backend, url = served
    client = Client(url)
    with anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0) as sdk:
        yield Talk(url, backend, sdk, client)
    client.leave()
    backend.forget()
