"""Questions about output limit, stop sequences, sampling and output format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.probe.question import Finding, ProbeRequest, Question, judge_accepted, user
from proxy.probe.reply import Reply
from stages.profiles.profile import OUTPUT_LIMITS, Profile

#: The question that decides whether the others can be asked at temperature 0.
TEMPERATURE = "temperature"
#: The tested limit; a response without one has several times as many tokens.
_LIMIT = 8
_OBEYED, _SHORT = "obeyed", "accepted, but the response was shorter anyway"
_COUNT = "Count from 1 to 20 in digits, with commas. Nothing else."
#: A weak model that has counted before counts again; otherwise it may stop after a few words.
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
    """Ask whether the model responds, and which name of the output limit it obeys."""
    names = sorted(OUTPUT_LIMITS, key=lambda name: name != profile.max_tokens_field)
    requests = tuple(
        ProbeRequest({"messages": _COUNTING, name: _LIMIT}, tokens=None) for name in names
    )

    def judge(replies: Sequence[Reply]) -> Finding:
        return _limit(dict(zip(names, replies, strict=False)))

    return Question("the output limit", ("max_tokens_field",), requests, judge, obeyed)


def obeyed(replies: Sequence[Reply]) -> bool:
    """Whether the backend obeyed the last limit."""
    return limit_evidence(replies[-1]) == _OBEYED


def _limit(replies: dict[str, Reply]) -> Finding:
    """Find the name that is obeyed; otherwise the accepted one if the other is refused."""
    results = {name: limit_evidence(reply) for name, reply in replies.items()}
    evidence = "; ".join(f"{name}: {result}" for name, result in results.items())
    usable = [name for name, result in results.items() if result == _OBEYED]
    if not usable and not all(reply.accepted for reply in replies.values()):
        usable = [name for name, result in results.items() if result == _SHORT]
    return Finding(evidence, {"max_tokens_field": usable[0]} if usable else {})


def limit_evidence(reply: Reply) -> str:
    """Say what the response to a request with a limit proves."""
    if not reply.accepted:
        return reply.error
    if reply.finish == "length" or reply.tokens == _LIMIT:
        return _OBEYED
    return _SHORT if reply.tokens < _LIMIT else f"ignored, got {reply.tokens} tokens"


def _usage(replies: Sequence[Reply]) -> Finding:
    reply = replies[0]
    if not reply.accepted:
        return Finding(reply.error, {"stream_options": False})
    evidence = "usage in the stream" if reply.usage else "accepted, but no usage in the stream"
    return Finding(evidence, {"stream_options": bool(reply.usage)})


def stops_in_time(reply: Reply) -> bool:
    """Whether the backend accepted all stop sequences, as far as the response shows it."""
    return reply.accepted and _STOP not in reply.text


def _stops(replies: Sequence[Reply]) -> Finding:
    failures = [
        f"{number}: {'ignored' if reply.accepted else reply.error}"
        for number, reply in zip(_STOPS, replies, strict=False)
        if not stops_in_time(reply)
    ]
    evidence = "; ".join(failures)
    if not stops_in_time(replies[-1]):
        return Finding(evidence, {"max_stop_sequences": 0, "fields.stop_sequences": "emulate"})
    if replies[-1].cut:
        return Finding("accepted, but the output limit came before one")
    number = _STOPS[len(replies) - 1]
    limit = None if number == _STOPS[0] else number
    reports = replies[-1].stop == _STOP
    result = f"{number} accepted; the match is {'reported' if reports else 'not reported'}"
    evidence = "; ".join(filter(None, (result, evidence)))
    policy = "map" if reports else "emulate"
    return Finding(evidence, {"max_stop_sequences": limit, "fields.stop_sequences": policy})


def _top_k(replies: Sequence[Reply]) -> Finding:
    """Compare: with `top_k: 1` the response is that of temperature 0 at any temperature."""
    cold, warm, control = replies
    if not warm.accepted and control.accepted:
        return Finding(warm.error, {"fields.top_k": "warn"})
    if not (cold.accepted and warm.accepted and control.accepted) or cold.text == control.text:
        return Finding(warm.error or "accepted; effect not observable")
    if cold.text == warm.text:
        return Finding("obeyed: 1 gave the response of temperature 0", {"fields.top_k": "map"})
    return Finding("accepted, but 1 gave another response than temperature 0")


def _format(replies: Sequence[Reply]) -> Finding:
    reply, key = replies[0], "fields.output_config.format"
    if not reply.accepted:
        return Finding(reply.error, {key: "reject"})
    if not reply.text.strip():
        return Finding("accepted, but no text within the output limit")
    if reply.text.lstrip().startswith("{"):
        return Finding("obeyed", {key: "map"})
    if reply.cut:
        return Finding("accepted, but the output limit came before any JSON")
    return Finding("accepted, but the response is not JSON", {key: "reject"})


def _sampled(name: str, *values: float) -> Question:
    key = f"fields.{name}"
    return Question(
        name,
        (key,),
        tuple(ProbeRequest({name: value}) for value in values),
        judge_accepted({key: "map"}, {key: "warn"}),
    )


def _stop_request(number: int) -> ProbeRequest:
    # The matching one is last, where a limit on their number would drop it.
    unmatched = [f"[end {n}]" for n in range(1, number)]
    return ProbeRequest({"messages": user(_COUNT), "stop": [*unmatched, _STOP]}, tokens=20)


def _random(**members: Any) -> ProbeRequest:
    return ProbeRequest({"messages": user(_RANDOM), **members}, tokens=12)


_FORMAT = {"name": "answer", "schema": _SCHEMA, "strict": True}

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
        tuple(map(_stop_request, _STOPS)),
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
                {"response_format": {"type": "json_schema", "json_schema": _FORMAT}}, tokens=24
            ),
        ),
        _format,
    ),
)
