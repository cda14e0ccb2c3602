"""Asks a backend all there is to ask, one question after the other.

The output limit comes first: without an answer to it there is nothing to ask. Who says nothing
three times in a row (rate limits, timeouts, a broken connection) is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp
import anyio
from attrs import Factory, define, evolve, field, frozen

from proxy.probe import conversation, reasoning, sampling
from proxy.probe.endpoints import endpoint_questions
from proxy.probe.question import Finding, ProbeRequest, Question, user
from proxy.probe.reply import Reply, log_safe, reply_from, reported
from proxy.probe.sampling import TEMPERATURE, limit_question
from proxy.probe.tools import tool_questions
from stages.backends.call import CLIENT_EXCEPTIONS, BackendCall
from stages.backends.client import ChatCompletionsClient
from stages.backends.errors import error_from_exception
from stages.profiles.profile import Profile

#: So many questions in a row without an answer are enough.
_PATIENCE = 3
_NOT_ASKED = "not asked: "
_SHORT = user("Say hello.")


@frozen
class CommonParameters:
    """What all requests to one model have in common. `calm`: at temperature 0."""

    model: str
    limit: str = ""
    calm: bool = False

    def body(self, ask: ProbeRequest) -> dict[str, Any]:
        """The whole of a request."""
        shared: dict[str, Any] = {"model": self.model, "messages": _SHORT}
        if self.calm:  # what the model does is judged too, and should be so each time
            shared["temperature"] = 0
        if ask.tokens is not None:
            shared[self.limit] = ask.tokens
        return {**shared, **(ask.body or {})}


@define
class ProbeClient:
    """The way to one backend. `timeout` is in seconds, for each request. It counts its cost.

    None of the `secrets` is in a reply's error.
    """

    backend: str
    completions: ChatCompletionsClient
    timeout: float
    secrets: tuple[str, ...] = ()
    requests: int = 0
    tokens: int = 0

    async def reply(self, ask: ProbeRequest, terms: CommonParameters | None = None) -> Reply:
        """Send one request; whatever happens is a reply. A 500 may be chance: it is sent twice."""
        reply = await self._sent(ask, terms)
        if reply.status == 500:
            reply = await self._sent(ask, terms)
        error = reply.error
        for secret in filter(None, self.secrets):
            error = error.replace(secret, "…")
        return evolve(reply, error=error)

    async def _sent(self, ask: ProbeRequest, terms: CommonParameters | None) -> Reply:
        self.requests += 1
        silence = Reply(0, f"no answer in {self.timeout:g} seconds")
        with anyio.move_on_after(self.timeout):
            try:
                async with await self._response(ask, terms) as response:
                    content = await response.read()
            except CLIENT_EXCEPTIONS as error:
                return Reply(0, reported(self.backend, error_from_exception(self.backend, error)))
            reply = reply_from(self.backend, response.status, response.headers, content)
            self.tokens += reply.tokens
            return reply
        return silence

    async def _response(
        self, ask: ProbeRequest, terms: CommonParameters | None
    ) -> aiohttp.ClientResponse:
        url = self.completions.url(ask.path or "/chat/completions", ask.outside_v1)
        if ask.body is None:
            return await self.completions.session.get(url)
        body = ask.body if ask.path or terms is None else terms.body(ask)
        call = BackendCall(self.backend, [], {}, idle_timeout=self.timeout)
        return await self.completions.post(url, body, call)


def questions(profile: Profile, model: str) -> list[Question]:
    """All but the first, in order."""
    return [
        *sampling.QUESTIONS,
        *tool_questions(profile),
        *conversation.QUESTIONS,
        *reasoning.QUESTIONS,
        *endpoint_questions(model),
    ]


@define
class Interview:
    """What is asked of one model, and what was found out, question by question.

    `tell` gets the progress, as pieces of text. `refusal`: why there was nothing to ask.
    """

    line: ProbeClient
    profile: Profile
    model: str
    tell: Callable[[str], None]
    findings: list[tuple[Question, Finding]] = Factory(list)
    refusal: Reply | None = None
    _terms: CommonParameters = field(init=False)
    _said: dict[str, str] = Factory(dict)
    _agreed: set[str] = Factory(set)
    _found: set[str] = Factory(set)
    _silences: int = 0

    def __attrs_post_init__(self) -> None:
        self._terms = CommonParameters(self.model, self.profile.max_tokens_field)

    @property
    def broken(self) -> bool:
        """Whether the backend fell silent before the end."""
        return self._silences >= _PATIENCE

    async def run(self) -> None:
        """Ask everything; only the first question, when it is refused."""
        first = limit_question(self.profile)
        replies, finding = await self._put(first)
        if not any(reply.accepted and reply.choices for reply in replies):
            error = replies[0].error or "200, but the answer is no chat completion"
            self.refusal = evolve(replies[0], error=error)
            return
        limit = finding.sets.get("max_tokens_field") or self.profile.max_tokens_field
        self._terms = CommonParameters(self.model, limit)
        for question in questions(self.profile, self.model):
            if self.broken:
                self._note(question, Finding(f"{_NOT_ASKED}the backend fell silent"))
            elif question.after and question.after not in self._agreed:
                said = self._said[question.after].removeprefix(_NOT_ASKED)
                self._note(question, Finding(f"{_NOT_ASKED}{said}"))
            elif question.unless not in self._found:
                replies, _ = await self._put(question)
                if question.name == TEMPERATURE:
                    calm = all(reply.accepted for reply in replies)
                    self._terms = CommonParameters(self.model, limit, calm)

    async def _put(self, question: Question) -> tuple[list[Reply], Finding]:
        self.tell(f"asking: {question.name} … ")
        replies: list[Reply] = []
        for ask in question.asks:
            replies.append(await self.line.reply(ask, self._terms))
            if replies[-1].silent or question.enough(replies):
                break
        silent = replies[-1].silent
        finding = Finding(replies[-1].error) if silent else question.judge(replies)
        # A model's words may be in it, and it is going into comments.
        finding = evolve(finding, evidence=log_safe(finding.evidence))
        self.tell(f"{finding.evidence}\n")
        self._silences = self._silences + 1 if silent else 0
        if any(reply.accepted for reply in replies):
            self._agreed.add(question.name)
        self._note(question, finding)
        return replies, finding

    def _note(self, question: Question, finding: Finding) -> None:
        self.findings.append((question, finding))
        self._said[question.name] = finding.evidence
        self._found |= finding.sets.keys()
