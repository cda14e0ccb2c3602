"""A configured backend: its profile, and its session, opened on first use."""

from __future__ import annotations

import fnmatch
import logging
import threading
import time
from collections import Counter, deque
from contextlib import AsyncExitStack
from typing import Any, Protocol, cast

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
from attrs import define, field
from yarl import URL

from pipeline import Send
from stages.backends.adjusted_request import AdjustedRequest
from stages.backends.call import CLIENT_EXCEPTIONS, BackendCall
from stages.backends.call_queue import CallQueue, LocalCallQueue
from stages.backends.client import ChatCompletionsClient
from stages.backends.embedded_model import EmbeddedModel, LocalModel, load
from stages.backends.errors import error_from_exception
from stages.backends.fair_queue import FairQueue
from stages.backends.refused_options import RefusedOptions
from stages.backends.session import make_session, strip_credentials
from stages.backends.tokenizers import TOKENIZERS
from stages.chat_completions.overflow import prompt_too_long
from stages.chat_completions.token_calibration import TokenCalibration
from stages.chat_completions.usage import last_reported_usage, parse_usage
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, ChatStart
from stages.exchange import Target
from stages.messages_api.errors import (
    ApiError,
    InternalError,
    InvalidRequestError,
    PromptTooLongError,
)
from stages.messages_api.usage import Usage
from stages.off_loop import LARGE_BODY, off_loop
from stages.profiles.profile import Profile, merge_overrides

log = logging.getLogger("llm_proxy")

#: Seconds that a health check may take.
_CHECK_TIMEOUT = 5.0
#: Merged profiles that are kept. Clients may use any model name.
_MAX_PROFILES = 200
#: The usage of a response is in one of its last chunks.
_LAST_CHUNKS = 4


class ChatBackend(Protocol):
    """What `invoke` needs of a backend. Tests implement it."""

    async def answer(
        self,
        request: ChatRequest,
        forward: Send[ChatEvent],
        idle_timeout: float,
        first_byte_timeout: float | None = None,
    ) -> None:
        """Forward ChatChunk…, then ChatEnd. Raises ApiError, and the exceptions of `forward`.

        A ChatStart comes first if the request was adjusted before the backend accepted it.
        The timeouts are in seconds. `first_byte_timeout` defaults to `idle_timeout`.
        """


