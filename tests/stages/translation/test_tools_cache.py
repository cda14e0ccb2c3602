"""The cache of translated tools has a limit of bytes."""

from __future__ import annotations

from typing import Any

from stages.messages_api.request import MessagesRequest
from stages.messages_api.structuring import structure
from stages.translation.field_policies import FieldPolicies
from stages.translation.tools_cache import ToolsCache
from tests.support import profile

SETTINGS = profile()
FIELDS = FieldPolicies(SETTINGS.fields, False, {})


def request(*tools: dict[str, Any]) -> MessagesRequest:
    tool = {"name": "f", "input_schema": {"type": "object"}}
    return structure({"model": "m", "messages": [], "tools": [tool, *tools]})


def test_the_same_tools_are_translated_once() -> None:
    cache, one = ToolsCache(), request()
    first = cache.translate(one, SETTINGS, FIELDS)
    assert cache.translate(one, SETTINGS, FIELDS) is first


def test_tools_that_are_dropped_count_too() -> None:
    cache = ToolsCache()
    schema = {"type": "object", "title": "long " * 500_000}
    one = request({"type": "web_search_20250305", "name": "w", "input_schema": schema})
    first = cache.translate(one, SETTINGS, FIELDS)
    assert len(str(first.options)) < 1000
    assert cache.translate(one, SETTINGS, FIELDS) is not first


def test_the_oldest_tools_are_dropped_beyond_the_limit() -> None:
    cache = ToolsCache()
    schema = {"type": "object", "title": "long " * 40_000}
    requests = [request({"name": "g", "input_schema": schema}) for _ in range(15)]
    first = [cache.translate(each, SETTINGS, FIELDS) for each in requests]
    assert cache.translate(requests[-1], SETTINGS, FIELDS) is first[-1]
    assert cache.translate(requests[0], SETTINGS, FIELDS) is not first[0]
