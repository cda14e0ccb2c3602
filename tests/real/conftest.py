"""The shipped pipelines with the embedded model: one proxy for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from proxy.config import read
from tests.real.support import SHIPPED, Real
from tests.wire.proxy import serving


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the official SDK's own


@pytest.fixture(scope="session")
def real() -> Iterator[Real]:
    config = read(str(SHIPPED), environ={})
    with serving(config) as url:
        yield Real(url, config)


@pytest.fixture
def client(real: Real) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=real.url, api_key="any", max_retries=0, timeout=120
    ) as client:
        yield client
