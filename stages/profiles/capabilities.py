"""The capabilities of a model for `GET /v1/models`, from the facts of its profile.

Source of the members: the official SDK's `ModelCapabilities`.
"""

from __future__ import annotations

from typing import Any

from stages.profiles.profile import Profile

_LEVELS = ("low", "medium", "high", "xhigh", "max")
_STRATEGIES = ("clear_thinking_20251015", "clear_tool_uses_20250919", "compact_20260112")


def capabilities(profile: Profile) -> dict[str, Any]:
    """All members of `ModelCapabilities`. An approximation of a level or mode is not supported."""

    def kept(field: str) -> bool:
        return profile.fields[field] in ("map", "emulate")

    effort = kept("output_config.effort")
    levels = {level: _supported(effort and level in profile.effort_levels) for level in _LEVELS}
    thinking = kept("thinking")
    no = _supported(False)
    kinds = {
        "adaptive": _supported(thinking),
        "between_tools": no,
        "disabled": _supported(True),
        "enabled": _supported(thinking),
    }
    return {
        "batch": no,
        "citations": _supported(kept("document.citations")),
        "code_execution": no,
        "context_management": {**no, **dict.fromkeys(_STRATEGIES, no)},
        "effort": {**_supported(effort), **levels},
        "image_input": _supported(kept("image.base64")),
        "pdf_input": _supported(kept("document.pdf")),
        "server_tools": {**no, "code_execution": no, "web_search": no},
        "structured_outputs": _supported(kept("output_config.format")),
        "thinking": {**_supported(thinking), "types": kinds},
    }


def _supported(supported: bool) -> dict[str, bool]:
    return {"supported": supported}
