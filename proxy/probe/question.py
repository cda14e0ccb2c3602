"""Question, Finding, and the judgements that several questions share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import Factory, frozen

from proxy.probe.reply import Reply


@frozen
class ProbeRequest:
    """One request. The model, a short message and an output limit of `tokens` are added to `body`.

    A `path` other than that of Chat Completions gets `body` unchanged, or a GET without a body.
    `outside_v1`: the path is next to `/v1`, not below it.
    """

    body: dict[str, Any] | None = None
    tokens: int | None = 8
    path: str = ""
    outside_v1: bool = False


@frozen
class Finding:
    """Values of profile keys (`fields.NAME` for a policy), and the evidence for them."""

    evidence: str
    sets: dict[str, Any] = Factory(dict)


NONSENSE_TOO = "accepted, but nonsense is accepted too"
Judge = Callable[[Sequence[Reply]], Finding]


def _never(_: Sequence[Reply]) -> bool:
    return False


@frozen
class Question:
    """A question to the backend, of one or several requests.

    The requests are sent one by one until the replies so far are `enough`; `judge` gets them.
    `keys` are the profile keys that it can find. It is asked only if a request of the question
    `after` was accepted, and if the key `unless` has no finding yet.
    """

    name: str
    keys: tuple[str, ...]
    requests: tuple[ProbeRequest, ...]
    judge: Judge
    enough: Callable[[Sequence[Reply]], bool] = _never
    after: str = ""
    unless: str = ""


def accepted(replies: Sequence[Reply]) -> bool:
    """Whether the last request was accepted; for `enough`."""
    return replies[-1].accepted


def user(text: str) -> list[dict[str, Any]]:
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


def judge_plain(replies: Sequence[Reply]) -> Finding:
    """Judge a question that only others depend on."""
    return Finding(replies[0].error or "accepted")


def judge_accepted(yes: dict[str, Any], no: dict[str, Any]) -> Judge:
    """Judge by whether the first request is accepted, if nothing else can be observed."""

    def judge(replies: Sequence[Reply]) -> Finding:
        reply = replies[0]
        return Finding("accepted", yes) if reply.accepted else Finding(reply.error, no)

    return judge


def judge_validated(yes: dict[str, Any], no: dict[str, Any]) -> Judge:
    """Judge a field by two requests: with a valid value, and with a value of a wrong type.

    A backend that accepts both may ignore the field: that proves nothing.
    """

    def judge(replies: Sequence[Reply]) -> Finding:
        valid, invalid = replies
        if not valid.accepted:
            return Finding(valid.error, no)
        if invalid.accepted:
            return Finding(NONSENSE_TOO)
        return Finding(f"accepted, and nonsense is refused ({invalid.error})", yes)

    return judge


def judge_first_accepted(key: str, values: Sequence[Any], otherwise: dict[str, Any]) -> Judge:
    """Judge requests for `values`, best first: the first accepted one is the finding."""

    def judge(replies: Sequence[Reply]) -> Finding:
        value = values[len(replies) - 1]
        refusals = "; ".join(reply.error for reply in replies[:-1])
        if not replies[-1].accepted:
            return Finding(replies[0].error, otherwise)
        return Finding(refusals or "accepted", {key: value})

    return judge
