"""The result of an explained run, as text for people and as JSON for scripts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import click
from attrs import Factory, define, frozen

from proxy.explain.changes import Change, changes, in_short
from proxy.explain.trace import Arrow, Trace
from proxy.explain.views import Json, masked
from stages.exchange import Exchange
from stages.wire.printable import printable

_MAX_CHANGES = 8  # lines for one member of a request or response
_MEMBER = re.compile(r"[.\[]")
_NAME_WIDTH = 40
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
#: Why a member is not in the backend's request, by the policy of the backend's profile.
_REASONS = {
    "map": "  (its equivalent is sent)",
    "emulate": "  (the proxy does its work)",
    "drop": "  (dropped; the client cannot notice)",
    "warn": "  (dropped, and reported to the client)",
}


@frozen
class Pass:
    """One request that a stage forwarded. After a `fallback` or `retry` there are several."""

    stage: int
    seconds: float
    changes: tuple[Change, ...]
    degradations: tuple[str, ...] = ()
    policies: Mapping[str, str] = Factory(dict)
    """The profile's policy for fields that were removed, by the path of the change."""


@define(eq=False)
class Report:
    """Reads a trace while it is made, and when it is complete.

    `policies` are those of each backend, by its name. No output has one of `secrets`.
    """

    names: tuple[str, ...]
    trace: Trace
    exchange: Exchange
    policies: Mapping[str, Mapping[str, str]]
    secrets: Collection[str]
    passes: list[Pass] = Factory(list)

    def record_pass(self, arrow: int) -> Pass | None:
        """Record how the stage before an arrow changed the request that is on the arrow now."""
        if arrow == 0:
            return None
        before, after = self.trace.arrows[arrow - 1], self.trace.arrows[arrow]
        all_changes = tuple(changes(self._mask(before.request), self._mask(after.request)))
        new = tuple(name for name in after.degradations if name not in before.degradations)
        seconds = self.trace.seconds_until_forwarded(arrow - 1)
        policies = self._policies(before, after, all_changes)
        self.passes.append(Pass(arrow - 1, seconds, all_changes, new, policies))
        return self.passes[-1]

    def _policies(
        self, before: Arrow, after: Arrow, all_changes: tuple[Change, ...]
    ) -> Mapping[str, str]:
        if "ChatRequest" not in after.events or "ChatRequest" in before.events:
            return {}
        backend = (after.request or {}).get("target", {}).get("backend", "")
        policies = self.policies.get(backend, {})
        removed = {change.path: change.before for change in all_changes if change.what == "removed"}
        of_paths = {path: policies[path] for path in removed if path in policies}
        unknown = {policies.get(name, "") for name in removed.get("unknown_fields", ())}
        return of_paths | ({"unknown_fields": unknown.pop()} if len(unknown) == 1 else {})

    def response_changes(self, stage: int) -> tuple[Change, ...]:
        """Give the changes of the response by a stage, also into another protocol."""
        before, after = (arrow.response.views() for arrow in self.trace.arrows[stage : stage + 2])
        if "http" in after and "http" not in before:
            before, after = {}, {"http": after["http"]}
        return tuple(changes(self._mask(_joined(before)), self._mask(_joined(after))))

    def _mask(self, view: Json | None) -> Json:
        masked_view: Json = masked(view or {}, self.secrets)
        return masked_view

    def as_json(self) -> Json:
        """Give the whole run."""
        last = self.trace.arrows[-1].response.http
        exchange = self.exchange.as_json()
        return {
            "id": self.exchange.id,
            "pipeline": self.exchange.pipeline,
            "dry": self.trace.stopped,
            "stages": [self._stage_as_json(n) for n in range(len(self.names))],
            "errors": [self._error(stage, error) for stage, error in self.trace.errors],
            "attempts": masked(exchange["attempts"], self.secrets),
            "repeats": masked(exchange["repeats"], self.secrets),
            "response": masked(last, self.secrets),
        }

    def _error(self, stage: int, error: Any) -> Json:
        message = masked(error.message, self.secrets)
        name = self.names[stage] if stage < len(self.names) else "client"
        return {"stage": name, "status": error.status, "type": error.type, "message": message}

    def _stage_as_json(self, n: int) -> Json:
        before, after = self.trace.arrows[n : n + 2]
        first = after.first_response
        return {
            "name": self.names[n],
            "seconds": round(self.trace.seconds_in(n), 6),
            "first_response_seconds": None if first is None else round(first - before.arrived, 6),
            "in": dict(before.events),
            "out": dict(after.events),
            "requests": [_pass_as_json(each) for each in self.passes if each.stage == n],
            "response": [change.as_json() for change in self.response_changes(n)],
        }

    def start_lines(self) -> Iterator[str]:
        """Give the lines for the request, as `curl -v` does."""
        view = self._mask(self.trace.arrows[0].request)
        yield f"{view['method']} {view['path']} → pipeline `{self.exchange.pipeline}`"
        yield from (printable(f"> {name}: {value}") for name, value in view["headers"].items())
        yield ""

    def pass_lines(self, one_pass: Pass) -> Iterator[str]:
        """Give the lines for one request that a stage forwarded."""
        yield _header(self.names[one_pass.stage], one_pass.seconds)
        yield from _change_lines(one_pass.changes, one_pass.policies)
        for degradation in one_pass.degradations:
            name, _, action = degradation.rpartition(":")
            text = printable(f"  ! {name}: {action}, and reported to the client")
            yield click.style(text, fg="magenta")
        if not one_pass.changes and not one_pass.degradations:
            yield click.style("  unchanged", dim=True)

    def end_lines(self) -> Iterator[str]:
        """Give the lines for the response, the errors and the total."""
        for stage, name in enumerate(self.names):
            before, after = self.trace.arrows[stage : stage + 2]
            if after.response.views():
                seconds = self.trace.seconds_in(stage)
                yield _header(name, seconds, f"{_listed(before)} → {_listed(after)}")
                yield from _change_lines(self.response_changes(stage), {})
        for number, error in self.trace.errors:
            values = self._error(number, error)
            text = "{stage}: {status} {type}: {message}".format(**values)
            yield click.style(printable(text), fg="red", bold=True)
        for repeat in self.exchange.repeats:
            where = f" at {repeat.target.backend}" if repeat.target else ""
            yield f"{repeat.stage}: sent again after {repeat.error}{where}"


