"""One proxy for all rows, with a backend that each test scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.support import CONFIG, Talk
from tests.wire.agents import sdk
from tests.wire.client import Client
from tests.wire.proxy import OTHER_PIPELINES, SharedProxy, proxy_with_backend


@pytest.fixture(scope="session")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    folder = tmp_path_factory.mktemp("conformance")
    with proxy_with_backend(folder, lambda url: CONFIG.format(url=url) + OTHER_PIPELINES) as made:
        yield made


@pytest.fixture
def talk(shared_proxy: SharedProxy) -> Iterator[Talk]:
    backend, url = shared_proxy.backend, shared_proxy.url
    client = Client(url)
    with sdk(url) as official:
        yield Talk(url, backend, official, client)
    client.close()
    backend.forget()
