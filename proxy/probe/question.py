"""What a question is, what is found out by one, and the judgements several questions share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import Factory, frozen

from proxy.probe.reply import Reply


@frozen
class ProbeRequest:
    """One request. To `body` come the model, a short message and an output limit of `tokens`.

    A `path` other than Chat Completions' is asked with `body` as it is, or with GET if there is
    none; `beside`: it stands beside `/v1`, not below.
    """

    body: dict[str, Any] | None = None
    tokens: int | None = 8
    path: str = ""
    outside_v1: bool = False


@frozen
class Finding:
    """What was found out: keys of a profile (`fields.NAME` for a policy) and the evidence."""

    evidence: str
    sets: dict[str, Any] = Factory(dict)


NONSENSE_TOO = "accepted, but so is nonsense"
Judge = Callable[[Sequence[Reply]], Finding]


def _never(_: Sequence[Reply]) -> bool:
    return False


@frozen
class Question:
    """Something to find out, by one or several requests.

    Asked one by one until the replies so far are `enough`; `judge` gets them. `tells` are the
    keys that it can find out. Asked only where a request of the question `after` was accepted,
    and where the key `unless` was not found out yet.
    """

    name: str
    tells: tuple[str, ...]
    asks: tuple[ProbeRequest, ...]
    judge: Judge
    enough: Callable[[Sequence[Reply]], bool] = _never
    after: str = ""
    unless: str = ""


def accepted(replies: Sequence[Reply]) -> bool:
    """Whether the last request was taken; for `enough`."""
    return replies[-1].accepted


def user(text: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def judge_plain(replies: Sequence[Reply]) -> Finding:
    """Judge a question that only others depend on."""
    return Finding(replies[0].error or "accepted")


def judge_accepted(yes: dict[str, Any], no: dict[str, Any]) -> Judge:
    """Judge by whether the first request is accepted, where that is all there is to see."""

    def judge(replies: Sequence[Reply]) -> Finding:
        reply = replies[0]
        return Finding("accepted", yes) if reply.accepted else Finding(reply.error, no)

    return judge


def judge_validated(yes: dict[str, Any], no: dict[str, Any]) -> Judge:
    """Judge a field by two requests: with a right value, and with one of a wrong type.

    Who accepts both ignores the field, or may: that tells nothing.
    """

    def judge(replies: Sequence[Reply]) -> Finding:
        right, wrong = replies
        if not right.accepted:
            return Finding(right.error, no)
        if wrong.accepted:
            return Finding(NONSENSE_TOO)
        return Finding(f"accepted, and nonsense is refused ({wrong.error})", yes)

    return judge


def judge_first_accepted(key: str, values: Sequence[Any], otherwise: dict[str, Any]) -> Judge:
    """Judge asks that stand for `values`, best first: the first one accepted is the finding."""

    def judge(replies: Sequence[Reply]) -> Finding:
        value = values[len(replies) - 1]
        refusals = "; ".join(reply.error for reply in replies[:-1])
        if not replies[-1].accepted:
            return Finding(replies[0].error, otherwise)
        return Finding(refusals or "accepted", {key: value})

    return judge
