"""The stage `retry`."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import anyio
from attrs import frozen, validators

from pipeline import Send, Stage, option
from stages.events import Resolved
from stages.exchange import Exchange, Repeat, Target
from stages.messages_api.errors import ApiError, drop_traceback
from stages.routing.error_kinds import TRANSIENT, ErrorKind, error_kind

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger("llm_proxy")


@frozen
class Retry(Stage[Resolved, Resolved]):
    """Send a request again that failed before the client's response started.

    It waits for the time in the backend's `retry-after`, and for a random time that grows with each
    attempt. After `fallback` it repeats one target; before `fallback` it repeats all targets.
    """

    attempts: int = option(
        2, help="number of attempts, the first one included", validator=validators.ge(1)
    )
    max_wait: float = option(
        10.0,
        help="longest wait before an attempt, in seconds; a longer `retry-after` fails the request",
        validator=validators.gt(0),
    )
    on: tuple[ErrorKind, ...] = option(TRANSIENT, help="errors after which it repeats the request")

    async def handle(self, event: Resolved, forward: Send[Resolved]) -> None:
        try:
            await forward(event)
        except ApiError as error:
            if not self._may_retry(event.exchange, error):
                raise
            await self._retry(event, forward, error)

    async def _retry(self, event: Resolved, forward: Send[Resolved], first: ApiError) -> None:
        """Make the attempts after the first one, which failed with `first`."""
        # Imported here: the library takes 20 ms to import, and 70 us for a call without an error.
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

        # `retrying` is in a reference cycle. It must not refer to the event, which would then stay
        # in memory until the garbage collector runs.
        exchange = event.exchange
        # Before `fallback`, all targets may have been tried: then there is no one target.
        target = None if event.alternatives else event.target
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: self._may_retry(exchange, error)),
            stop=stop_after_attempt(self.attempts),
            wait=self._wait,
            before_sleep=lambda state: self._record(exchange, target, state),
            sleep=anyio.sleep,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise first
                await forward(event)

    def _may_retry(self, exchange: Exchange, error: BaseException) -> bool:
        return (
            isinstance(error, ApiError)
            and exchange.response_started is None
            and error_kind(error) in self.on
            and error.headers.get("x-should-retry") != "false"
            and _retry_after(error) <= self.max_wait
        )

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_random_exponential

        jitter = wait_random_exponential(multiplier=1, max=self.max_wait)(state)
        return min(_retry_after(_error(state)) + jitter, self.max_wait)

    def _record(self, exchange: Exchange, target: Target | None, state: RetryCallState) -> None:
        error = _error(state)
        drop_traceback(error)
        exchange.repeats.append(Repeat("retry", target, error_kind(error)))
        name = target.label or target.backend if target else "all targets"
        wait = state.next_action.sleep if state.next_action else math.nan
        log.debug("%s retry of %s in %.1f s: %s", exchange.id, name, wait, error_kind(error))


def _error(state: RetryCallState) -> ApiError:
    error = state.outcome and state.outcome.exception()
    if not isinstance(error, ApiError):
        raise AssertionError("unreachable")
    return error


def _retry_after(error: ApiError) -> float:
    """The seconds in `retry-after`. The proxy made this header, so it is a number."""
    return float(error.headers.get("retry-after", 0))
