"""Parameters of a Messages request as Chat Completions options."""

from __future__ import annotations

import hashlib
from typing import Any

from stages.chat_completions.stop_sequences import divide_stop_sequences
from stages.messages_api.request import MessagesRequest
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies
from stages.translation.reasoning_options import reasoning_options
from stages.translation.structured_output import form_options
from stages.translation.tools import tool_options

# What is not read, but has a policy of its own.
_TOLD = (
    "cache_control",
    "container",
    "container.skills",
    "context_management",
    "diagnostics",
    "inference_geo",
    "mcp_servers",
    "service_tier",
    "speed",
)


def request_options(
    request: MessagesRequest, profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """Everything but `model`, `messages`, `stream` and the limit, in the backend's names."""
    chosen = _sampling(request, profile, fields)
    streamed = profile.stream == "always" or request.stream
    if profile.stream_options and (
        streamed or divide_stop_sequences(request.stop_sequences, profile)[1]
    ):
        chosen["stream_options"] = {"include_usage": True}
    chosen |= reasoning_options(request, profile, fields)
    chosen |= form_options(request, profile, fields)
    user = request.metadata.user_id if request.metadata else None
    if user and fields.allows("metadata"):
        chosen["safety_identifier"] = hashlib.sha256(user.encode()).hexdigest()
    for name in request.unknown_fields:
        fields.allows(name if name in _TOLD else "unknown", name)
    if request.output_config.task_budget:
        fields.allows("unknown", "output_config.task_budget")
    return {**chosen, **tool_options(request, profile, fields)}


def _sampling(request: MessagesRequest, profile: Profile, fields: FieldPolicies) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(request, name)
        if value is not None and fields.allows(name):
            chosen[name] = value
    if request.stop_sequences and fields.allows("stop_sequences"):
        sent, _ = divide_stop_sequences(request.stop_sequences, profile)
        if sent:
            chosen["stop"] = sent
    return chosen
