"""Backends with different behaviour, for the probe to find out.

Each is a function from a request to a status and a body. None breaks the connection. With a status
of 0 there is no response.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define

from tests.wire.backend import Act, Received, ScriptedBackend, Step
from tests.wire.chat import DONE, END, head, sse, whole

Reply = tuple[int, Any] | None
KEY = "sk-secret-0123456789"
#: The fields that `strict` knows.
KNOWN = {"model", "messages", "stream", "temperature", "top_p", "max_tokens", "stop"}
KNOWN |= {"tools", "tool_choice", "response_format"}


@define(eq=False)
class Persona(ScriptedBackend):
    """A scripted backend whose responses depend on the request."""

    ways: Callable[[Received], Reply] = lambda _: None

    def _next(self, request: Received) -> Sequence[Step]:
        self.requests.append(request)
        reply = self.ways(request)
        if reply is None:
            return [Act.RESET]
        status, body = reply
        if not status:
            return [Act.UNTIL_CLOSED]
        if status == 200 and request.body and request.body.get("stream"):
            return [head() + sse(*streamed(body, request.body)) + DONE + END]
        return [whole(status, body)]


def streamed(body: Any, asked: Any) -> list[Any]:
    """A whole completion as chunks; with usage if that is asked for."""
    choice = body["choices"][0]
    chunk = {"choices": [{"index": 0, "delta": choice["message"], "finish_reason": "stop"}]}
    wanted = (asked.get("stream_options") or {}).get("include_usage")
    return [chunk, {"choices": [], "usage": body["usage"]}] if wanted else [chunk]


def refusal(message: str, status: int = 400) -> Reply:
    return status, {"error": {"message": message, "type": "invalid_request_error"}}


def answer(text: str, finish: str = "stop", **message: Any) -> Reply:
    kept = {"role": "assistant", "content": text, **message}
    choices = [{"index": 0, "message": kept, "finish_reason": finish}]
    return 200, {"choices": choices, "usage": {"completion_tokens": len(text.split())}}


def called(name: str) -> Reply:
    function = {"name": name, "arguments": '{"city":"Paris"}'}
    return answer("", "tool_calls", tool_calls=[{"id": "c", "function": function}])


def obedient(body: dict[str, Any], **message: Any) -> Reply:
    """What a good model says, within its limit and up to a stop sequence."""
    choice = body.get("tool_choice")
    if choice == "required":
        return called(body["tools"][0]["function"]["name"])
    if isinstance(choice, dict):
        return called(choice["function"]["name"])
    text = json.dumps(body["messages"])
    limit: int = body.get("max_tokens") or body["max_completion_tokens"]
    words = ["Hello", "there"]
    if "Count" in text:
        words = [f"{n}," for n in range(4 if "[list]" in text else 1, 21)]
    elif "random" in text:
        greedy = body.get("temperature") == 0 or body.get("top_k") == 1
        words = ["apple", "river"] if greedy else ["moon", "tin"]
    elif "response_format" in body:
        words = ['{"number":', "1}"]
    elif "banana" in text:
        words = ["Banana"]
    elif "colour" in text:
        words = ["Red"]
    for stop in body.get("stop", ()):
        words = words[: next((n for n, word in enumerate(words) if stop in word), None)]
    if len(words) > limit:
        return answer(" ".join(words[:limit]), "length", **message)
    return answer(" ".join(words), **message)


def roles(body: Any) -> list[str]:
    return [message["role"] for message in body["messages"]]


# What `strict` refuses, and what it says then.
STRICT: list[tuple[Callable[[Any], object], str]] = [
    (lambda body: roles(body)[-1] == "assistant", "the conversation must end with a user message"),
    (
        lambda body: any(m["content"] == "" for m in body["messages"]),
        "text content blocks must be non-empty",
    ),
    (lambda body: roles(body)[-2:] == ["tool", "tool"], "tool must follow tool_calls"),
    (lambda body: "system" in roles(body)[1:], "system messages must come first"),
    (lambda body: len(body.get("stop", ())) > 4, "stop: at most 4 items"),
    (
        lambda body: re.search(r'"id": "[^"]{41,}"', json.dumps(body["messages"])),
        "tool_calls.0.id: at most 40 characters",
    ),
    (
        lambda body: re.search(r'"name": "[^"]{65,}"', json.dumps(body.get("tools"))),
        "tools: the name is too long",
    ),
    *(
        (
            lambda body, keyword=keyword: f'"{keyword}"' in json.dumps(body.get("tools")),
            f"tools: {keyword} is not supported",
        )
        for keyword in ("$schema", "format", "strict")
    ),
]


def strict(request: Received) -> Reply:
    """Refuses what it does not know, as Databricks' endpoints do; wants a key."""
    if request.headers.get("authorization") != f"Bearer {KEY}":
        return refusal(f"Invalid token {request.headers.get('authorization')}", 401)
    if not request.path.endswith("/completions"):
        return refusal("no such endpoint", 404)
    body = request.body
    for name in sorted(body.keys() - KNOWN):
        return refusal(f"{name}: unknown field\n  (request of {KEY})")
    reply = next((message for refuses, message in STRICT if refuses(body)), "")
    return refusal(reply) if reply else obedient(body)


