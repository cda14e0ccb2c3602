"""The parameters of a Messages request as Chat Completions options."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from stages.messages_api.request import MessagesRequest
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies

# Fields that are not translated, but have a policy of their own. All others share `unknown`.
_OWN_POLICY = (
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


def divide_stop_sequences(
    sequences: Sequence[str], profile: Profile
) -> tuple[list[str], tuple[str, ...]]:
    """Return the stop sequences to send, and those to scan for: all, if it cannot get all."""
    policy = profile.fields["stop_sequences"]
    if policy not in ("map", "emulate"):
        return [], ()
    sent = list(sequences[: profile.max_stop_sequences]) if policy == "map" else []
    return sent, tuple(sequences) if len(sent) < len(sequences) else ()


def request_options(
    request: MessagesRequest,
    profile: Profile,
    fields: FieldPolicies,
    stop: Sequence[str],
    streams: bool,
) -> dict[str, Any]:
    """Translate sampling options, `stop` and metadata. Report the fields that are not translated.

    `stop` are the stop sequences to send. `streams`: the backend is asked for a stream.
    """
    options: dict[str, Any] = {}
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(request, name)
        if value is not None and fields.allows(name):
            options[name] = value
    if request.stop_sequences and fields.allows("stop_sequences") and stop:
        options["stop"] = stop
    if streams and profile.stream_options:
        options["stream_options"] = {"include_usage": True}
    user = request.metadata.user_id if request.metadata else None
    if user and fields.allows("metadata"):
        options["safety_identifier"] = hashlib.sha256(user.encode()).hexdigest()
    for name in request.unknown_fields:
        fields.allows(name if name in _OWN_POLICY else "unknown", name)
    if request.output_config.task_budget:
        fields.allows("unknown", "output_config.task_budget")
    return options
