"""A Messages request as a Chat Completions request."""

from __future__ import annotations

from stages.backends.profile import Profile
from stages.events import ChatRequest, Resolved
from stages.translation.conversation import conversation
from stages.translation.fields import Fields
from stages.translation.options import options
from stages.translation.tools import client_names, one_call, requires_tool


def chat_request(resolved: Resolved, profile: Profile, strict: bool = False) -> ChatRequest:
    """Translate. Raises InvalidRequestError for what this backend cannot be given.

    With `strict`, that is everything that would be dropped or changed.
    """
    fields = Fields(profile.fields, strict)
    request = resolved.request
    messages = conversation(request, resolved.target.backend, profile, fields)
    chosen = options(request, profile, fields)
    if messages and messages[-1]["role"] == "assistant":
        chosen |= profile.prefill_options
    elif profile.forced_tool_prefill and requires_tool(request) and "tool_choice" in chosen:
        messages.append({"role": "assistant", "content": profile.forced_tool_prefill})
    return ChatRequest(
        resolved,
        messages,
        chosen,
        fields.notes(),
        fields.changes(),
        renamed=client_names(request, profile),
        one_call=one_call(request, fields),
        think_tags=profile.think_tags,
    )
