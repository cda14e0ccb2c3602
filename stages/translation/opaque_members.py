"""Opaque members of an answer, put together from the deltas of a stream as in a whole answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from attrs import Factory, define

from stages.chat_completions.chunks import REASONING_MEMBERS
from stages.chat_completions.json_values import as_array, as_object, as_string

#: The lists that items of content have, of Databricks and Mistral. A fragment has one entry.
_PARTS = ("summary", "thinking")


@define
class OpaqueFragments:
    """The members of one message, or of one call, with all that came for each."""

    _fragments: dict[str, list[Any]] = Factory(dict)

    def take(self, members: dict[str, Any]) -> int:
        """Take in members of one delta; gives about how many characters they have.

        Some are in each delta again: they are no fragments, as those of texts are.
        """
        kept = {name: value for name, value in members.items() if value}  # many are null, or empty
        for name, value in kept.items():
            held = self._fragments.setdefault(name, [])
            again = held and held[-1] == value and not isinstance(value, list)
            if not again or name in REASONING_MEMBERS:
                held.append(value)
        return _size(kept)

    def __bool__(self) -> bool:
        return bool(self._fragments)

    def whole(self) -> dict[str, Any]:
        """The members as they are in a whole answer; their order is always the same."""
        return {name: _together(values) for name, values in sorted(self._fragments.items())}

    def clear(self) -> None:
        """From now on there are none."""
        self._fragments.clear()


def taken(
    attached: OpaqueFragments | None, before: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The members, which are taken away; without those that say again what was taken `before`."""
    if not attached:
        return {}
    whole = attached.whole()
    attached.clear()
    return {name: value for name, value in whole.items() if before.get(name) != value}


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str) else 1


def _together(values: list[Any]) -> Any:
    """Texts one after the other, lists as one, objects merged; of all else, the last."""
    if len(values) == 1 and not isinstance(values[0], list):
        return values[0]
    if all(isinstance(each, str) for each in values):
        return "".join(values)
    if all(isinstance(each, list) for each in values):
        return joined(item for each in values for item in each)
    merged: Any = values[0]
    for each in values[1:]:
        merged = _merged(merged, each)
    return merged


def _merged(before: Any, after: Any) -> Any:
    """`after` over `before`: objects member by member, and what is empty counts for nothing."""
    if isinstance(before, dict) and isinstance(after, dict):
        both = {name: _merged(before.get(name), value) for name, value in after.items()}
        return {**before, **both}
    return before if after in (None, "") else after


def joined(fragments: Iterable[Any]) -> list[Any]:
    """The items of a list as they are in a whole answer.

    OpenRouter sends one of its details in fragments of the same `index`, the signature last, and
    takes only the whole one back: each fragment by itself would be a block without a valid
    signature. Databricks does so with items of the content, which have no index.
    """
    runs: list[list[Any]] = []
    for each in fragments:
        if runs and _goes_on(runs[-1][-1], each):
            runs[-1].append(each)
        else:
            runs.append([each])
    return [_whole(run) if len(run) > 1 else run[0] for run in runs]


def _goes_on(before: Any, fragment: Any) -> bool:
    """Whether a fragment goes on with the item of the one before; encrypted ones come whole."""
    before, fragment = as_object(before), as_object(fragment)
    kind = before.get("type")
    if kind != fragment.get("type") or before.get("signature"):
        return False
    if kind in ("reasoning.text", "reasoning.summary"):
        index = before.get("index")
        return type(index) is int and index == fragment.get("index")
    return any(
        _part_goes_on(as_array(before.get(name)), as_array(fragment.get(name))) for name in _PARTS
    )


def _part_goes_on(before: list[Any], fragment: list[Any]) -> bool:
    return len(before) == len(fragment) == 1 and not as_object(before[0]).get("signature")


def _whole(run: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for each in run:
        whole |= {name: value for name, value in each.items() if value is not None}
    whole = {**run[0], **whole}
    for name in ("text", "summary"):
        if isinstance(whole.get(name), str):
            whole[name] = "".join(as_string(each.get(name)) for each in run)
    for name in _PARTS:
        parts = [part for each in run for part in as_array(each.get(name))]
        if parts and isinstance(whole[name], list):
            whole[name] = [_part(list(map(as_object, parts)))]
    return whole


def _part(run: list[dict[str, Any]]) -> dict[str, Any]:
    """The one entry of such a list: its texts together, and what else the last one says."""
    whole = dict(run[0])
    for each in run[1:]:
        whole |= {name: value for name, value in each.items() if value not in (None, "")}
    if any("text" in each for each in run):
        whole["text"] = "".join(as_string(each.get("text")) for each in run)
    return whole
