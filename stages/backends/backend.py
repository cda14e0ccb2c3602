"""A declared backend: its profile, and its connection, opened on first use."""

from __future__ import annotations

import fnmatch
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, Protocol, cast

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
from attrs import define, field
from yarl import URL

from stages.backends import embedded
from stages.backends.call import FAILURES, BackendCall
from stages.backends.client import ChatCompletionsClient
from stages.backends.fair_queue import FairQueue
from stages.backends.refusals import Refusals
from stages.backends.resend import Resend
from stages.backends.session import make_client, root
from stages.backends.tokenizers import TOKENIZERS
from stages.chat_completions.errors import error_from_exception
from stages.chat_completions.overflow import too_long
from stages.chat_completions.token_calibration import TokenCalibration
from stages.chat_completions.usage import last_reported, usage
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, ChatStart
from stages.exchange import Target
from stages.messages_api.errors import (
    ApiError,
    InternalError,
    InvalidRequestError,
    PromptTooLongError,
)
from stages.off_loop import LARGE_BODY, off_loop
from stages.profiles.profile import Profile, merged
from stages.wire.json_codec import encode

log = logging.getLogger("llm_proxy")

#: Seconds that a probe may take.
_PROBE_TIMEOUT = 5.0
#: Profiles of single models that are kept made. Clients may name models freely.
_PROFILES = 200
#: Those in which the usage of an answer comes.
_LAST_CHUNKS = 4