def _joined(views: Mapping[str, Json]) -> Json:
    return {name: value for view in views.values() for name, value in view.items()}


def _pass_as_json(one_pass: Pass) -> Json:
    return {
        "seconds": round(one_pass.seconds, 6),
        "changes": [change.as_json() for change in one_pass.changes],
        "degradations": list(one_pass.degradations),
        "policies": dict(one_pass.policies),
    }


def _header(name: str, seconds: float, more: str = "") -> str:
    duration = f"{seconds * 1000:.1f} ms"
    head = f"{click.style(name, bold=True)}{'':{max(1, _NAME_WIDTH - len(name))}}{duration:>10}"
    return f"{head}  {click.style(more, dim=True)}" if more else head


def _change_lines(all_changes: Collection[Change], policies: Mapping[str, str]) -> Iterator[str]:
    by_member: dict[str, list[Change]] = {}
    for change in all_changes:
        by_member.setdefault(_MEMBER.split(change.path, maxsplit=1)[0], []).append(change)
    for member, group in by_member.items():
        for change in group[:_MAX_CHANGES]:
            sign, color = _SIGNS[change.what]
            values = [in_short(change.before)] * (change.what != "added")
            values += [in_short(change.after)] * (change.what != "removed")
            reason = _REASONS.get(policies.get(change.path, ""), "")
            text = printable(f"  {sign} {change.path}: {' → '.join(values)}{reason}")
            yield click.style(text, fg=color)
        if more := len(group[_MAX_CHANGES:]):
            yield printable(f"    and {more} more in {member}; `--json` prints all")


def _listed(arrow: Arrow) -> str:
    """The events on an arrow: `ChatStart, 12 ChatChunk, ChatEnd`."""
    return ", ".join(name if n == 1 else f"{n} {name}" for name, n in arrow.events.items())
