"""The slots of a backend, and what they have in their prefix cache. Pure."""

from __future__ import annotations

from typing import NamedTuple

from attrs import define

from stages.backends.turn_budget import OutOfTurn


class Warmth(NamedTuple):
    """Which earlier calls leave something for a call at the backend, and how long others wait.

    `conversation`: a name for calls with the same prefix; empty: the call has no such calls.
    `model`: empty, unless the backend swaps models. `turns`, `seconds`: see `fair_queue`.
    """

    conversation: str = ""
    model: str = ""
    turns: int = 1
    seconds: float = 0.0


COLD = Warmth()


@define(eq=False)
class Slot:
    """A slot of the backend, from the start of a call until a call of another conversation."""

    warmth: Warmth
    turns: int = 1
    """Calls of the conversation in a row."""
    since: float | None = None
    """When the first of them ended; None: it runs, or no call waited then."""
    out_of_turn: OutOfTurn | None = None

    def is_warm_for(self, warmth: Warmth) -> bool:
        """Whether the slot's last call has the same prefix."""
        conversation = self.warmth.conversation
        return conversation != "" and conversation == warmth.conversation
