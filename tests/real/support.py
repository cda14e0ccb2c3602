"""Helpers of the tests with the real model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

from pipeline.config.schema import Config
from stages.backends.backend import Backend

SHIPPED = Path(__file__).parents[2] / "pipelines.yaml"
#: For commands that run in this process: without variables that change the config.
ENVIRON = {"LLM_PROXY_CONFIG": None, "PROXY_API_KEY": None}
HELLO: Any = [{"role": "user", "content": "Say hello."}]


@frozen
class Real:
    """A proxy for the embedded model."""

    url: str
    config: Config


async def embedded_url(real: Real) -> str:
    """The root URL of the model server. The proxy has to have opened it before."""
    backend: Backend = real.config.sections["backends"]["local"]
    return (await backend.open()).base_url.removesuffix("/v1")
