"""A Messages request as a Chat Completions request."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

from stages.chat_completions.stop_sequences import divide_stop_sequences
from stages.chat_completions.think_tags import THINK
from stages.chat_completions.token_calibration import TokenEstimate
from stages.chat_completions.usage import estimate_prompt_tokens
from stages.events import ChatRequest, OpaqueMembers, Resolved
from stages.messages_api.request import MessagesRequest
from stages.profiles.profile import Profile
from stages.translation.conversation import conversation
from stages.translation.envelope import owner_of
from stages.translation.field_policies import FieldPolicies, PdfTexts
from stages.translation.output_limit import output_limit
from stages.translation.reasoning import without_history
from stages.translation.request_options import request_options
from stages.translation.tools import client_names, one_call, requires_tool

_UNCALIBRATED = TokenEstimate()


def chat_request(
    resolved: Resolved,
    profile: Profile,
    strict: bool = False,
    line: TokenEstimate = _UNCALIBRATED,
    pdfs: PdfTexts | None = None,
) -> ChatRequest:
    """Translate. Raises UnsupportedError for what this backend cannot be given.

    With `strict`, that is everything that would be dropped or changed. `line` gives the tokens of
    a prompt by its size. `pdfs`: see PdfTexts.
    """
    pdfs = {} if pdfs is None else pdfs
    fields = FieldPolicies(profile.fields, strict, pdfs)
    request, target = resolved.request, resolved.target
    messages = conversation(request, owner_of(target.backend, target.model), profile, fields)
    chosen = without_history(request_options(request, profile, fields), messages, profile, fields)
    stops = divide_stop_sequences(request.stop_sequences, profile)[1]
    repeated = _begun(request, profile, messages, chosen)
    size = estimate_prompt_tokens(messages, chosen.get("tools", ()))
    if request.max_tokens is not None:
        chosen[profile.max_tokens_field] = output_limit(request.max_tokens, profile.context_window)
    return ChatRequest(
        resolved,
        messages,
        _over(profile.body, chosen) if profile.body else chosen,
        fields.degradations(),
        client_tool_names=client_names(request, profile),
        single_tool_call=one_call(request, fields),
        think_tags=THINK if profile.think_tags else (),
        scanned_stop_sequences=stops,
        always_streams=profile.stream == "always",
        opaque=_opaque(profile),
        echoed_prefill="" if request.stream or stops or profile.stream == "always" else repeated,
        context_window=profile.context_window,
        raw_estimate=size,
        estimate=line.tokens(size),
        retranslate=partial(chat_request, resolved, strict=strict, line=line, pdfs=pdfs),
    )


def _opaque(profile: Profile) -> OpaqueMembers:
    return _opaque_members(
        profile.returned_call_members,
        profile.returned_message_members,
        profile.returned_content,
        profile.tool_use_id_limit,
    )


@functools.lru_cache
def _opaque_members(
    of_calls: tuple[str, ...], of_messages: tuple[str, ...], items: tuple[str, ...], limit: int
) -> OpaqueMembers:
    return OpaqueMembers(frozenset(of_calls), frozenset(of_messages), frozenset(items), limit)


def _over(body: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """`chosen` over the members that a backend always gets; objects are merged."""
    merged = {**body, **chosen}
    for name in body.keys() & chosen.keys():
        if isinstance(body[name], dict) and isinstance(chosen[name], dict):
            merged[name] = _over(body[name], chosen[name])
    return merged


def _begun(
    request: MessagesRequest,
    profile: Profile,
    messages: list[dict[str, Any]],
    chosen: dict[str, Any],
) -> str:
    """Begin the answer where it helps. Returns what a whole answer will say once more."""
    if messages and messages[-1]["role"] == "assistant":
        chosen |= profile.prefill_options
        if profile.prefill_member:
            messages[-1] = {**messages[-1], profile.prefill_member: True}
        return str(messages[-1]["content"]) if profile.echoes_prefill else ""
    if profile.forced_tool_prefill and requires_tool(request) and "tool_choice" in chosen:
        messages.append({"role": "assistant", "content": profile.forced_tool_prefill})
    return ""
