"""The engine: it makes checked chains of stages from a YAML config, and runs events through them.

It knows no HTTP and no language model. The caller passes the event types, the stages and the other
sections of the config (see `pipeline.config.load.load`).
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
