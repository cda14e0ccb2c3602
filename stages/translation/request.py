"""Translates a Messages request to a Chat Completions request."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

from stages.chat_completions.think_tags import THINK
from stages.chat_completions.token_calibration import TokenEstimate
from stages.chat_completions.usage import estimate_prompt_tokens
from stages.events import ChatRequest, OpaqueMembers, Resolved
from stages.messages_api.part_cache import MIN_BODY
from stages.messages_api.request import MessagesRequest
from stages.profiles.profile import Profile
from stages.translation.conversation import conversation
from stages.translation.conversation_cache import CONVERSATIONS, encode_more
from stages.translation.envelope import owner_of
from stages.translation.field_policies import FieldPolicies, PdfTexts
from stages.translation.history import history
from stages.translation.reasoning_options import reasoning_options
from stages.translation.request_options import divide_stop_sequences, request_options
from stages.translation.stop_reason import output_limit
from stages.translation.structured_output import StructuredOutput, structured_output
from stages.translation.tools import TranslatedTools, translate_tools
from stages.translation.tools_cache import TOOLS
from stages.wire.encoded_parts import EncodedParts

_UNCALIBRATED = TokenEstimate()


def chat_request(
    resolved: Resolved,
    profile: Profile,
    strict: bool = False,
    calibration: TokenEstimate = _UNCALIBRATED,
    pdfs: PdfTexts | None = None,
) -> ChatRequest:
    """Translate. Raises UnsupportedError for content that this backend must not get.

    With `strict`, also for content that would be dropped or changed. `pdfs`: see PdfTexts.
    """
    fields = FieldPolicies(profile.fields, strict, {} if pdfs is None else pdfs)
    output = structured_output(resolved.request, profile, fields)
    messages, encoded = _messages(resolved, profile, fields, output.instruction)
    stop, scanned = divide_stop_sequences(resolved.request.stop_sequences, profile)
    streams = resolved.request.stream or profile.stream == "always" or bool(scanned)
    options, tools = _options(resolved, messages, output, profile, fields, stop, streams)
    echoed = _prefill(resolved.request, messages, options, profile)
    encoded = _add_encoded(encoded, resolved, messages, options.get("tools"), tools.encoded)
    size = estimate_prompt_tokens(messages, options.get("tools", ()), encoded)
    return ChatRequest(
        resolved,
        messages,
        _merge(profile.body, options) if profile.body else options,
        fields.degradations(),
        encoded=encoded,
        tool_use_members=tools.client_names,
        single_tool_call=tools.single_call,
        think_tags=THINK if profile.think_tags else (),
        scanned_stop_sequences=scanned,
        always_streams=profile.stream == "always",
        opaque=_opaque(profile),
        echoed_prefill="" if streams else echoed,
        context_window=profile.context_window,
        raw_estimate=size,
        estimate=calibration.tokens(size),
        retranslate=partial(
            chat_request, resolved, strict=strict, calibration=calibration, pdfs=fields.pdfs
        ),
    )


def _add_encoded(
    encoded: EncodedParts,
    resolved: Resolved,
    messages: list[dict[str, Any]],
    tools: Any,
    tools_json: bytes,
) -> EncodedParts:
    """Add the JSON of the tools, and of a large body's messages: it is used twice."""
    if not encoded.messages and resolved.size >= MIN_BODY:
        encoded = encode_more(encoded, tuple(messages))
    return encoded.with_tools(tools, tools_json) if tools_json else encoded


def _messages(
    resolved: Resolved, profile: Profile, fields: FieldPolicies, instruction: str
) -> tuple[list[dict[str, Any]], EncodedParts]:
    owner = owner_of(resolved.target.backend, resolved.target.model)
    turns = history(resolved.request, profile, fields, instruction)
    cache = CONVERSATIONS if resolved.is_cached and CONVERSATIONS.max_bytes else None
    return conversation(turns, owner, profile, fields, cache)


def _options(
    resolved: Resolved,
    messages: list[dict[str, Any]],
    output: StructuredOutput,
    profile: Profile,
    fields: FieldPolicies,
    stop: list[str],
    streams: bool,
) -> tuple[dict[str, Any], TranslatedTools]:
    """Return all options, and the tools among them. `output` is translated."""
    request = resolved.request
    options = request_options(request, profile, fields, stop, streams)
    options |= reasoning_options(request, messages, profile, fields)
    uses_cache = resolved.size >= MIN_BODY and CONVERSATIONS.max_bytes > 0
    translate = TOOLS.translate if uses_cache else translate_tools
    tools = translate(request, profile, fields)
    options |= output.options | tools.options
    if request.max_tokens is not None:
        options[profile.max_tokens_field] = output_limit(request.max_tokens, profile.context_window)
    return options, tools


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


def _merge(body: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Merge `options` over the members that the profile adds to each body, object by object."""
    merged = {**body, **options}
    for name in body.keys() & options.keys():
        if isinstance(body[name], dict) and isinstance(options[name], dict):
            merged[name] = _merge(body[name], options[name])
    return merged


def _prefill(
    request: MessagesRequest,
    messages: list[dict[str, Any]],
    options: dict[str, Any],
    profile: Profile,
) -> str:
    """Complete a prefill, or add one that makes the model call a tool.

    Returns the prefill that the backend repeats at the start of a response without a stream.
    """
    if messages and messages[-1]["role"] == "assistant":
        options |= profile.prefill_options
        if profile.prefill_member:
            messages[-1] = {**messages[-1], profile.prefill_member: True}
        return str(messages[-1]["content"]) if profile.echoes_prefill else ""
    if profile.forced_tool_prefill and request.requires_tool and "tool_choice" in options:
        messages.append({"role": "assistant", "content": profile.forced_tool_prefill})
    return ""
