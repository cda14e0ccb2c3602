"""The engine: a YAML declaration becomes checked chains of stages, and events run through them.

It knows no HTTP and no language model: the event types, the stages and the other
sections of the declaration are given by the caller (see `pipeline.config.load.load`).
"""

from pipeline.config.options import option, reference, section
from pipeline.config.problems import ConfigError, Location, Problem
from pipeline.stage import Send, Stage, StopForwarding

__all__ = [
    "ConfigError",
    "Location",
    "Problem",
    "Send",
    "Stage",
    "StopForwarding",
    "option",
    "reference",
    "section",
]
