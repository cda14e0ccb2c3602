"""The stage `fallback`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator

import anyio
from attrs import Factory, evolve, frozen

from pipeline import Send, Stage, option, section
from stages.counters import Counts
from stages.events import Resolved, Target
from stages.messages_api.errors import ApiError, let_go
from stages.routing.breaker import Breaker, Breakers
from stages.routing.error_kinds import PASSING, Kind, kind, of_target, passes

log = logging.getLogger("llm_proxy")


@frozen
class Fallback(Stage[Resolved, Resolved]):
    """Goes on to a model's next target when one fails before its answer has begun.

    Targets that keep failing are for a while asked only when the others have failed, too (see
    `circuit_breaker`). When none answers, the client is told of the first error that may pass,
    else of the last; of what a target's profile rejects only if no other target takes it, either.
    """

    on: tuple[Kind, ...] = option(
        (*PASSING, "api", "billing", "permission", "not_found", "overflow", "unsupported"),
        help="errors after which the next target is asked",
    )
    breakers: Breakers = section("circuit_breaker", Factory(Breakers))
    counts: Counts = section("metrics", Factory(Counts))

    def handle(self, event: Resolved, forward: Send[Resolved]) -> Awaitable[None]:
        return self._to_one(event, forward) if event.others else forward(event)

    async def _to_one(self, event: Resolved, forward: Send[Resolved]) -> None:
        errors: list[ApiError] = []
        for target in self._in_turn(event):
            if errors:
                self._tell(event, errors[-1], target)
            event = evolve(event, target=target, others=())
            try:
                await self._ask(event, forward, self.breakers.of(target.label))
                return
            except ApiError as error:
                if event.progress.begun:
                    raise
                let_go(error)
                errors.append(error)
                if kind(error) not in self.on:
                    break
        told = [error for error in errors if kind(error) != "unsupported"] or errors
        try:
            raise next(filter(passes, told), told[-1])
        finally:
            del errors, told  # they hold this frame, which would hold them

    def _in_turn(self, event: Resolved) -> Iterator[Target]:
        """Each target once; those that should be left alone come last."""
        left_alone = []
        for target in (event.target, *event.others):
            if self.breakers.of(target.label).admits(anyio.current_time()):
                yield target
            else:
                left_alone.append(target)
        yield from left_alone  # else a prompt too long for the others would be too long for all

    async def _ask(self, event: Resolved, forward: Send[Resolved], breaker: Breaker) -> None:
        attempt = breaker.attempt(anyio.current_time())
        event.progress.then = attempt.begun
        try:
            await forward(event)
            if event.progress.begun:  # else it was not asked, or only to count tokens
                attempt.succeeded()
        except ApiError as error:
            if of_target(error):
                attempt.failed(anyio.current_time())
            raise
        finally:
            attempt.left()

    def _tell(self, event: Resolved, error: ApiError, following: Target) -> None:
        self.counts.tried_again["fallback", event.target.backend, kind(error)] += 1
        log.info(
            "%s fallback from %s to %s: %s",
            event.http.request_id,
            event.target.label,
            following.label,
            kind(error),
        )
