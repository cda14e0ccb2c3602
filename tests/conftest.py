"""What all tests share. Coroutines run on asyncio and on trio unless a module says otherwise."""

import pytest

pytest_plugins = ["tests.secrets"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
