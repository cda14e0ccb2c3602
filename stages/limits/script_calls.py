"""The Lua scripts, and the form of their keys and arguments. scripts/counts.lua describes both."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from attrs import field, frozen

from stages.limits.store import Admitted, Level, Refused, Want
from stages.shared_store import client
from stages.shared_store.client import Script

_KEYS = ("counts", "times", "waiting")


def load_script(name: str) -> Script:
    """A script, after the text that all of them begin with."""
    return client.load_script("stages.limits", "counts", name)


@frozen
class WantsByAccount:
    """The wants of a request, grouped by their accounts, in the form that scripts take."""

    wants: Sequence[Want]
    keys: list[str] = field(init=False)
    """Three for each account. Those of an account are in one slot of a cluster."""
    _places: list[list[int]] = field(init=False)
    """For each account the indexes of its wants."""

    def __attrs_post_init__(self) -> None:
        places: dict[str, list[int]] = {}
        for n, want in enumerate(self.wants):
            places.setdefault(want.account, []).append(n)
        keys = [f"llm-proxy:{{{account}}}:{key}" for account in places for key in _KEYS]
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "_places", list(places.values()))

    def items(self, amounts: Sequence[float]) -> bytes:
        """The wants of each account, with their amounts and indexes."""
        items = [
            (want.limit, want.kind, want.period, want.maximum, amounts[n], n)
            for n, want in enumerate(self.wants)
        ]
        return msgspec.msgpack.encode([[items[n] for n in places] for places in self._places])

    def amounts(self, amounts: Sequence[float]) -> bytes:
        """The amounts for the wants of each account."""
        return msgspec.msgpack.encode([[amounts[n] for n in places] for places in self._places])


def admission(packed: bytes) -> Admitted | Refused:
    """The result of admit.lua."""
    want, retry_after, used_up, numbers = msgspec.msgpack.decode(packed)
    levels = tuple([Level(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)])
    return Admitted(levels) if want < 0 else Refused(want, retry_after, used_up, levels)
