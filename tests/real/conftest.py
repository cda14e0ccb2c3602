"""The shipped pipelines in front of the embedded model, once for all tests here."""

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
    declaration = read(str(SHIPPED), environ={})
    with serving(declaration) as url:
        yield Real(url, declaration)


@pytest.fixture
def client(real: Real) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=real.url, api_key="any", max_retries=0, timeout=120) as made:
        yield made
