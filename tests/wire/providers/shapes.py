"""The shapes that providers have in common: errors, usage, reasoning, and what they look for."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.wire.providers.provider import Body, Rule, ids, openai_error, openai_usage

# Errors


def as_text(_: int, words: str) -> Any:
    return {"error": words}


def google(status: int, words: str) -> Any:
    return [{"error": {"code": status, "message": words, "status": "INVALID_ARGUMENT"}}]


def databricks(_: int, words: str) -> Any:
    return {"error_code": "BAD_REQUEST", "message": words}


def mistral(_: int, words: str) -> Any:
    problem = re.fullmatch(r"extra_forbidden (.*)", words)
    if problem is None:
        return {"object": "error", "message": words, "type": "invalid_request_error", "code": None}
    loc = ["body", *problem[1].split(".")]
    detail = [{"type": "extra_forbidden", "loc": loc, "msg": "Extra inputs are not permitted"}]
    message = {"detail": detail}
    return {"object": "error", "message": message, "type": "invalid_request_error", "code": None}


def xai(_: int, words: str) -> Any:
    return {"code": "Client specified an invalid argument", "error": words}


def cerebras(_: int, words: str) -> Any:
    return {"message": words, "type": "invalid_request_error", "code": "wrong_api_format"}


def nvidia(status: int, words: str) -> Any:
    kind = "urn:inference-service:problem-details:unprocessable-entity"
    return {"type": kind, "title": "Unprocessable Entity", "status": status, "detail": words}


def zai(_: int, words: str) -> Any:
    return {"error": {"code": "1210", "message": words}}


def dashscope(_: int, words: str) -> Any:
    message = f"<400> InternalError.Algo.InvalidParameter: {words}"
    error = {"message": message, "type": "invalid_request_error", "code": "invalid_parameter_error"}
    return {"error": {**error, "param": None}, "request_id": "5bf78562"}


def minimax(status: int, words: str) -> Any:
    if status == 200:
        return {"base_resp": {"status_code": 2013, "status_msg": words}, "choices": None}
    error = {"type": "bad_request_error", "message": words, "http_code": str(status)}
    return {"type": "error", "error": error, "request_id": "0667"}


def github(status: int, words: str) -> Any:
    code = "tokens_limit_reached" if status == 413 else "unsupported_parameter"
    return {"error": {"code": code, "message": words, "details": words}}


def vllm(status: int, words: str) -> Any:
    return {"error": {"message": words, "type": "BadRequestError", "param": None, "code": status}}


def llamacpp(status: int, words: str) -> Any:
    overflow = "exceeds the available context" in words
    kind = "exceed_context_size_error" if overflow else "invalid_request_error"
    return {"error": {"code": status, "message": words, "type": kind}}


def kimi(_: int, words: str) -> Any:
    return {"error": {"message": words, "type": "invalid_request_error"}}


def deepseek(_: int, words: str) -> Any:
    return {**openai_error(400, words)}


# Usage


def reasoning_next_to_completion(thought: int) -> dict[str, Any]:
    """xAI and Gemini: reasoning is not in `completion_tokens`."""
    usage = openai_usage(thought)
    return {**usage, "completion_tokens": 10}


def cached_at_the_top(thought: int) -> dict[str, Any]:
    return {**openai_usage(thought), "cached_tokens": 30}


def in_x_groq(thought: int) -> dict[str, Any]:
    return {"id": "req_1", "usage": openai_usage(thought)}


# Reasoning


def as_reasoning(thought: str) -> Body:
    return {"reasoning": thought}


def as_part(thought: str) -> Body:
    return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]}


def as_tags(thought: str) -> Body:
    return {"content": f"<think>{thought}</think>"}


def as_details(thought: str) -> Body:
    return {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": thought}]}


def always(body: Body) -> bool:
    return True


def on_unless_disabled(body: Body) -> bool:
    return bool(body.get("thinking", {}).get("type") != "disabled")


def by_switch(name: str) -> Callable[[Body], bool]:
    return lambda body: bool(body.get("chat_template_kwargs", {}).get(name))


# What is looked for in a request


def has(name: str) -> Callable[[Body], bool]:
    return lambda body: name in body


def forced(body: Body) -> bool:
    return bool(body.get("tool_choice", "auto") not in ("auto", "none"))


def schemas(body: Body) -> Iterator[Body]:
    """All objects in the schemas of the tools."""
    waiting: list[Any] = [tool["function"]["parameters"] for tool in body.get("tools", ())]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
        waiting += each.values() if isinstance(each, dict) else each
        waiting = [value for value in waiting if isinstance(value, (dict, list))]


def keyword(*names: str) -> Callable[[Body], bool]:
    return lambda body: any(name in each for each in schemas(body) for name in names)


def assistants(body: Body) -> list[Body]:
    return [message for message in body["messages"] if message["role"] == "assistant"]


def member(*allowed: str) -> Callable[[Body], bool]:
    """Whether a message of the assistant has a member besides these."""
    known = {"role", "content", "tool_calls", *allowed}
    return lambda body: any(message.keys() - known for message in assistants(body))


def null_content(body: Body) -> bool:
    return any(message.get("content", "") is None for message in body["messages"])


def follows(before: str, after: str) -> Callable[[Body], bool]:
    def found(body: Body) -> bool:
        roles = [message["role"] for message in body["messages"]]
        return (before, after) in itertools.pairwise(roles)

    return found


def ids_unlike(pattern: str) -> Callable[[Body], bool]:
    return lambda body: not all(re.fullmatch(pattern, each) for each in ids(body))


def several_systems(body: Body) -> bool:
    return [message["role"] for message in body["messages"]].count("system") > 1


def without_reasoning(body: Body) -> bool:
    calling = [message for message in assistants(body) if message.get("tool_calls")]
    return on_unless_disabled(body) and not all(each.get("reasoning_content") for each in calling)


def unsigned(*signatures: str) -> Callable[[Body], bool]:
    """Whether the first call of a message has none of these signatures."""

    def found(body: Body) -> bool:
        firsts = [each["tool_calls"][0] for each in assistants(body) if "tool_calls" in each]
        return not all(any(each in json.dumps(call) for each in signatures) for call in firsts)

    return found


def nameless_results(body: Body) -> bool:
    return not all(each.get("name") for each in body["messages"] if each["role"] == "tool")


def no_temperature(words: str, status: int = 400) -> Rule:
    return Rule(has("temperature"), words, status)


def members(*more: str) -> frozenset[str]:
    """What a strict provider takes, with `more`."""
    common = "model messages stream temperature top_p stop tools tool_choice response_format"
    return frozenset((*common.split(), *more))
