"""Questions about the parameters of the answer: its limit, its end, its sampling, its form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.probe.question import Finding, ProbeRequest, Question, judge_accepted, user
from proxy.probe.reply import Reply
from stages.profiles.profile import OUTPUT_LIMITS, Profile

#: The question that tells whether the others can be asked at temperature 0.
TEMPERATURE = "temperature"
#: The limit that is tried; what an answer without one has is several times as much.
_LIMIT = 8
_OBEYED, _SHORT = "obeyed", "accepted, but the answer was shorter anyway"
_COUNT = "Count from 1 to 20 in digits, with commas. Nothing else."
#: A weak model that has counted before counts on; one that has not may stop after a few words.
_COUNTING = [
    *user("Count from 1 to 12 in digits, with commas. Nothing else."),
    {"role": "assistant", "content": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"},
    *user(_COUNT),
]
_STOP = "4"
_STOPS = (16, 5, 4, 1)
_RANDOM = "Write ten random words."
_SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "integer"}},
    "required": ["number"],
    "additionalProperties": False,
}


def limit_question(profile: Profile) -> Question:
    """Whether it answers at all, and by what name the output limit goes; the declared first."""
    names = sorted(OUTPUT_LIMITS, key=lambda name: name != profile.max_tokens_field)
    asks = tuple(ProbeRequest({"messages": _COUNTING, name: _LIMIT}, tokens=None) for name in names)

    def judge(replies: Sequence[Reply]) -> Finding:
        return _limit(dict(zip(names, replies, strict=False)))

    return Question("the output limit", ("max_tokens_field",), asks, judge, obeyed)


def obeyed(replies: Sequence[Reply]) -> bool:
    """Whether the last limit was obeyed."""
    return limit_evidence(replies[-1]) == _OBEYED


def _limit(replies: dict[str, Reply]) -> Finding:
    """The name that is obeyed; else, of one that is refused and one that is not, the latter."""
    said = {name: limit_evidence(reply) for name, reply in replies.items()}
    evidence = "; ".join(f"{name}: {what}" for name, what in said.items())
    good = [name for name, what in said.items() if what == _OBEYED]
    if not good and not all(reply.accepted for reply in replies.values()):
        good = [name for name, what in said.items() if what == _SHORT]
    return Finding(evidence, {"max_tokens_field": good[0]} if good else {})


def limit_evidence(reply: Reply) -> str:
    """What the answer to a request with a limit shows."""
    if not reply.accepted:
        return reply.error
    if reply.finish == "length" or reply.tokens == _LIMIT:
        return _OBEYED
    return _SHORT if reply.tokens < _LIMIT else f"ignored, {reply.tokens} tokens came"


def _usage(replies: Sequence[Reply]) -> Finding:
    reply = replies[0]
    if not reply.accepted:
        return Finding(reply.error, {"stream_options": False})
    told = "usage in the stream" if reply.usage else "accepted, but the stream tells no usage"
    return Finding(told, {"stream_options": bool(reply.usage)})


def stops_in_time(reply: Reply) -> bool:
    """Whether all stop sequences were taken, as far as the answer shows it."""
    return reply.accepted and _STOP not in reply.text


def _stops(replies: Sequence[Reply]) -> Finding:
    seen = [
        f"{number}: {'ignored' if reply.accepted else reply.error}"
        for number, reply in zip(_STOPS, replies, strict=False)
        if not stops_in_time(reply)
    ]
    evidence = "; ".join(seen)
    if not stops_in_time(replies[-1]):
        return Finding(evidence, {"max_stop_sequences": 0, "fields.stop_sequences": "emulate"})
    if replies[-1].cut:
        return Finding("accepted, but the answer was cut before it came to one")
    number = _STOPS[len(replies) - 1]
    held = None if number == _STOPS[0] else number
    tells = replies[-1].stop == _STOP
    told = f"{number} accepted; it {'tells' if tells else 'does not tell'} which one it met"
    evidence = "; ".join(filter(None, (told, evidence)))
    policy = "map" if tells else "emulate"
    return Finding(evidence, {"max_stop_sequences": held, "fields.stop_sequences": policy})


def _top_k(replies: Sequence[Reply]) -> Finding:
    """With `top_k: 1` the answer is the likeliest, as at temperature 0, however warm it is."""
    cold, warm, control = replies
    if not warm.accepted and control.accepted:
        return Finding(warm.error, {"fields.top_k": "warn"})
    if not (cold.accepted and warm.accepted and control.accepted) or cold.text == control.text:
        return Finding(warm.error or "accepted; whether it is obeyed could not be seen")
    if cold.text == warm.text:
        return Finding("obeyed: 1 gave the answer of temperature 0", {"fields.top_k": "map"})
    return Finding("accepted, but 1 gave another answer than temperature 0")


def _format(replies: Sequence[Reply]) -> Finding:
    reply, key = replies[0], "fields.output_config.format"
    if not reply.accepted:
        return Finding(reply.error, {key: "reject"})
    if not reply.text.strip():
        return Finding("accepted, but no answer came within the limit")
    if reply.text.lstrip().startswith("{"):
        return Finding("obeyed", {key: "map"})
    if reply.cut:
        return Finding("accepted, but the answer was cut before any JSON")
    return Finding("accepted, but the answer is not JSON", {key: "reject"})


def _sampled(name: str, *values: float) -> Question:
    key = f"fields.{name}"
    return Question(
        name,
        (key,),
        tuple(ProbeRequest({name: value}) for value in values),
        judge_accepted({key: "map"}, {key: "warn"}),
    )


def _stop_ask(number: int) -> ProbeRequest:
    # The one that the answer will come to stands last, where a limit would cut it off.
    others = [f"[end {n}]" for n in range(1, number)]
    return ProbeRequest({"messages": user(_COUNT), "stop": [*others, _STOP]}, tokens=20)


def _random(**members: Any) -> ProbeRequest:
    return ProbeRequest({"messages": user(_RANDOM), **members}, tokens=12)


_FORM = {"name": "answer", "schema": _SCHEMA, "strict": True}

QUESTIONS = (
    _sampled(TEMPERATURE, 0.5, 0),
    _sampled("top_p", 0.9),
    Question(
        "stream_options",
        ("stream_options",),
        (ProbeRequest({"stream": True, "stream_options": {"include_usage": True}}),),
        _usage,
    ),
    Question(
        "stop sequences",
        ("max_stop_sequences", "fields.stop_sequences"),
        tuple(map(_stop_ask, _STOPS)),
        _stops,
        enough=lambda replies: stops_in_time(replies[-1]),
    ),
    Question(
        "top_k",
        ("fields.top_k",),
        (
            _random(temperature=0),
            _random(temperature=1.5, top_k=1),
            _random(temperature=1.5),
        ),
        _top_k,
    ),
    Question(
        "response_format",
        ("fields.output_config.format",),
        (
            ProbeRequest(
                {"response_format": {"type": "json_schema", "json_schema": _FORM}}, tokens=24
            ),
        ),
        _format,
    ),
)
