"""Profiles as text for people: one whole profile, or the policies of all."""

from __future__ import annotations

import io
from typing import Any

import attrs
from ruamel.yaml import YAML

from pipeline.config.structuring import make_converter
from stages.profiles.policies import SUPPORTED
from stages.profiles.profile import Profile, profiles


def profile_named(name: str) -> Profile:
    """The shipped profile `name`, with a placeholder for a missing base_url.

    Raises KeyError.
    """
    keys = {"base_url": "http://backend.invalid/v1", **profiles()[name]}
    return make_converter().structure(keys, Profile)


def as_yaml(name: str) -> str:
    """A whole profile as YAML, to paste into `backends` and change."""
    keys: dict[str, Any] = {"profile": name}
    profile = profile_named(name)
    for field in attrs.fields(Profile):
        value = getattr(profile, field.name)
        if field.name not in ("profile", "base_url", "api_key", "headers", "embedded"):
            keys[field.name] = list(value) if isinstance(value, tuple) else value
    out = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump({name: keys}, out)
    return out.getvalue()


def table() -> str:
    """The policy of each field as a Markdown table: of `generic`, and the deviations."""
    policies = {name: profile_named(name).fields for name in profiles()}
    rows = [["field", "policy", "other policies"], ["---"] * 3]
    for field in SUPPORTED:
        usual = policies["generic"][field]
        others: dict[str, list[str]] = {}
        for name, fields in policies.items():
            if fields[field] != usual:
                others.setdefault(fields[field], []).append(f"`{name}`")
        deviations = "; ".join(f"{policy}: {', '.join(names)}" for policy, names in others.items())
        rows.append([f"`{field}`", usual, deviations])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
