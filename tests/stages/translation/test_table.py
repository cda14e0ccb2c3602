"""The translation follows the table of fields for each field and profile."""

from __future__ import annotations

from typing import Any

from stages.messages_api.errors import InvalidRequestError
from stages.profiles.describe import profile_named
from stages.profiles.policies import SUPPORTED
from stages.profiles.profile import Profile, profiles
from stages.translation.envelope import Envelope, owner_of, seal
from stages.translation.request import chat_request
from stages.wire import json_codec
from tests.cases import for_each
from tests.pdfs import pdf
from tests.support import degradations, resolved

TOOL = {"name": "f", "input_schema": {"type": "object"}}
CLOSED = {"name": "f", "input_schema": {"type": "object", "additionalProperties": False}}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def user_turn(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [*blocks, {"type": "text", "text": "Q"}]}]}


def answered(*blocks: dict[str, Any], result: Any = "R") -> dict[str, Any]:
    """An assistant turn with `blocks` and a call, and the call's result."""
    call = {"type": "tool_use", "id": "call_1", "name": "f", "input": {"x": "CALLED"}}
    value = {"type": "tool_result", "tool_use_id": "call_1", "content": result}
    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": [*blocks, call]},
        {"role": "user", "content": [value]},
    ]
    return {"messages": turns, "tools": [TOOL]}


def document(source: dict[str, Any], **members: Any) -> dict[str, Any]:
    return user_turn({"type": "document", "source": source, **members})


FAILED = answered()
FAILED["messages"][-1]["content"][0]["is_error"] = True
SEARCH = {"type": "search_result", "source": "S", "title": "T"}
FOUND = [{"type": "text", "text": "FOUND"}]
SYSTEM = [{"role": "user", "content": "Q"}, {"role": "system", "content": "BE BRIEF"}]
SEALED = Envelope(owner_of("fake", "some-model"), message={"reasoning_details": [{"a": "HM"}]})
THOUGHT = {"type": "thinking", "thinking": "HM", "signature": seal(SEALED)}

