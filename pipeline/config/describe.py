"""A stage as text for people: what it does, accepts and emits, and its options."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import attrs

from pipeline.config.registry import StageClass
from pipeline.config.structuring import option_names
from pipeline.stage import signature


def describe_stage(name: str, stage: StageClass) -> str:
    """A few lines, as `llm-proxy stages` shows them."""
    declared = signature(stage)
    accepts = "anything" if declared.accepts == (object,) else _spell(declared.accepts)
    emits = "what it accepts" if declared.transparent else _spell(declared.emits)
    text = inspect.cleandoc(stage.__doc__ or "")
    lines = [f"{name}: {accepts} -> {emits}", *(f"  {line}".rstrip() for line in text.splitlines())]
    options = option_names(stage)
    hints = get_type_hints(stage)
    fields = [field for field in attrs.fields(stage) if field.name in options]
    lines += [_option(field, hints.get(field.name)) for field in fields]
    return "\n".join(lines) + "\n"


def _spell(types: tuple[type, ...]) -> str:
    return " or ".join(each.__name__ for each in types)


def _option(field: Any, kind: Any) -> str:
    spelled = kind.__name__ if isinstance(kind, type) else str(kind)
    spelled = spelled.replace("typing.", "")
    text = field.metadata.get("help", "")
    if field.default is attrs.NOTHING:
        default = "required"
    elif isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        default = "default empty"
    else:
        default = f"default {field.default!r}"
    return f"    {field.name} ({spelled}, {default})" + (f": {text}" if text else "")
