"""The findings as an entry of `backends`, with the evidence in comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from attrs import frozen

from proxy.probe.question import Finding, Question
from stages.profiles.policies import SUPPORTED
from stages.profiles.profile import Profile

_COMMENT = 120
#: Longer values do not shift the comments of other lines.
_COLUMN = 48
_PLAIN = re.compile(r"[A-Za-z(]([\w ()./-]*[\w)])?", re.ASCII)
_YAML_WORDS = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
#: Keys that are written as configured, or that do not describe the backend.
_CONNECTION = ("base_url", "api_key", "headers", "profile", "embedded")
_FIELD = "fields."


@frozen
class KeyFinding:
    """The value of a key, and the evidence. `found`: measured; otherwise as configured."""

    value: Any
    evidence: str = ""
    found: bool = False


def key_findings(
    profile: Profile, findings: list[tuple[Question, Finding]]
) -> dict[str, KeyFinding]:
    """Return each key of a profile (`fields.NAME` for policies), configured or measured."""
    by_key = {name: KeyFinding(value) for name, value in _flat(profile).items()}
    for question, finding in findings:
        for key in dict.fromkeys((*question.keys, *finding.sets)):
            if key in finding.sets:
                by_key[key] = KeyFinding(finding.sets[key], finding.evidence, found=True)
            elif not by_key[key].found:
                by_key[key] = KeyFinding(by_key[key].value, finding.evidence)
    effort = by_key["fields.output_config.effort"]
    if effort.found and effort.value == "warn" and by_key["reasoning_request"].value == "effort":
        by_key["reasoning_request"] = KeyFinding("none", effort.evidence, found=True)
        by_key["fields.thinking"] = KeyFinding("warn", effort.evidence, found=True)
    return by_key


def _flat(profile: Profile) -> dict[str, Any]:
    flat = {
        field.name: getattr(profile, field.name)
        for field in attrs.fields(Profile)
        if field.name not in (*_CONNECTION, "fields")
    }
    return flat | {_FIELD + name: profile.fields[name] for name in SUPPORTED}


def report(
    name: str,
    written: Mapping[str, Any],
    profile: Profile,
    findings: list[tuple[Question, Finding]],
    whole: bool,
) -> str:
    """Return the entry `name` for `backends:`.

    `written` are the keys of its connection as configured, with `${VAR}`. Unless `whole`, only
    keys that differ from `generic`.
    """
    generic = _flat(Profile("http://generic.invalid"))
    configured = _flat(profile)
    by_key = key_findings(profile, findings)
    usual = {key for key, f in by_key.items() if f.value == generic[key] == configured[key]}
    rows = {
        key: (scalar(f.value).replace("${", "$${"), _comment(f, configured[key], generic[key]))
        for key, f in by_key.items()
        if whole or key not in usual
    }
    fields = {key: row for key, row in rows.items() if key.startswith(_FIELD)}
    lines = [f"{scalar(name)}:"]
    lines += [f"  {key}: {scalar(value)}" for key, value in written.items()]
    lines += _aligned({f"  {key}": row for key, row in rows.items() if key not in fields})
    lines += ["  fields:"] if fields else []
    lines += _aligned({f"    {key.removeprefix(_FIELD)}": row for key, row in fields.items()})
    lines += _unby_key([key for key in by_key if key not in rows], by_key)
    return "\n".join(f"  {line}" for line in lines) + "\n"


def findings_by_key(
    profile: Profile, findings: list[tuple[Question, Finding]], whole: bool
) -> dict[str, dict[str, Any]]:
    """Return the findings as JSON values, by key. Unless `whole`, only keys with evidence."""
    configured = _flat(profile)
    return {
        key: {"configured": configured[key], **attrs.asdict(finding)}
        for key, finding in key_findings(profile, findings).items()
        if whole or finding.evidence
    }


def _comment(finding: KeyFinding, configured: Any, generic: Any) -> str:
    """Return the evidence, and the configured value if it was set on purpose and is wrong."""
    if not finding.found:
        return cut(f"undetermined: {finding.evidence}") if finding.evidence else "as configured"
    wrong = finding.value != configured != generic
    return cut(finding.evidence) + (f"; configured: {scalar(configured)}" if wrong else "")


def _aligned(rows: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yield lines `key: value  # comment` with the comments in one column."""
    lines = [(f"{key}: {value}", comment) for key, (value, comment) in rows.items()]
    width = max((len(start) for start, _ in lines if len(start) < _COLUMN), default=0)
    for start, comment in lines:
        yield f"{start:<{width}}  # {comment}"


def _unby_key(keys: list[str], by_key: dict[str, KeyFinding]) -> Iterator[str]:
    """Yield the keys without a result, which stay as in `generic`, grouped by the reason."""
    rows: dict[str, list[str]] = {}
    for key in keys:
        if by_key[key].evidence and not by_key[key].found:
            rows.setdefault(by_key[key].evidence, []).append(key)
    for evidence, names in rows.items():
        yield f"  # undetermined: {', '.join(names)} ({cut(evidence)})"


def cut(text: str) -> str:
    """Shorten `text` for a comment."""
    return text if len(text) <= _COMMENT else f"{text[: _COMMENT - 1]}…"


def scalar(value: Any) -> str:
    """Return a value as YAML on one line. JSON is YAML; simple words need no quotes."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS:
        return value
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(k)}: {scalar(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
