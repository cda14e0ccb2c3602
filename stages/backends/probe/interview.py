"""Asks a backend all there is to ask, one question after the other.

The output limit comes first: without an answer to it there is nothing to ask. Who says nothing
three times in a row (rate limits, timeouts, a broken connection) is left alone.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx2
from attrs import Factory, define, evolve, frozen

from stages.backends.errors import error_from_exception
from stages.backends.http import Call, ChatCompletions
from stages.backends.probe import conversation, reasoning, sampling
from stages.backends.probe.endpoints import endpoint_questions
from stages.backends.probe.question import Ask, Finding, Question, user
from stages.backends.probe.reply import Reply, reply_from, told
from stages.backends.probe.sampling import limit_question
from stages.backends.probe.tools import tool_questions
from stages.backends.profile import Profile

#: So many questions in a row without an answer are enough.
_PATIENCE = 3
_SHORT = user("Say hello.")


@define
class Line:
    """The way to one backend. `timeout` is in seconds, for each request. It counts its cost.

    None of the `secrets` is in a reply's error.
    """

    backend: str
    completions: ChatCompletions
    timeout: float
    secrets: tuple[str, ...] = ()
    requests: int = 0
    tokens: int = 0

    async def reply(self, ask: Ask, model: str = "", limit: str = "") -> Reply:
        """Send one request; whatever happens is a reply. A 500 may be chance: it is sent twice."""
        reply = await self._sent(ask, model, limit)
        if reply.status == 500:
            reply = await self._sent(ask, model, limit)
        error = reply.error
        for secret in filter(None, self.secrets):
            error = error.replace(secret, "…")
        return evolve(reply, error=error)

    async def _sent(self, ask: Ask, model: str, limit: str) -> Reply:
        self.requests += 1
        silence = Reply(0, f"no answer in {self.timeout:g} seconds")
        with anyio.move_on_after(self.timeout):
            try:
                response = await self._response(ask, model, limit)
                try:
                    content = await response.aread()
                finally:
                    await response.aclose()
            except httpx2.RequestError as error:
                return Reply(0, told(self.backend, error_from_exception(self.backend, error)))
            reply = reply_from(self.backend, response.status_code, response.headers, content)
            self.tokens += reply.tokens
            return reply
        return silence

    async def _response(self, ask: Ask, model: str, limit: str) -> httpx2.Response:
        completions = self.completions
        if ask.beside:
            root = completions.base_url.removesuffix("/v1")
            completions = evolve(completions, base_url=root)
        if ask.body is None:
            url = completions.base_url + ask.path
            return await completions.client.get(url, timeout=self.timeout)
        body = ask.body
        if not ask.path:
            limited = {} if ask.tokens is None else {limit: ask.tokens}
            body = {"model": model, "messages": _SHORT, **limited, **body}
        call = Call(self.backend, [], {}, idle_timeout=self.timeout)
        return await completions.post(ask.path or "/chat/completions", body, call)


@frozen
class Outcome:
    """What was found out, question by question. `refusal`: why there was nothing to ask.

    It is `broken` when the backend fell silent before the end.
    """

    findings: list[tuple[Question, Finding]] = Factory(list)
    refusal: Reply | None = None
    broken: bool = False


def questions(profile: Profile, model: str) -> list[Question]:
    """All but the first, in order."""
    return [
        *sampling.QUESTIONS,
        *tool_questions(profile),
        *conversation.QUESTIONS,
        *reasoning.QUESTIONS,
        *endpoint_questions(model),
    ]


async def interview(
    line: Line, profile: Profile, model: str, tell: Callable[[str], None]
) -> Outcome:
    """Ask everything. `tell` gets the progress, as pieces of text."""
    first = limit_question(profile)
    replies, finding = await _ask(first, line, model, "", tell)
    if not any(reply.accepted for reply in replies):
        return Outcome(refusal=replies[0])
    findings = [(first, finding)]
    limit = finding.sets.get("max_tokens_field") or profile.max_tokens_field
    agreed: set[str] = set()
    found: set[str] = set()
    silences = 0
    for question in questions(profile, model):
        if silences == _PATIENCE:
            findings.append((question, Finding("not asked: the backend fell silent")))
        elif question.after and question.after not in agreed:
            why = f"not asked: {question.after} got no yes"
            findings.append((question, Finding(why)))
        elif question.unless not in found:
            replies, finding = await _ask(question, line, model, limit, tell)
            findings.append((question, finding))
            found |= finding.sets.keys()
            silences = silences + 1 if replies[-1].silent else 0
            if any(reply.accepted for reply in replies):
                agreed.add(question.name)
    return Outcome(findings, broken=silences == _PATIENCE)


async def _ask(
    question: Question, line: Line, model: str, limit: str, tell: Callable[[str], None]
) -> tuple[list[Reply], Finding]:
    tell(f"asking: {question.name} … ")
    replies: list[Reply] = []
    for ask in question.asks:
        replies.append(await line.reply(ask, model, limit))
        if replies[-1].silent or question.enough(replies):
            break
    silent = replies[-1].silent
    finding = Finding(replies[-1].error) if silent else question.judge(replies)
    tell(f"{finding.evidence}\n")
    return replies, finding
