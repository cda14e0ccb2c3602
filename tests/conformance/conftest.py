"""One proxy for all rows, in front of a backend that each test scripts anew."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from tests.conformance.support import DECLARATION, Talk
from tests.wire.client import Client
from tests.wire.proxy import BESIDE_MESSAGES, Lasting, lasting_proxy


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    folder = tmp_path_factory.mktemp("conformance")
    with lasting_proxy(folder, lambda url: DECLARATION.format(url=url) + BESIDE_MESSAGES) as made:
        yield made


@pytest.fixture
def talk(lasting: Lasting) -> Iterator[Talk]:
    backend, url = lasting.backend, lasting.url
    client = Client(url)
    with anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0) as sdk:
        yield Talk(url, backend, sdk, client)
    client.leave()
    backend.forget()
