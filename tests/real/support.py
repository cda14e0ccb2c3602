"""What tests with the real model share."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from pipeline.config.schema import Config
from stages.backends.backend import Backend

SHIPPED = Path(__file__).parents[2] / "pipelines.yaml"
#: For commands that are called in this process: without what would change what they read.
ENVIRON = {"LLM_PROXY_CONFIG": None, "PROXY_API_KEY": None}


@frozen
class Real:
    """A proxy in front of the embedded model."""

    url: str
    declaration: Config


async def embedded_url(real: Real) -> str:
    """Where the model listens by itself; it is open, so that opening gives what is there."""
    backend: Backend = real.declaration.sections["backends"]["local"]
    return (await backend.open()).base_url.removesuffix("/v1")