@define(eq=False)
class Backend:
    """One entry of `backends`, shared by all requests. The caller of `open` calls `aclose`.

    Its connections belong to the event loop that opens it. Another loop may open it only after it
    is closed.

    Opening imports LangChain, and loads an embedded model: this takes seconds, in a thread.
    """

    profile: Profile
    #: Seconds, at most. A client waits for the count before its next request.
    counting_timeout: float = 5.0
    calibration: TokenCalibration = field(factory=TokenCalibration, init=False)
    refused_options: RefusedOptions = field(init=False)
    """Options that its models have refused. Later requests leave them out."""
    refusal_counts: Counter[str] = field(factory=Counter, init=False)
    """Number of requests sent again without an option, by option."""
    queue: CallQueue | None = field(init=False)
    """Running and waiting calls, if their number is limited. For the stage `queue`.

    After a reload the old and the new backend share it; see `apply_concurrency_limit`.
    """
    embedded_model: EmbeddedModel | None = field(init=False)
    responses: int = field(default=0, init=False)
    """Number of complete responses."""
    _merged_profiles: dict[str, Profile] = field(factory=dict, init=False, repr=False)
    """By the overrides, the oldest first."""
    _model: Any = field(default=None, init=False)
    _completions: ChatCompletionsClient | None = field(default=None, init=False)
    _exits: AsyncExitStack = field(factory=AsyncExitStack, init=False, repr=False)
    _opening: anyio.Lock = field(factory=anyio.Lock, init=False, repr=False)
    _event_loop: Any = field(default=None, init=False, repr=False)

    @queue.default
    def _make_queue(self) -> CallQueue | None:
        slots = self.profile.max_concurrent_calls
        return None if slots is None else LocalCallQueue(FairQueue(slots))

    @embedded_model.default
    def _make_embedded_model(self) -> EmbeddedModel | None:
        return LocalModel(self.profile) if self.profile.embedded else None

    @refused_options.default
    def _make_refused_options(self) -> RefusedOptions:
        return RefusedOptions(self.profile.remember_refusals)

    def profile_for(self, target: Target) -> Profile:
        """The profile for one model: with its patterns' keys, its own, and its refused options."""
        if not (target.overrides or self.profile.models or self.refused_options.by_model):
            return self.profile
        refused = self.refused_options.overrides_for(target.model, time.monotonic())
        matching = [p for p in self.profile.models if fnmatch.fnmatchcase(target.model, p)]
        if not (target.overrides or matching or refused):
            return self.profile
        # Merging takes 50 us, and each request needs the profile.
        key = repr((matching, target.overrides, refused))  # a price is no JSON
        if (profile := self._merged_profiles.get(key)) is None:
            profile = self.profile
            for overrides in (*map(self.profile.models.get, matching), target.overrides, *refused):
                profile = merge_overrides(profile, overrides or {})
            self._merged_profiles[key] = profile
            if len(self._merged_profiles) > _MAX_PROFILES:
                self._merged_profiles.pop(next(iter(self._merged_profiles)))
        return profile

    async def open(self) -> ChatCompletionsClient:
        """Open the backend once; later calls wait for the first. Load a model that has died."""
        model = self.embedded_model
        if self._completions is None or not (model is None or model.is_running):
            self._claim()
            # Shielded: a cancelled request must not leave a half-opened backend.
            with anyio.CancelScope(shield=True):
                async with self._opening:
                    if self._completions is None:
                        await self._open()
                    elif model:
                        await load(model)
        return cast("ChatCompletionsClient", self._completions)

    def _claim(self) -> None:
        """Refuse a second event loop: it would wait forever."""
        current_loop = anyio.lowlevel.current_token()
        if self._event_loop not in (None, current_loop):
            raise RuntimeError("another event loop has opened this backend and not closed it")
        self._event_loop = current_loop

    async def _open(self) -> None:
        profile = self.profile
        base_url = strip_credentials(profile.base_url)
        if model := self.embedded_model:
            base_url = f"{await load(model)}/v1"
            self._exits.push_async_callback(anyio.to_thread.run_sync, model.close)
        client = make_session(profile, model.socket if model else None)
        self._exits.push_async_callback(client.close)
        again = self.open if model else None
        completions = ChatCompletionsClient(client, base_url, profile.connect_timeout, again)
        self._model = await anyio.to_thread.run_sync(_make_model, completions, profile)
        self._completions = completions

    async def aclose(self) -> None:
        """Close the connections and stop the embedded model."""
        await self._exits.aclose()
        await anyio.lowlevel.checkpoint()  # the sockets close in the event loop's next round
        self._completions = self._event_loop = None

    async def check(self, name: str) -> None:
        """Request the path `health` of the backend `name`. Raises ApiError unless it is healthy.

        Any status below 500 is healthy: a server that demands a key is running.
        """
        completions = await self.open()
        url = URL(completions.base_url + "/").join(URL(self.profile.health))
        timeout = aiohttp.ClientTimeout(total=_CHECK_TIMEOUT)
        try:
            get = completions.session.get(url, timeout=timeout, allow_redirects=False)
            async with get as response:
                status = response.status
        except CLIENT_EXCEPTIONS as error:
            raise error_from_exception(name, error) from error
        if status >= 500:
            raise InternalError(f"backend `{name}` answered a health check with status {status}")

    async def answer(
        self,
        request: ChatRequest,
        forward: Send[ChatEvent],
        idle_timeout: float,
        first_byte_timeout: float | None = None,
    ) -> None:
        """See ChatBackend."""
        await self.open()
        if attempts := request.exchange.attempts:
            attempts[-1].sent = time.monotonic()  # not earlier: to open takes seconds
        from stages.backends.langchain import open_response  # imported by `open`, in a thread

        target = request.resolved.target
        call = BackendCall.of(request, idle_timeout, first_byte_timeout)
        adjusted = AdjustedRequest(request, call, self.profile_for)
        recent: deque[Any] = deque(maxlen=_LAST_CHUNKS)
        accepted = False
        while not accepted:
            try:
                async with await open_response(
                    self._model, target.model, adjusted.call, adjusted.request.stream
                ) as response:
                    accepted = True
                    if adjusted.dropped_options:
                        self._remember_dropped_options(adjusted)
                        await forward(ChatStart(adjusted.request))
                    async for chunks in response:
                        recent.extend(chunks)
                        for data in chunks[:-1]:
                            await forward(ChatChunk(data, more_buffered=True))
                        await forward(ChatChunk(chunks[-1]))
            except InvalidRequestError as error:
                if accepted:  # a later stage raised it
                    raise
                await self._adjust(adjusted, error)
        self._count_response(adjusted.request, parse_usage(last_reported_usage(recent)))
        await forward(ChatEnd(adjusted.call.completed, adjusted.limit_lowered))

    def _count_response(self, request: ChatRequest, used: Usage) -> None:
        self.responses += 1
        model = request.resolved.target.model
        self.calibration.learn(model, request.raw_estimate, used.prompt_tokens)

    async def _adjust(self, adjusted: AdjustedRequest, error: InvalidRequestError) -> None:
        """Adjust the request after a refusal. Raise the error if that is not possible."""
        if isinstance(error, PromptTooLongError):
            raise await self._with_token_count(adjusted.request, error)
        small = adjusted.call.body_size < LARGE_BODY
        if not (adjusted.adjust(error) if small else await off_loop(adjusted.adjust, error)):
            raise error

    def _remember_dropped_options(self, adjusted: AdjustedRequest) -> None:
        """Remember, log and count the options that were left out."""
        target = adjusted.request.resolved.target
        for refused in adjusted.dropped_options:
            self.refusal_counts[refused.option] += 1
            if refused.lasting:
                self.refused_options.learn(target.model, refused, time.monotonic())
            log.warning(
                "backend `%s` refuses %s; it is left out for %g s (request_id=%s)",
                *(target.backend, refused.option, self.refused_options.seconds * refused.lasting),
                adjusted.request.exchange.id,
            )

    async def _with_token_count(self, request: ChatRequest, error: PromptTooLongError) -> ApiError:
        """Add the prompt's token count to the error, if the backend's tokenizer returns it.

        Some backends stop counting at their window. Clients shorten by the excess over it.
        """
        if error.maximum is None:
            return error
        tokens = await self.count_tokens(request)
        return (
            prompt_too_long(tokens, error.maximum) if tokens and tokens >= error.maximum else error
        )

    async def count_tokens(self, request: ChatRequest) -> int | None:
        """Return the prompt's tokens as the backend counts them; None if it cannot, or fails.

        A failure is only logged: clients count often, and an estimate is enough for them.
        """
        target = request.resolved.target
        kind = self.profile_for(target).tokenizer
        if kind == "none":
            return None
        try:
            completions = await self.open()
            return await TOKENIZERS[kind].count(completions, request, self.counting_timeout)
        except ApiError as error:
            log.warning("backend `%s` cannot count tokens: %s", target.backend, error.log_message)
            return None


#: Backends open in threads. Two that import LangChain at once may see a half-imported module.
_IMPORTING = threading.Lock()


def _make_model(completions: ChatCompletionsClient, profile: Profile) -> Any:
    with _IMPORTING:  # takes a second, so only when a backend is opened
        from stages.backends.langchain import make_model
    return make_model(completions, profile)
