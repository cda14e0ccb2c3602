"""Asks a backend all questions, one after the other.

The output limit comes first: if the backend does not respond to it, no other question is asked.
The interview also ends after three silent replies in a row (rate limits, timeouts, broken
connections).
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
from proxy.probe.reply import Reply, error_text, on_one_line, reply_from
from proxy.probe.sampling import TEMPERATURE, limit_question
from proxy.probe.tools import tool_questions
from stages.backends.call import CLIENT_EXCEPTIONS, BackendCall
from stages.backends.client import ChatCompletionsClient
from stages.backends.errors import error_from_exception
from stages.profiles.profile import Profile

#: Silent questions in a row that end the interview.
_MAX_SILENCES = 3
_NOT_ASKED = "not asked: "
_SHORT = user("Say hello.")


@frozen
class CommonParameters:
    """The parameters of all requests to one model. `limit` is the name of the output limit."""

    model: str
    limit: str = ""
    at_temperature_0: bool = False

    def body(self, request: ProbeRequest) -> dict[str, Any]:
        """Return the whole body of a request."""
        common: dict[str, Any] = {"model": self.model, "messages": _SHORT}
        if self.at_temperature_0:  # the model's behaviour is judged too, and should be reproducible
            common["temperature"] = 0
        if request.tokens is not None:
            common[self.limit] = request.tokens
        return {**common, **(request.body or {})}


@define
class ProbeClient:
    """A client of one backend that counts its requests and output tokens.

    `timeout`: seconds per request. `secrets` are masked in the errors of replies.
    """

    backend: str
    completions: ChatCompletionsClient
    timeout: float
    secrets: tuple[str, ...] = ()
    requests: int = 0
    tokens: int = 0

    async def reply(self, request: ProbeRequest, common: CommonParameters | None = None) -> Reply:
        """Send one request; a failure is a reply too. A 500 may be chance: it is sent again."""
        reply = await self._send(request, common)
        if reply.status == 500:
            reply = await self._send(request, common)
        error = reply.error
        for secret in filter(None, self.secrets):
            error = error.replace(secret, "…")
        return evolve(reply, error=error)

    async def _send(self, request: ProbeRequest, common: CommonParameters | None) -> Reply:
        self.requests += 1
        silence = Reply(0, f"no response in {self.timeout:g} seconds")
        with anyio.move_on_after(self.timeout):
            try:
                async with await self._response(request, common) as response:
                    content = await response.read()
            except CLIENT_EXCEPTIONS as error:
                return Reply(0, error_text(self.backend, error_from_exception(self.backend, error)))
            reply = reply_from(self.backend, response.status, response.headers, content)
            self.tokens += reply.tokens
            return reply
        return silence

    async def _response(
        self, request: ProbeRequest, common: CommonParameters | None
    ) -> aiohttp.ClientResponse:
        url = self.completions.url(request.path or "/chat/completions", request.outside_v1)
        if request.body is None:
            return await self.completions.session.get(url)
        body = request.body if request.path or common is None else common.body(request)
        call = BackendCall(self.backend, [], {}, idle_timeout=self.timeout)
        return await self.completions.post(url, body, call)


def questions(profile: Profile, model: str) -> list[Question]:
    """Return all questions except the first, in order."""
    return [
        *sampling.QUESTIONS,
        *tool_questions(profile),
        *conversation.QUESTIONS,
        *reasoning.QUESTIONS,
        *endpoint_questions(model),
    ]


@define
class Interview:
    """The questions to one model, and the findings, question by question.

    `show_progress` gets parts of lines. `refusal`: why no question but the first was asked.
    """

    client: ProbeClient
    profile: Profile
    model: str
    show_progress: Callable[[str], None]
    findings: list[tuple[Question, Finding]] = Factory(list)
    refusal: Reply | None = None
    _common: CommonParameters = field(init=False)
    _evidence: dict[str, str] = Factory(dict)
    _accepted: set[str] = Factory(set)
    _found_keys: set[str] = Factory(set)
    _silences: int = 0

    def __attrs_post_init__(self) -> None:
        self._common = CommonParameters(self.model, self.profile.max_tokens_field)

    @property
    def broken(self) -> bool:
        """Whether the backend stopped responding before the end."""
        return self._silences >= _MAX_SILENCES

    async def run(self) -> None:
        """Ask all questions, or only the first if the backend refuses it."""
        first = limit_question(self.profile)
        replies, finding = await self._ask(first)
        if not any(reply.accepted and reply.choices for reply in replies):
            error = replies[0].error or "200, but not a chat completion"
            self.refusal = evolve(replies[0], error=error)
            return
        limit = finding.sets.get("max_tokens_field") or self.profile.max_tokens_field
        self._common = CommonParameters(self.model, limit)
        for question in questions(self.profile, self.model):
            if self.broken:
                self._record(question, Finding(f"{_NOT_ASKED}the backend stopped responding"))
            elif question.after and question.after not in self._accepted:
                reason = self._evidence[question.after].removeprefix(_NOT_ASKED)
                self._record(question, Finding(f"{_NOT_ASKED}{reason}"))
            elif question.unless not in self._found_keys:
                replies, _ = await self._ask(question)
                if question.name == TEMPERATURE:
                    fixed = all(reply.accepted for reply in replies)
                    self._common = CommonParameters(self.model, limit, at_temperature_0=fixed)

    async def _ask(self, question: Question) -> tuple[list[Reply], Finding]:
        self.show_progress(f"asking: {question.name} … ")
        replies: list[Reply] = []
        for request in question.requests:
            replies.append(await self.client.reply(request, self._common))
            if replies[-1].silent or question.enough(replies):
                break
        silent = replies[-1].silent
        finding = Finding(replies[-1].error) if silent else question.judge(replies)
        # The evidence may quote the model, and becomes a YAML comment.
        finding = evolve(finding, evidence=on_one_line(finding.evidence))
        self.show_progress(f"{finding.evidence}\n")
        self._silences = self._silences + 1 if silent else 0
        if any(reply.accepted for reply in replies):
            self._accepted.add(question.name)
        self._record(question, finding)
        return replies, finding

    def _record(self, question: Question, finding: Finding) -> None:
        self.findings.append((question, finding))
        self._evidence[question.name] = finding.evidence
        self._found_keys |= finding.sets.keys()
