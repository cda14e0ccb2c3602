"""Decide which waiting call a backend with limited slots gets next. Pure.

`rotation` has the order of the calls that wait. Some calls start out of turn: the backend has the
prompt of the conversation that ran last in a slot in its prefix cache, and another conversation
replaces that prompt. If the backend swaps models, calls of the loaded model are next.

    slot         event                              next call                          slot then
    ----------   --------------------------------   --------------------------------   -----------
    free         a call enters                      this call                          running
    ran C        its call leaves; one of C waits,   the rotation's next call of C,     runs C
                 but the rotation's next call is    if C is allowed
                 another one
    ran C        its call leaves with a `hold`;     none, if C is allowed              waits for C
                 none of C waits, but others do
    ran C        its call leaves; none of these     the rotation's next call of the    running
                                                    loaded model, if the model is
                                                    allowed; otherwise the rotation's
    waits for C  a call of C enters                 this call                          runs C
    waits for C  another call enters, or the hold   as if the call had left without    running
                 ends                               a hold

    allowed     calls of C in a row    seconds since                 other waiting calls
    ---------   --------------------   ---------------------------   ---------------------------
    C           fewer than `turns`     its first call ended, at      `turn_budget` allows it
                                       most `seconds`
    the model   any                    its first call ended, at      `turn_budget` allows it
                                       most `seconds`

"In a row" and "first" count from the last call of C, or of the model, that started in its turn. A
call out of turn does not change the order of the others. A slot is free while calls wait only if it
is reserved, also after an increase of slots.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from attrs import define, field

from stages.backends.rotation import Rotation
from stages.backends.slots import COLD, Slot, Warmth
from stages.backends.turn_budget import OutOfTurn, Reason, TurnBudget

#: Seconds that a call is assumed to take until the first one has ended.
_FIRST_DURATION = 5.0
_WEIGHT_OF_NEWEST = 0.2
_RETRY_AFTER = (1, 60)

T = TypeVar("T", bound=Hashable)


class _Waiting(NamedTuple):
    names: tuple[str, ...]
    short: bool
    warmth: Warmth
    stamp: float
    """See TurnBudget."""


@define(eq=False)
class FairQueue(Generic[T]):
    """The running and waiting calls of one backend. At most `slots` run. `clock`: in seconds."""

    slots: int
    clock: Callable[[], float] = time.monotonic
    _running: dict[T, Slot] = field(factory=dict)
    _reserved: dict[T, Slot] = field(factory=dict)
    """By the call that ran there."""
    _free: dict[str, Slot] = field(factory=dict)
    """Free slots whose conversation is known, by conversation, the last used at the end."""
    _waiting: dict[T, _Waiting] = field(factory=dict)
    _rotation: Rotation[T] = field(factory=Rotation)
    _budget: TurnBudget = field(factory=TurnBudget)
    _model: str = ""
    """The model of the call that started last."""
    _loaded: float | None = None
    """When the first call of that model ended; None: it runs."""
    _mean_duration: float = _FIRST_DURATION

    def __contains__(self, call: T) -> bool:
        return call in self._running or call in self._waiting or call in self._reserved

    @property
    def running(self) -> int:
        """Number of running calls."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Number of waiting calls."""
        return len(self._waiting)

    @property
    def has_free_slot(self) -> bool:
        """Whether any new call may start at once."""
        return len(self._running) + len(self._reserved) < self.slots

    def may_start(self, warmth: Warmth) -> bool:
        """Whether a new call may start at once."""
        return self.has_free_slot or self._holder(warmth) is not None

    def enter(self, call: T, names: tuple[str, ...], short: bool, warmth: Warmth = COLD) -> bool:
        """Add a call. `names`: its key and session. Return whether it may start at once.

        If it may not, call `end_holds`.
        """
        if self._reserved and (holder := self._holder(warmth)) is not None:
            self._start_warm(call, self._end_hold(holder))
            return True
        if self.has_free_slot:
            self._start(call, warmth)
            return True
        stamp = self._budget.stamp(self.clock())
        self._waiting[call] = _Waiting(names, short, warmth, stamp)
        self._rotation.put(call, names, short)
        return False

    def resume(self, call: T) -> None:
        """Add a call that runs already, also if no slot is free."""
        self._running[call] = Slot(COLD)

    def leave(self, call: T, hold: float = 0.0) -> list[T]:
        """Remove a call. Return the calls that may start now.

        `hold`: the seconds for which the slot of a running call may be reserved. If it is,
        `call` is still in the queue, and the caller calls `leave` again later.
        """
        if call in self._waiting:
            names, short, *_ = self._waiting.pop(call)
            self._rotation.remove(call, names, short)
        elif call in self._reserved:
            self._free_slot(self._end_hold(call))
        else:
            slot = self._running.pop(call)
            self._end_turn(slot)
            if hold > 0 and self._may_hold(slot, hold):
                slot.out_of_turn = self._budget.begin("hold", hold, self.clock())
                self._reserved[call] = slot
            else:
                self._free_slot(slot)
        return self._start_due()

    def end_holds(self) -> list[T]:
        """Free the slots that are reserved. Return the calls that may start now."""
        if not self._reserved:
            return []
        for call in [*self._reserved]:
            self._free_slot(self._end_hold(call))
        return self._start_due()

    def resize(self, slots: int) -> list[T]:
        """Change the number of slots. Return the calls that may start now."""
        self.slots = slots
        return self._start_due()

    # Slots.

    def _start(self, call: T, warmth: Warmth, in_turn: bool = True) -> Slot:
        slot = self._running[call] = Slot(warmth)
        if self._free:
            self._free.pop(warmth.conversation, None)
            if self._free:
                self._forget_slots()
        if in_turn or warmth.model != self._model:
            self._model, self._loaded = warmth.model, None
        return slot

    def _end_turn(self, slot: Slot) -> None:
        """Record that the slot's call, or its hold, ends."""
        if slot.out_of_turn is not None:
            self._budget.end(slot.out_of_turn, self.clock())
            slot.out_of_turn = None
        if self._waiting:
            if slot.since is None:
                slot.since = self.clock()
            if self._loaded is None and slot.warmth.model == self._model:
                self._loaded = self.clock()

    def _free_slot(self, slot: Slot) -> None:
        if slot.warmth.conversation:
            self._free[slot.warmth.conversation] = slot
            if len(self._free) > 1:
                self._forget_slots()

    def _forget_slots(self) -> None:
        free = max(0, self.slots - len(self._running) - len(self._reserved))
        while len(self._free) > free:
            del self._free[next(iter(self._free))]

    def _holder(self, warmth: Warmth) -> T | None:
        """The call whose slot is reserved for this one."""
        if not self._reserved:
            return None
        return next(
            (call for call, slot in self._reserved.items() if slot.is_warm_for(warmth)), None
        )

    def _end_hold(self, call: T) -> Slot:
        slot = self._reserved.pop(call)
        self._end_turn(slot)
        return slot

    # The next call.

    def _start_due(self) -> list[T]:
        due = []
        while self._waiting and self.has_free_slot:
            due.append(self._start_next())
        return due

    def _start_next(self) -> T:
        for slot in [*self._free.values()]:
            if self._may_run_again(slot):
                call = self._rotation.take_first(partial(self._is_warm, slot))
                del self._waiting[call]
                self._start_warm(call, slot)
                return call
        if self._model and self._may_keep_model():
            call = self._rotation.take_first(self._is_loaded)
            out_of_turn = self._begin("model")
        else:
            call, out_of_turn = self._rotation.take(), None
        slot = self._start(call, self._waiting.pop(call).warmth, in_turn=out_of_turn is None)
        slot.out_of_turn = out_of_turn
        return call

    def _start_warm(self, call: T, earlier: Slot) -> None:
        slot = self._start(call, earlier.warmth, in_turn=False)
        slot.turns, slot.since = earlier.turns + 1, earlier.since
        slot.out_of_turn = self._begin("conversation")

    # What may be out of turn.

    def _begin(self, reason: Reason) -> OutOfTurn:
        return self._budget.begin(reason, self._expected(reason), self.clock())

    def _expected(self, reason: Reason) -> float:
        return self._budget.expected(reason, self._mean_duration / 2)

    def _is_warm(self, slot: Slot, call: T) -> bool:
        return slot.is_warm_for(self._waiting[call].warmth)

    def _has_waiting(self, slot: Slot) -> bool:
        """Whether a call of the slot's conversation waits."""
        return any(slot.is_warm_for(waiting.warmth) for waiting in self._waiting.values())

    def _may_hold(self, slot: Slot, hold: float) -> bool:
        is_free = bool(self._waiting) and self.has_free_slot
        return is_free and not self._has_waiting(slot) and self._may_go_on(slot, hold)

    def _may_run_again(self, slot: Slot) -> bool:
        """Whether a waiting call of the conversation may start before the rotation's next call."""
        if self._is_warm(slot, self._rotation.first) or not self._has_waiting(slot):
            return False
        return self._may_go_on(slot)

    def _may_go_on(self, slot: Slot, hold: float = 0.0) -> bool:
        """Whether the next call of the slot's conversation may start, after `hold` seconds."""
        now = self.clock()
        if slot.turns >= slot.warmth.turns or _is_over(slot.since, slot.warmth.seconds, now):
            return False
        others = [w.stamp for w in self._waiting.values() if not slot.is_warm_for(w.warmth)]
        return self._budget.allows(self._expected("conversation") + hold, others, now)

    def _is_loaded(self, call: T) -> bool:
        return self._waiting[call].warmth.model == self._model

    def _may_keep_model(self) -> bool:
        """Whether a call of the loaded model may start before the rotation's next call."""
        first, now = self._rotation.first, self.clock()
        if self._is_loaded(first) or not any(map(self._is_loaded, self._waiting)):
            return False
        if _is_over(self._loaded, self._waiting[first].warmth.seconds, now):
            return False
        others = [w.stamp for call, w in self._waiting.items() if not self._is_loaded(call)]
        return self._budget.allows(self._expected("model"), others, now)

    def record_duration(self, seconds: float) -> None:
        """Update the mean duration; the newest call counts for a fifth."""
        self._mean_duration += _WEIGHT_OF_NEWEST * (seconds - self._mean_duration)

    def retry_after(self) -> int:
        """Estimate the seconds until all waiting calls have started; from 1 to 60."""
        least, most = _RETRY_AFTER
        return min(
            most, max(least, math.ceil(self._mean_duration * (self.waiting + 1) / self.slots))
        )


def _is_over(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since > seconds
