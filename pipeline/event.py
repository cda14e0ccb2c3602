"""The decorator of events and of what they contain: `attrs.frozen`, but quick to make.

A request makes about thirty of these objects. `attrs.frozen` makes each field in a call of its own,
which took 2 % of the time of a short request. Here the type checker refuses an assignment, and at
run time Python's development mode does (`python -X dev`).
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from attrs import frozen as event
elif sys.flags.dev_mode:
    event = attrs.frozen
else:
    event = partial(attrs.define, unsafe_hash=True, on_setattr=attrs.setters.NO_OP)

__all__ = ["event"]
