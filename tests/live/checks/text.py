"""Text, begun answers, stop sequences, images, formats, thinking."""

from __future__ import annotations

import json

from proxy.probe.conversation import red_square
from tests.live.checks import Checks
from tests.live.requests import Live, ending, prompt_tokens, text, user

CHECKS = Checks()

_COUNT = "Count from 1 to 20 in digits, with commas. Nothing else."
_HELLO = "Say hello to the king in one sentence."


@CHECKS.add("text", "the server's own text and usage")
async def _text(live: Live) -> str:
    theirs = await live.ask(messages=user(_HELLO), max_tokens=40)
    ours = await live.whole(messages=user(_HELLO))
    usage, choice = theirs["usage"], theirs["choices"][0]
    wanted = choice["message"]["content"], usage["prompt_tokens"], usage["completion_tokens"]
    seen = text(ours), prompt_tokens(ours), ours.usage.output_tokens
    return "the server's own text and usage" if seen == wanted else f"{seen} for {wanted}"


@CHECKS.add("text, streamed", "as whole")
async def _streamed(live: Live) -> str:
    whole = await live.whole(messages=user(_HELLO))
    streamed = await live.streamed(messages=user(_HELLO))
    seen = [
        (text(m), ending(m), prompt_tokens(m), m.usage.output_tokens) for m in (streamed, whole)
    ]
    return "as whole" if seen[0] == seen[1] else f"{seen[0]} for {seen[1]}"


_BEGUN = "[list] 1, 2, 3,"
_PREFILL = [*user(_COUNT), {"role": "assistant", "content": _BEGUN}]


def _goes_on(said: str) -> str:
    if said.startswith(_BEGUN):
        return f"repeats: {said}"
    return "goes on" if said.lstrip(" ,").startswith("4") else f"begins again: {said}"


@CHECKS.add("prefill", "goes on")
async def _prefill(live: Live) -> str:
    return _goes_on(text(await live.whole(messages=_PREFILL, max_tokens=24)))


@CHECKS.add("prefill, streamed", "goes on")
async def _prefill_streamed(live: Live) -> str:
    return _goes_on(text(await live.streamed(messages=_PREFILL, max_tokens=24)))


def _stops(number: int, stream: bool) -> None:
    stop = [*(f"[end {n}]" for n in range(1, number)), "4"]
    words = f"{number} stop sequence{'s' * (number > 1)}{', streamed' * stream}"

    @CHECKS.add(words, "stop_sequence 4, text before it")
    async def _(live: Live) -> str:
        ask = live.streamed if stream else live.whole
        message = await ask(messages=user(_COUNT), stop_sequences=stop)
        before = "before" if "4" not in text(message) else "after"
        return f"{message.stop_reason} {message.stop_sequence}, text {before} it"


for _number in (1, 4, 5, 20):
    _stops(_number, stream=False)
    _stops(_number, stream=True)


@CHECKS.add("image", "400 invalid_request_error, not retried: *")
async def _image(live: Live) -> str:
    source = {"type": "base64", "media_type": "image/png", "data": red_square().split(",")[1]}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "Which colour?"}]
    return ending(await live.whole(messages=[{"role": "user", "content": content}]))


@CHECKS.add("output_config.format", "JSON of the schema")
async def _format(live: Live) -> str:
    schema = {
        "type": "object",
        "properties": {"number": {"type": "integer"}},
        "required": ["number"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "schema": schema}
    message = await live.whole(
        messages=user("What is 3 + 4?"), output_config={"format": form}, max_tokens=60
    )
    try:
        fits = isinstance(json.loads(text(message))["number"], int)
    except (ValueError, KeyError, TypeError):
        fits = False
    return "JSON of the schema" if fits else text(message)


@CHECKS.add("thinking of a model that cannot", "text, no thinking")
async def _thinking(live: Live) -> str:
    # 1 is what the API wants with it.
    message = await live.whole(
        thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=1100, temperature=1
    )
    kinds = {block.type for block in message.content}
    return "text, no thinking" if kinds == {"text"} else f"{kinds}, {ending(message)}"
