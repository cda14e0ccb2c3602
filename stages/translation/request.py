"""A Messages request as a Chat Completions request."""

from __future__ import annotations

from stages.backends.profile import Profile
from stages.events import ChatRequest, Resolved
from stages.translation.conversation import conversation
from stages.translation.notes import Notes
from stages.translation.options import options, requires_tool


def chat_request(resolved: Resolved, profile: Profile) -> ChatRequest:
    """Translate. Raises InvalidRequestError for what this backend cannot be given."""
    notes = Notes()
    request = resolved.request
    messages = conversation(request, profile, notes)
    prefilled = messages[-1:] and messages[-1]["role"] == "assistant"
    if profile.forced_tool_prefill and requires_tool(request) and not prefilled:
        messages.append({"role": "assistant", "content": profile.forced_tool_prefill})
    chosen = options(request, profile, notes)
    return ChatRequest(resolved, messages, chosen, notes.listed())
