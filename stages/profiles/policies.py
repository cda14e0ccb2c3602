"""Policies: how a profile treats each field of a request.

Each profile has a policy for each field, as data (`fields` in `profiles/shipped/*.yaml`):

    map      send its equivalent in the backend's protocol
    emulate  do the work in the proxy
    drop     leave it out; the client cannot notice the difference
    warn     leave it out or change it, and report that to the client; with `strict`, refuse it
    reject   refuse the request, because a response without the field would mislead
"""

from __future__ import annotations

from typing import Literal

Policy = Literal["map", "emulate", "drop", "warn", "reject"]

#: Every field with a policy, and the policies that keep it; empty: it cannot be kept.
SUPPORTED: dict[str, str] = {
    "max_tokens": "map",
    "system": "map",
    "system.attribution": "map",
    "temperature": "map",
    "top_p": "map",
    "top_k": "map",
    "stop_sequences": "map or emulate",
    "stream": "map",
    "thinking": "map",
    "output_config.effort": "map",
    "output_config.format": "map or emulate",
    "metadata": "map",
    "cache_control": "",
    "service_tier": "",
    "context_management": "",
    "container": "",
    "container.skills": "",
    "diagnostics": "",
    "inference_geo": "",
    "speed": "",
    "mcp_servers": "",
    "unknown": "",
    "tools": "map",
    "tools.strict": "map",
    "tools.input_examples": "emulate",
    "tools.allowed_callers": "",
    "client_tools": "emulate",
    "tool_search": "emulate",
    "server_tools": "",
    "server_tools.alone": "",
    "tool_choice": "map",
    "disable_parallel_tool_use": "map or emulate",
    "prefill": "map",
    "text": "map",
    "image.base64": "map",
    "image.url": "map",
    "image.file": "",
    "document.text": "emulate",
    "document.content": "emulate",
    "document.pdf": "map or emulate",
    "document.url": "",
    "document.file": "",
    "document.citations": "",
    "search_result": "emulate",
    "thinking_block": "map",
    "redacted_thinking": "",
    "tool_use": "map",
    "tool_result": "map",
    "tool_result.image": "emulate",
    "tool_result.is_error": "emulate",
    "tool_reference": "emulate",
    "browser_state": "emulate",
    "server_tool_blocks": "",
    "container_upload": "",
    "system_message": "map or emulate",
    "compaction": "emulate",
    "unknown_block": "",
}


#: Fields that are always `map`: a request consists of them.
REQUIRED = ("max_tokens", "system", "stream", "tools", "text", "tool_use", "tool_result")


def policy_error(name: str, policy: str) -> str:
    """Why the field `name` cannot have this policy; empty if it can."""
    if name not in SUPPORTED:
        return f"there is no field `{name}`"
    if name in REQUIRED and policy != "map":
        return f"`{name}` is always `map`: there is no request without it"
    if policy in ("map", "emulate") and policy not in SUPPORTED[name].split(" or "):
        return f"`{name}` cannot be `{policy}`: it would do nothing"
    return ""
