"""Tools: each `tool_choice`, and results."""

from __future__ import annotations

from typing import Any

from tests.live.checks import Checks
from tests.live.requests import Live, calls, ending, prompt_tokens, text, user

CHECKS = Checks()

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
TIME: dict[str, Any] = {**WEATHER, "name": "time", "description": "The time in a city"}


def _called(city: str, answer: str, failed: bool = False) -> list[dict[str, Any]]:
    """A call for the weather of `city`, and its result."""
    use = {"type": "tool_use", "id": f"toolu_{city}", "name": "weather", "input": {"city": city}}
    result = {"type": "tool_result", "tool_use_id": f"toolu_{city}", "content": answer}
    return [use, {**result, "is_error": True} if failed else result]


#: So small a model calls a tool where it has called one before.
_CALLED_BEFORE = [
    message
    for city, answer in (("Oslo", "rainy"), ("Rome", "sunny"), ("Bern", "snowy"), ("Lima", "dry"))
    for use, result in [_called(city, answer)]
    for message in (
        *user(f"What is the weather in {city}?"),
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": f"It is {answer} in {city}."},
    )
]
AGAIN = [*_CALLED_BEFORE, *user("What is the weather in Paris?")]


def _tools(choice: dict[str, str], stream: bool, expected: str) -> None:
    tools = [WEATHER, TIME] if "name" in choice else [WEATHER]

    @CHECKS.add(" ".join(("tool_choice", *choice.values())) + ", streamed" * stream, expected)
    async def _(live: Live) -> str:
        ask = live.streamed if stream else live.whole
        return ending(await ask(messages=AGAIN, tools=tools, tool_choice=choice, max_tokens=100))


for _stream in (False, True):
    _tools({"type": "auto"}, _stream, "tool_use weather")
    _tools({"type": "any"}, _stream, "tool_use weather")
    _tools({"type": "tool", "name": "time"}, _stream, "tool_use time")


@CHECKS.add("tool_choice none", "end_turn or max_tokens, no call")
async def _none(live: Live) -> str:
    choice = {"type": "none"}
    message = await live.whole(messages=AGAIN, tools=[WEATHER], tool_choice=choice, max_tokens=20)
    ended = message.stop_reason in ("end_turn", "max_tokens") and not calls(message)
    return "end_turn or max_tokens, no call" if ended else ending(message)


@CHECKS.add("two tool results, one failed", "answered, prompt counted as in the response")
async def _parallel(live: Live) -> str:
    paris, sunny = _called("Paris", "sunny, 20 degrees")
    rome, down = _called("Rome", "the service is down", failed=True)
    conversation = [
        *user("What is the weather in Paris, and in Rome?"),
        {"role": "assistant", "content": [paris, rome]},
        {"role": "user", "content": [sunny, down]},
    ]
    counted = await live.count(messages=conversation, tools=[WEATHER])
    message = await live.whole(messages=conversation, tools=[WEATHER])
    if counted != prompt_tokens(message):
        return f"counted {counted}, in the response {prompt_tokens(message)}"
    answered = text(message) or calls(message)
    return "answered, prompt counted as in the response" if answered else ending(message)
