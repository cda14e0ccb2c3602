"""Profiles as text for people: one whole, or all field by field."""

from __future__ import annotations

import io
from typing import Any

import attrs
from ruamel.yaml import YAML

from pipeline.config.structuring import make_converter
from stages.profiles.policies import SUPPORTED
from stages.profiles.profile import Profile, profiles


def profile_named(name: str) -> Profile:
    """The shipped profile `name`, with a base_url that means nothing where it has none.

    Raises KeyError.
    """
    given = {"base_url": "http://backend.invalid/v1", **profiles()[name]}
    return make_converter().structure(given, Profile)


def as_yaml(name: str) -> str:
    """A whole profile, to paste into `backends` and change."""
    held: dict[str, Any] = {"profile": name}
    profile = profile_named(name)
    for field in attrs.fields(Profile):
        value = getattr(profile, field.name)
        if field.name not in ("profile", "base_url", "api_key", "headers", "embedded"):
            held[field.name] = list(value) if isinstance(value, tuple) else value
    out = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump({name: held}, out)
    return out.getvalue()


def table() -> str:
    """What becomes of each field, in Markdown: on `generic`, and where it is otherwise."""
    policies = {name: profile_named(name).fields for name in profiles()}
    rows = [["field", "policy", "other policies"], ["---"] * 3]
    for field in SUPPORTED:
        usual = policies["generic"][field]
        others: dict[str, list[str]] = {}
        for name, fields in policies.items():
            if fields[field] != usual:
                others.setdefault(fields[field], []).append(f"`{name}`")
        told = "; ".join(f"{policy}: {', '.join(names)}" for policy, names in others.items())
        rows.append([f"`{field}`", usual, told])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