def lenient(request: Received) -> Reply:
    """Takes whatever comes, and does what it likes."""
    if request.path == "/v1/models":
        return 200, {"data": [{"id": "some-model"}]}
    if not request.path.endswith("/chat/completions"):
        return 200, {"status": "ok"}
    return answer(" ".join(f"{n}," for n in range(1, 21)))


def reasoning(request: Received) -> Reply:
    """Thinks before it answers, counts tokens, and continues a prefill if an option asks for it."""
    path, body = request.path, request.body
    if path == "/v1/models":
        return 200, {"data": [{"id": "some-model", "max_model_len": 40960}]}
    if path == "/tokenize":
        return 200, {"count": 12, "max_model_len": 40960}
    if path != "/v1/chat/completions":
        return 404, {"detail": "Not Found"}
    levels = ("none", "low", "medium", "high")
    if body.get("reasoning_effort", "low") not in levels:
        return 400, {"detail": [{"loc": ["reasoning_effort"], "msg": "Input should be 'low'"}]}
    for name, kind in (("top_k", int), ("parallel_tool_calls", bool)):
        if not isinstance(body.get(name, kind()), kind):
            return refusal(f"{name}: wrong type")
    if "max_tokens" in body:
        return refusal("Unsupported parameter: 'max_tokens'")
    begun = body["messages"][-1]["role"] == "assistant"
    if begun and not body.get("continue_final_message"):
        return answer("1, 2, 3, 4, 5, 6, 7, 8,", "length")
    if body.get("tools") and any(m["role"] == "system" for m in body["messages"]):
        return refusal("no system message with tools")
    return obedient(body, reasoning_content="Let me think.")


def dying(after: int) -> Callable[[Received], Reply]:
    """Responds to `after` requests, and then breaks every connection."""
    seen: list[Received] = []

    def ways(request: Received) -> Reply:
        seen.append(request)
        return lenient(request) if len(seen) <= after else None

    return ways


def throttled_at(word: str) -> Callable[[Received], Reply]:
    """Responds with a 429 to requests with `word`. Otherwise it is lenient."""

    def ways(request: Received) -> Reply:
        if word in json.dumps(request.body):
            return refusal("slow down", 429)
        return lenient(request)

    return ways


def always(status: int, message: str) -> Callable[[Received], Reply]:
    """Says the same to everything."""
    return lambda _: refusal(message, status)


PERSONAS: dict[str, Callable[[], Callable[[Received], Reply]]] = {
    "strict": lambda: strict,
    "lenient": lambda: lenient,
    "reasoning": lambda: reasoning,
    "dies-midway": lambda: dying(after=12),
    "dead-at-once": lambda: dying(after=1),
    "throttled-at-tools": lambda: throttled_at('"tools"'),
    "throttled": lambda: always(429, "slow down"),
    "wrong-key": lambda: always(401, f"Invalid token: {KEY}"),
    "no-such-model": lambda: always(404, "The model `some-model` does not exist"),
    "broken": lambda: always(500, "internal error"),
}
