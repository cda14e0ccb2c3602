"""The stage `fallback`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator

import anyio
from attrs import Factory, evolve, frozen

from pipeline import Send, Stage, option, section
from stages.events import Resolved
from stages.exchange import Repeat, Target
from stages.messages_api.errors import ApiError, drop_traceback
from stages.routing.breaker import Breaker, Breakers
from stages.routing.error_kinds import TRANSIENT, ErrorKind, blames_target, error_kind, is_transient

log = logging.getLogger("llm_proxy")


@frozen
class Fallback(Stage[Resolved, Resolved]):
    """If a target of a model fails before the client's response starts, try the next target.

    A target whose circuit breaker is open is tried last (see `circuit_breaker`). If all targets
    fail, the client gets the first transient error, otherwise the last error. It gets an
    `unsupported` error only if all targets failed with one.
    """

    on: tuple[ErrorKind, ...] = option(
        (*TRANSIENT, "api", "billing", "permission", "not_found", "overflow", "unsupported"),
        help="errors after which the request is sent to the next target",
    )
    breakers: Breakers = section("circuit_breaker", Factory(Breakers))

    def handle(self, event: Resolved, forward: Send[Resolved]) -> Awaitable[None]:
        return self._try_targets(event, forward) if event.alternatives else forward(event)

    async def _try_targets(self, event: Resolved, forward: Send[Resolved]) -> None:
        errors: list[ApiError] = []
        for target in self._targets_in_order(event):
            if errors:
                _record(event, errors[-1], target)
            event = evolve(event, target=target, alternatives=())
            try:
                await self._attempt(event, forward, self.breakers.get(target.label))
                return
            except ApiError as error:
                if event.exchange.response_started is not None:
                    raise
                drop_traceback(error)
                errors.append(error)
                if error_kind(error) not in self.on:
                    break
        supported = [error for error in errors if error_kind(error) != "unsupported"] or errors
        try:
            raise next(filter(is_transient, supported), supported[-1])
        finally:
            del errors, supported  # a cycle: they refer to this frame, and the frame to them

    def _targets_in_order(self, event: Resolved) -> Iterator[Target]:
        """Each target once; those with an open circuit breaker come last."""
        blocked = []
        for target in (event.target, *event.alternatives):
            if self.breakers.get(target.label).allows(anyio.current_time()):
                yield target
            else:
                blocked.append(target)
        yield from blocked  # a prompt may be too long for all the others

    async def _attempt(self, event: Resolved, forward: Send[Resolved], breaker: Breaker) -> None:
        attempt = breaker.attempt(anyio.current_time())
        exchange = event.exchange
        exchange.on_response_start.append(attempt.response_started)
        try:
            await forward(event)
            if exchange.response_started is not None:  # otherwise no backend was called
                attempt.succeeded()
        except ApiError as error:
            if blames_target(error):
                attempt.failed(anyio.current_time())
            raise
        finally:
            exchange.on_response_start.remove(attempt.response_started)
            attempt.finished()


def _record(event: Resolved, error: ApiError, next_target: Target) -> None:
    kind, label = error_kind(error), event.target.label
    event.exchange.repeats.append(Repeat("fallback", event.target, kind))
    log.debug("%s fallback from %s to %s: %s", event.exchange.id, label, next_target.label, kind)
