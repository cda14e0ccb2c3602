"""What tests with the real model share."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from pipeline.declaration import Declaration

SHIPPED = Path(__file__).parents[2] / "pipelines.yaml"


@frozen
class Real:
    """A proxy in front of the embedded model."""

    url: str
    declaration: Declaration
