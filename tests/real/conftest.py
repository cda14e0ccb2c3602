"""The shipped pipelines in front of the embedded model, once for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest
from attrs import frozen

from pipeline.declaration import Declaration
from proxy.declaration import read
from tests.wire.support import serving

SHIPPED = Path(__file__).parents[2] / "pipelines.yaml"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the official SDK's own


@frozen
class Real:
    url: str
    declaration: Declaration


@pytest.fixture(scope="session")
def real() -> Iterator[Real]:
    declaration = read(str(SHIPPED), environ={})
    with serving(declaration) as url:
        yield Real(url, declaration)


@pytest.fixture
def client(real: Real) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=real.url, api_key="any", max_retries=0, timeout=30) as made:
        yield made