class ChatBackend(Protocol):
    """What `invoke` needs of a backend; the seam for tests."""

    def answer(
        self,
        request: ChatRequest,
        idle_timeout: float,
        first_byte_timeout: float | None = None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """ChatChunk…, then ChatEnd. A leaf generator, to be closed. Raises ApiError.

        A ChatStart comes first where the request was changed before the backend took it.
        Until the first byte `first_byte_timeout` counts where it is given, else `idle_timeout`.
        """


@define(eq=False)
class Backend:
    """One entry of `backends`, shared by all requests. Whoever opens it closes it.

    Its connections belong to the event loop that opens it; only when it is closed, another may.

    Opening imports LangChain, and loads the model if it is embedded: seconds, in a thread.
    """

    profile: Profile
    #: Seconds, at most. A client waits for the number with its next request.
    counting_timeout: float = 5.0
    calibration: TokenCalibration = field(factory=TokenCalibration, init=False)
    refusals: Refusals = field(init=False)
    """Options that its models have refused. They are left out of later requests."""
    refused: Counter[str] = field(factory=Counter, init=False)
    """How often a request was sent again without an option, by option."""
    queue: FairQueue[Any] | None = field(init=False)
    """The calls that run and wait, where only so many may run. For the stage `queue`.

    After a reload the backend before has the same, and its slots; see `apply_concurrency_limit`.
    """
    _overridden: dict[bytes, Profile] = field(factory=dict, init=False, repr=False)
    """By what overrides the profile, the oldest first."""
    _model: Any = field(default=None, init=False)
    _completions: ChatCompletionsClient | None = field(default=None, init=False)
    _exits: AsyncExitStack = field(factory=AsyncExitStack, init=False, repr=False)
    _opening: anyio.Lock = field(factory=anyio.Lock, init=False, repr=False)
    _loop: Any = field(default=None, init=False, repr=False)

    @queue.default
    def _make_queue(self) -> FairQueue[Any] | None:
        return None if self.profile.slots is None else FairQueue(self.profile.slots)

    @refusals.default
    def _make_refusals(self) -> Refusals:
        return Refusals(self.profile.remember_refusals)

    def profile_for(self, target: Target) -> Profile:
        """The profile for one model: its pattern's keys, its own, and what it has refused."""
        if not (target.overrides or self.profile.models or self.refusals.known):
            return self.profile
        refused = self.refusals.options_refused_by(target.model, time.monotonic())
        matching = [p for p in self.profile.models if fnmatch.fnmatchcase(target.model, p)]
        if not (target.overrides or matching or refused):
            return self.profile
        # To make one takes 50 us, and each request asks for it.
        key = encode((matching, target.overrides, refused))
        if (made := self._overridden.get(key)) is None:
            made = self.profile
            for overrides in (*map(self.profile.models.get, matching), target.overrides, *refused):
                made = merged(made, overrides or {})
            self._overridden[key] = made
            if len(self._overridden) > _PROFILES:
                self._overridden.pop(next(iter(self._overridden)))
        return made

    async def open(self) -> ChatCompletionsClient:
        """Make it ready, once; later calls wait for the first."""
        if self._completions is None:
            self._claim()
            # Shielded: a request that leaves would leave a loaded model behind.
            with anyio.CancelScope(shield=True):
                async with self._opening:
                    if self._completions is None:
                        await self._open()
        return cast("ChatCompletionsClient", self._completions)

    def _claim(self) -> None:
        """Let no other event loop wait for this one: it would for ever."""
        here = anyio.lowlevel.current_token()
        if self._loop not in (None, here):
            raise RuntimeError("another event loop has opened this backend, and not closed it")
        self._loop = here

    async def _open(self) -> None:
        profile = self.profile
        base_url = root(profile.base_url)
        if profile.embedded:
            try:
                server = await anyio.to_thread.run_sync(embedded.start, profile)
            except (RuntimeError, ImportError, OSError) as error:
                reason = f"the embedded llama.cpp cannot be started: {error}"
                raise InternalError(reason) from error
            self._exits.push_async_callback(anyio.to_thread.run_sync, server.close)
            base_url = f"{server.url}/v1"
        client = make_client(profile)
        self._exits.push_async_callback(client.close)
        completions = ChatCompletionsClient(client, base_url, profile.connect_timeout)
        self._model = await anyio.to_thread.run_sync(_make_model, completions, profile)
        self._completions = completions

    async def aclose(self) -> None:
        """Close the connections and stop the embedded model."""
        await self._exits.aclose()
        await anyio.lowlevel.checkpoint()  # the sockets close in the event loop's next round
        self._completions = self._loop = None

    async def check(self, name: str) -> None:
        """Ask what `health` names; the backend is called `name`. Raises ApiError unless it answers.

        Any answer but that it has a fault (5xx) will do: a server that asks for a key is there.
        """
        completions = await self.open()
        url = URL(completions.base_url + "/").join(URL(self.profile.health))
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT)
        try:
            get = completions.client.get(url, timeout=timeout, allow_redirects=False)
            async with get as response:
                status = response.status
        except FAILURES as error:
            raise error_from_exception(name, error) from error
        if status >= 500:
            raise InternalError(f"backend `{name}` answers a probe with status {status}")

    async def answer(
        self,
        request: ChatRequest,
        idle_timeout: float,
        first_byte_timeout: float | None = None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """See ChatBackend."""
        await self.open()
        from stages.backends.langchain import ask  # in memory by now; else it would stop the loop

        target = request.resolved.target
        call = _call(request, idle_timeout, first_byte_timeout)
        sent = Resend(request, call, self.profile_for)
        recent: deque[Any] = deque(maxlen=_LAST_CHUNKS)
        accepted = False
        while not accepted:
            try:
                async with await ask(
                    self._model, target.model, sent.call, sent.request.stream
                ) as answer:
                    accepted = True
                    if sent.given_up:
                        self._learn(sent)
                        yield ChatStart(sent.request)
                    async for together in answer:
                        last = len(together) - 1
                        for n, data in enumerate(together):
                            recent.append(data)
                            yield ChatChunk(data, more_buffered=n < last)
            except PromptTooLongError as error:
                raise await self._counted(request, error) from error
            except InvalidRequestError as error:  # a refusal: nothing has been answered yet
                if accepted or not await self._changed(sent, error):
                    raise
        used = usage(last_reported(recent))
        self.calibration.learn(target.model, sent.request.raw_estimate, used.prompt_tokens)
        yield ChatEnd(sent.call.done, sent.lowered)

    async def _changed(self, sent: Resend, error: InvalidRequestError) -> bool:
        """Whether the request is another one after `error`; it may be translated again."""
        small = sent.call.size < LARGE_BODY
        return sent.after(error) if small else await off_loop(sent.after, error)

    def _learn(self, sent: Resend) -> None:
        """Remember, log and count what the backend has refused and was not sent again."""
        target = sent.request.resolved.target
        for refusal in sent.given_up:
            self.refused[refusal.option] += 1
            if refusal.lasting:
                self.refusals.learn(target.model, refusal, time.monotonic())
            log.warning(
                "backend `%s` refuses %s; it is left out for %g s (request_id=%s)",
                *(target.backend, refusal.option, self.refusals.seconds * refusal.lasting),
                sent.request.exchange.id,
            )

    async def _counted(self, request: ChatRequest, error: PromptTooLongError) -> ApiError:
        """The error with the number of the prompt's tokens, where its tokenizer knows that.

        The backend stops to count at its window; clients shorten by what is over it.
        """
        if error.maximum is None:
            return error
        tokens = await self.count_tokens(request)
        return too_long(tokens, error.maximum) if tokens and tokens >= error.maximum else error

    async def count_tokens(self, request: ChatRequest) -> int | None:
        """The prompt's tokens, counted by the backend itself; None where it cannot, or fails.

        Clients count all the time, and can do with an estimate.
        """
        target = request.resolved.target
        kind = self.profile_for(target).tokenizer
        if kind == "none":
            return None
        try:
            completions = await self.open()
            return await TOKENIZERS[kind].count(completions, request, self.counting_timeout)
        except ApiError as error:
            log.warning("backend `%s` counts no tokens: %s", target.backend, error.log_message)
            return None


def _call(
    request: ChatRequest, idle_timeout: float, first_byte_timeout: float | None
) -> BackendCall:
    resolved = request.resolved
    return BackendCall(
        resolved.target.backend,
        request.messages,
        request.options,
        idle_timeout,
        first_byte_timeout,
        gathered=not resolved.request.stream,
        size=resolved.size,
    )


#: Backends open in threads, together. LangChain and what it imports are not made for threads that
#: import them at the same time: one saw a half-imported module (`cannot import name 'RunTree'`).
_IMPORTING = threading.Lock()


def _make_model(completions: ChatCompletionsClient, profile: Profile) -> Any:
    with _IMPORTING:  # takes a second: not before a backend is really wanted
        from stages.backends.langchain import make_model

    return make_model(completions, profile)
