"""Assembles the opaque members of a response from the deltas of a stream.

The result is the same as in a response without a stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from attrs import Factory, define

from stages.chat_completions.chunks import REASONING_MEMBERS
from stages.chat_completions.json_values import as_array, as_object, as_string

#: The lists within content items of Databricks and Mistral. A fragment has one entry.
_PARTS = ("summary", "thinking")


@define
class OpaqueFragments:
    """The opaque members of one message or one call, with the fragments of each."""

    _fragments: dict[str, list[Any]] = Factory(dict)

    def add(self, members: dict[str, Any]) -> int:
        """Add the members of one delta. Returns about how many characters they have.

        Some backends repeat a member in each delta. Such a repetition is no fragment, except of a
        text.
        """
        members = {name: value for name, value in members.items() if value}  # many are empty
        for name, value in members.items():
            fragments = self._fragments.setdefault(name, [])
            repeated = fragments and fragments[-1] == value and not isinstance(value, list)
            if not repeated or name in REASONING_MEMBERS:
                fragments.append(value)
        return _size(members)

    def __bool__(self) -> bool:
        return bool(self._fragments)

    def joined(self) -> dict[str, Any]:
        """Return the members as in a response without a stream, always in the same order."""
        return {name: _join(values) for name, values in sorted(self._fragments.items())}

    def clear(self) -> None:
        """Drop all members."""
        self._fragments.clear()


def pop_members(
    attached: OpaqueFragments | None, sent: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Remove and return all members, without those that `sent` has with the same value."""
    if not attached:
        return {}
    members = attached.joined()
    attached.clear()
    return {name: value for name, value in members.items() if sent.get(name) != value}


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str) else 1


def _join(values: list[Any]) -> Any:
    """Concatenate texts, concatenate lists, merge objects; of other values take the last."""
    if len(values) == 1 and not isinstance(values[0], list):
        return values[0]
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    if all(isinstance(value, list) for value in values):
        return join_items(item for value in values for item in value)
    merged: Any = values[0]
    for value in values[1:]:
        merged = _merge(merged, value)
    return merged


def _merge(before: Any, after: Any) -> Any:
    """Merge `after` over `before`: objects member by member; empty values change nothing."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {**before, **{name: _merge(before.get(name), after[name]) for name in after}}
    return before if after in (None, "") else after


def join_items(fragments: Iterable[Any]) -> list[Any]:
    """Join the fragments of a list's items to the items of a response without a stream.

    OpenRouter sends one of its details in fragments of the same `index`, the signature last, and
    takes only the complete detail back: a single fragment would be a block without a valid
    signature. Databricks does so with items of the content, which have no index.
    """
    runs: list[list[Any]] = []
    for fragment in fragments:
        if runs and _continues(runs[-1][-1], fragment):
            runs[-1].append(fragment)
        else:
            runs.append([fragment])
    return [_join_item(run) if len(run) > 1 else run[0] for run in runs]


def _continues(before: Any, fragment: Any) -> bool:
    """Whether a fragment continues the item of the one before. Encrypted items are whole."""
    before, fragment = as_object(before), as_object(fragment)
    kind = before.get("type")
    if kind != fragment.get("type") or before.get("signature"):
        return False
    if kind in ("reasoning.text", "reasoning.summary"):
        index = before.get("index")
        return type(index) is int and index == fragment.get("index")
    return any(
        _entry_continues(as_array(before.get(name)), as_array(fragment.get(name)))
        for name in _PARTS
    )


def _entry_continues(before: list[Any], fragment: list[Any]) -> bool:
    return len(before) == len(fragment) == 1 and not as_object(before[0]).get("signature")


def _join_item(run: list[dict[str, Any]]) -> dict[str, Any]:
    item = dict(run[0])
    for fragment in run:
        item |= {name: value for name, value in fragment.items() if value is not None}
    for name in ("text", "summary"):
        if isinstance(item.get(name), str):
            item[name] = "".join(as_string(fragment.get(name)) for fragment in run)
    for name in _PARTS:
        entries = [entry for fragment in run for entry in as_array(fragment.get(name))]
        if entries and isinstance(item[name], list):
            item[name] = [_join_entry(list(map(as_object, entries)))]
    return item


def _join_entry(run: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the only entry of such a list: concatenate its texts; of other members take the last."""
    entry = dict(run[0])
    for fragment in run[1:]:
        entry |= {name: value for name, value in fragment.items() if value not in (None, "")}
    if any("text" in fragment for fragment in run):
        entry["text"] = "".join(as_string(fragment.get("text")) for fragment in run)
    return entry
