"""What was found out, as an entry of `backends` with the evidence in comments."""

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
#: Longer values do not push the comments of the others to the right.
_COLUMN = 48
_PLAIN = re.compile(r"[A-Za-z(]([\w ()./-]*[\w)])?", re.ASCII)
_YAML_WORDS = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
#: Written from the declaration as it stands there, or not a way of the backend.
_DECLARED = ("base_url", "api_key", "headers", "profile", "embedded")
_FIELD = "fields."


@frozen
class KeyFinding:
    """The value of a key, and how it is known. `found` is False when it stays as declared."""

    value: Any
    evidence: str = ""
    found: bool = False


def key_findings(
    profile: Profile, findings: list[tuple[Question, Finding]]
) -> dict[str, KeyFinding]:
    """Each key of a profile (`fields.NAME` for policies), declared so and then asked."""
    known = {name: KeyFinding(value) for name, value in _flat(profile).items()}
    for question, finding in findings:
        for key in dict.fromkeys((*question.tells, *finding.sets)):
            if key in finding.sets:
                known[key] = KeyFinding(finding.sets[key], finding.evidence, found=True)
            elif not known[key].found:
                known[key] = KeyFinding(known[key].value, finding.evidence)
    effort = known["fields.output_config.effort"]
    if effort.found and effort.value == "warn" and known["reasoning_request"].value == "effort":
        known["reasoning_request"] = KeyFinding("none", effort.evidence, found=True)
        known["fields.thinking"] = KeyFinding("warn", effort.evidence, found=True)
    return known


def _flat(profile: Profile) -> dict[str, Any]:
    flat = {
        field.name: getattr(profile, field.name)
        for field in attrs.fields(Profile)
        if field.name not in (*_DECLARED, "fields")
    }
    return flat | {_FIELD + name: profile.fields[name] for name in SUPPORTED}


def report(
    name: str,
    written: Mapping[str, Any],
    profile: Profile,
    findings: list[tuple[Question, Finding]],
    whole: bool,
) -> str:
    """The entry `name`, to stand under `backends:`.

    `written` are its connection's keys as the declaration has them, with `${VAR}`. Without
    `whole` only keys that differ from `generic`.
    """
    generic = _flat(Profile("http://generic.invalid"))
    declared = _flat(profile)
    known = key_findings(profile, findings)
    usual = {key for key, it in known.items() if it.value == generic[key] == declared[key]}
    rows = {
        key: (_scalar(it.value).replace("${", "$${"), _comment(it, declared[key], generic[key]))
        for key, it in known.items()
        if whole or key not in usual
    }
    fields = {key: row for key, row in rows.items() if key.startswith(_FIELD)}
    lines = [f"{_scalar(name)}:"]
    lines += [f"  {key}: {_scalar(value)}" for key, value in written.items()]
    lines += _aligned({f"  {key}": row for key, row in rows.items() if key not in fields})
    lines += ["  fields:"] if fields else []
    lines += _aligned({f"    {key.removeprefix(_FIELD)}": row for key, row in fields.items()})
    lines += _unknown([key for key in known if key not in rows], known)
    return "\n".join(f"  {line}" for line in lines) + "\n"


def _comment(known: KeyFinding, declared: Any, generic: Any) -> str:
    """The evidence; with what was declared, where somebody had a reason to, and it is wrong."""
    if not known.found:
        return cut(f"not found out: {known.evidence}") if known.evidence else "as declared"
    wrong = known.value != declared != generic
    return cut(known.evidence) + (f"; declared: {_scalar(declared)}" if wrong else "")


def _aligned(rows: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Lines `key: value  # comment`, their comments in one column."""
    lines = [(f"{key}: {value}", comment) for key, (value, comment) in rows.items()]
    width = max((len(start) for start, _ in lines if len(start) < _COLUMN), default=0)
    for start, comment in lines:
        yield f"{start:<{width}}  # {comment}"


def _unknown(keys: list[str], known: dict[str, KeyFinding]) -> Iterator[str]:
    """What was asked in vain and stays as it is in `generic`, by why it was in vain."""
    rows: dict[str, list[str]] = {}
    for key in keys:
        if known[key].evidence and not known[key].found:
            rows.setdefault(known[key].evidence, []).append(key)
    for evidence, names in rows.items():
        yield f"  # not found out: {', '.join(names)} ({cut(evidence)})"


def cut(text: str) -> str:
    """`text` short enough for a comment."""
    return text if len(text) <= _COMMENT else f"{text[: _COMMENT - 1]}…"


def _scalar(value: Any) -> str:
    """A value in YAML, on one line. JSON is YAML; simple words need no quotes."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS:
        return value
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_scalar(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
