"""The report of a model's abilities."""

from __future__ import annotations

from typing import Any

from anthropic.types import ModelCapabilities

from stages.profiles.capabilities import capabilities
from stages.profiles.describe import profile_named
from stages.profiles.profile import profiles
from tests.cases import for_each
from tests.support import profile

EFFORT = {"fields": {"output_config.effort": "map"}, "reasoning_request": "effort"}


@for_each("name", profiles())
def test_every_member_that_the_sdk_knows_is_reported(name: str) -> None:
    reported = capabilities(profile_named(name))
    read = ModelCapabilities.model_validate(reported, strict=True)
    assert read.model_dump() == reported


@for_each(
    ("options", "path", "supported"),
    [
        ({}, "image_input", True),
        ({"fields": {"image.base64": "reject"}}, "image_input", False),
        ({}, "pdf_input", True),
        ({"fields": {"document.pdf": "warn"}}, "pdf_input", False),
        ({}, "structured_outputs", True),
        ({"fields": {"output_config.format": "emulate"}}, "structured_outputs", True),
        ({"fields": {"output_config.format": "reject"}}, "structured_outputs", False),
        ({}, "thinking", False),
        ({}, "thinking.types.enabled", False),
        ({}, "thinking.types.disabled", True),
        ({}, "thinking.types.between_tools", False),
        ({"fields": {"thinking": "map"}, "reasoning_request": "effort"}, "thinking", True),
        ({}, "effort.low", False),
        ({**EFFORT}, "effort", True),
        ({**EFFORT}, "effort.high", True),
        ({**EFFORT}, "effort.max", False),
    ],
)
def test_an_ability_is_a_fact_of_the_profile(
    options: dict[str, Any], path: str, supported: bool
) -> None:
    reported = capabilities(profile(**options))
    for step in path.split("."):
        reported = reported[step]
    assert reported["supported"] is supported