# For each field: a request that has it, and the content of the backend's request.
SAMPLES: dict[str, tuple[dict[str, Any], str]] = {
    "max_tokens": ({"max_tokens": 77}, "77"),
    "system": ({"system": "BE BRIEF"}, "BE BRIEF"),
    "system.attribution": ({"system": "x-anthropic-billing-header: cch=1;\nBE BRIEF"}, "cch=1"),
    "temperature": ({"temperature": 0.25}, '"temperature":0.25'),
    "top_p": ({"top_p": 0.25}, '"top_p":0.25'),
    "top_k": ({"top_k": 7}, '"top_k":7'),
    "stop_sequences": ({"stop_sequences": ["HALT"]}, "HALT"),
    "stream": ({"stream": True}, ""),
    "thinking": ({"thinking": {"type": "adaptive"}}, ""),
    "output_config.effort": ({"output_config": {"effort": "low"}}, "low"),
    "output_config.format": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"title": "FORM"}}}},
        "FORM",
    ),
    "metadata": ({"metadata": {"user_id": "u"}}, "safety_identifier"),
    "cache_control": ({"cache_control": {"type": "ephemeral"}}, ""),
    "service_tier": ({"service_tier": "auto"}, ""),
    "context_management": ({"context_management": {"edits": [{"type": "a"}]}}, ""),
    "container": ({"container": "c"}, ""),
    "container.skills": ({"container": {"skills": [{"skill_id": "pdf"}]}}, ""),
    "diagnostics": ({"diagnostics": {"previous_message_id": "m"}}, ""),
    "inference_geo": ({"inference_geo": "eu"}, ""),
    "speed": ({"speed": "fast"}, ""),
    "mcp_servers": ({"mcp_servers": [{"type": "url"}]}, ""),
    "unknown": ({"brand_new": 1}, ""),
    "tools": ({"tools": [{**TOOL, "description": "DOES"}]}, "DOES"),
    "tools.strict": ({"tools": [{**CLOSED, "strict": True}]}, '"strict":true'),
    "tools.input_examples": ({"tools": [{**TOOL, "input_examples": [{"e": "EX"}]}]}, "EX"),
    "tools.allowed_callers": (
        {"tools": [{**TOOL, "allowed_callers": ["code_execution_20260120"]}]},
        "",
    ),
    "tool_search": (
        {"tools": [{"type": "tool_search_tool_regex_20251119", "name": "s"}, TOOL]},
        '"name":"f"',
    ),
    "client_tools": ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "command"),
    "server_tools": ({"tools": [TOOL, {"type": "web_search_20250305", "name": "w"}]}, ""),
    "server_tools.alone": ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, ""),
    "tool_choice": ({"tools": [TOOL], "tool_choice": {"type": "any"}}, "required"),
    "disable_parallel_tool_use": (
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        "",
    ),
    "prefill": (
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "SO"}]},
        "SO",
    ),
    "text": (user_turn({"type": "text", "text": "HELLO"}), "HELLO"),
    "image.base64": (user_turn({"type": "image", "source": PNG}), "iVBORw0KGgo="),
    "image.url": (
        user_turn({"type": "image", "source": {"type": "url", "url": "http://a.invalid/b"}}),
        "http://a.invalid/b",
    ),
    "image.file": (user_turn({"type": "image", "source": {"type": "file", "file_id": "f"}}), ""),
    "document.text": (document({"type": "text", "data": "BODY"}), "BODY"),
    "document.content": (document({"type": "content", "content": "BODY"}), "BODY"),
    "document.pdf": (
        document({"type": "base64", "media_type": "application/pdf", "data": pdf("BODY")}),
        "",
    ),
    "document.url": (document({"type": "url", "url": "http://a.invalid/b"}), ""),
    "document.file": (document({"type": "file", "file_id": "f"}), ""),
    "document.citations": (
        document({"type": "text", "data": "B"}, citations={"enabled": True}),
        "",
    ),
    "search_result": (user_turn({**SEARCH, "content": FOUND}), "FOUND"),
    "thinking_block": (answered(THOUGHT), "HM"),
    "redacted_thinking": (answered({"type": "redacted_thinking", "data": "x"}), ""),
    "tool_use": (answered(), "CALLED"),
    "tool_result": (answered(result="RESULT"), "RESULT"),
    "tool_result.image": (answered(result=[{"type": "image", "source": PNG}]), "attached below"),
    "tool_result.is_error": (FAILED, "Error: R"),
    "tool_reference": (
        answered(result=[{"type": "tool_reference", "tool_name": "g"}]),
        "Tool g is now available",
    ),
    "browser_state": (answered(result=[{"type": "browser_state", "tabs": ["TAB"]}]), "TAB"),
    "server_tool_blocks": (
        answered({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
        "",
    ),
    "container_upload": (user_turn({"type": "container_upload", "file_id": "f"}), ""),
    "system_message": ({"messages": SYSTEM}, "BE BRIEF"),
    "compaction": (answered({"type": "compaction", "content": "SUMMARY"}), "SUMMARY"),
    "unknown_block": (answered({"type": "brand_new"}), ""),
}


def test_there_is_a_sample_of_each_field() -> None:
    assert SAMPLES.keys() == SUPPORTED.keys()


@for_each("name", profiles())
def test_each_field_goes_the_way_the_table_says(name: str) -> None:
    profile = profile_named(name)
    policies = dict(profile.fields)
    if policies["image.base64"] == "reject":  # a result's image is one that it cannot take
        policies["tool_result.image"] = "reject"
    seen = {field: way(field, profile, policies[field]) for field in SUPPORTED}

    assert seen == {field: policies[field] for field in SUPPORTED}


def way(field: str, profile: Profile, policy: str) -> str:
    """`policy`, if the field goes that way, or else what became of the field."""
    sample, trace = SAMPLES[field]
    try:
        request = chat_request(resolved(**sample), profile)
    except InvalidRequestError:
        return "reject"
    if bool(degradations(request)) != (policy == "warn"):
        return f"notes: {degradations(request)}"
    sent = json_codec.encode(
        [request.messages, request.options, request.scanned_stop_sequences]
    ).decode()
    if policy in ("map", "emulate") and trace not in sent:
        return f"sent without `{trace}`"
    return "accepted" if policy == "reject" else policy
