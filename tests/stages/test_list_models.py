"""The stage `list-models`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import ModelInfo

from pipeline.testing import check_stage, run_stage
from stages.backends.config import ModelTarget, TargetGroup, WeightedTarget
from stages.events import Authenticated, ResponseBody, ResponseStart
from stages.list_models import ListModels
from stages.messages_api.errors import InvalidRequestError, NotFoundError
from stages.profiles.capabilities import capabilities
from tests.cases import for_each
from tests.sdk_types import check_sent
from tests.support import ON_BOTH, backend, http, profile

FIVE = ListModels(
    {
        "a": ModelTarget("fake"),
        "claude-*": ModelTarget("fake"),
        "b/c": ModelTarget("fake", "other"),
        "c?": ModelTarget("fake"),
        "d": ModelTarget("fake", overrides={"context_window": 99}),  # type: ignore[arg-type]
        "e": ModelTarget("large"),
    },
    {"fake": backend(), "large": backend(context_window=200_000)},
)
MANY = ListModels({f"m{n:04}": ModelTarget("fake") for n in range(1200)}, {"fake": backend()})


@pytest.fixture
def anyio_backend() -> str:
    """The stage awaits nothing; its contract is tested on trio too."""
    return "asyncio"


def asking(identity: str | None = None, **query: str) -> Authenticated:
    params = {} if identity is None else {"id": identity}
    return Authenticated(http(method="GET", query=query, path_params=params))


async def answer(stage: ListModels, event: Authenticated) -> dict[str, Any]:
    start, body = await run_stage(stage, [event])
    assert isinstance(start, ResponseStart)
    assert isinstance(body, ResponseBody)
    assert start.status == 200
    assert start.headers["content-length"] == str(len(body.data))
    response: dict[str, Any] = json.loads(body.data)
    return response


async def page(stage: ListModels, **query: str) -> tuple[list[str], bool]:
    """The ids on a page, and whether there are more."""
    response = await answer(stage, asking(**query))
    ids = [info["id"] for info in response["data"]]
    assert response["first_id"] == (ids[0] if ids else None)
    assert response["last_id"] == (ids[-1] if ids else None)
    return ids, response["has_more"]


async def test_several_targets_are_reported_as_the_first_of_them() -> None:
    group = TargetGroup((WeightedTarget("large"), WeightedTarget("fake")))
    stage = ListModels({"g": group}, {"fake": backend(), "large": backend(context_window=7)})
    assert (await answer(stage, asking("g")))["max_input_tokens"] == 7


@ON_BOTH
async def test_it_keeps_to_the_contract() -> None:
    await check_stage(FIVE, [asking()])
    await check_stage(FIVE, [asking("a")])


async def test_models_with_a_name_of_their_own_are_listed_in_order() -> None:
    assert await page(FIVE) == (["a", "b/c", "d", "e"], False)


async def test_a_model_is_reported_as_the_official_sdk_reads_it() -> None:
    response = await answer(FIVE, asking("d"))
    assert response == {
        "type": "model",
        "id": "d",
        "display_name": "d",
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": 99,
        "capabilities": capabilities(profile()),
    }
    ModelInfo.model_validate(response)


@pytest.mark.parametrize(("name", "window"), [("d", 99), ("e", 200_000)])
async def test_the_window_is_that_of_the_models_profile(name: str, window: int) -> None:
    assert (await answer(FIVE, asking(name)))["max_input_tokens"] == window


async def test_row_c1_a_limit_that_is_not_known_is_left_out_of_a_model() -> None:
    response = await answer(FIVE, asking("a"))
    check_sent(response)
    assert not response.keys() & {"max_input_tokens", "max_tokens"}


async def test_row_c1_a_page_has_the_members_of_recorded_ones() -> None:
    check_sent(await answer(FIVE, asking()))
    check_sent(await answer(ListModels({}, {}), asking()))


async def test_a_name_with_a_slash_is_found() -> None:
    assert (await answer(FIVE, asking("b/c")))["id"] == "b/c"


@pytest.mark.parametrize(
    ("asked", "name"),
    [("claude-x", "claude-x"), ("cx", "cx"), ("d[1m]", "d"), ("b/c[1M][1m]", "b/c")],
)
async def test_row_c10_a_name_that_a_pattern_matches_needs_no_mark(asked: str, name: str) -> None:
    response = await answer(FIVE, asking(asked))
    assert (response["id"], response["display_name"]) == (name, name)
    ModelInfo.model_validate(response)


async def test_a_name_that_the_default_serves_is_found() -> None:
    stage = ListModels(
        {"e": ModelTarget("large")}, {"large": backend(context_window=7)}, default="e"
    )
    response = await answer(stage, asking("anything"))
    assert (response["id"], response["max_input_tokens"]) == ("anything", 7)


@for_each("name", ["z", "", "A", "x" * 5000, "z[1m]"])
async def test_a_model_that_is_not_served_is_not_found(name: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        await run_stage(FIVE, [asking(name)])
    assert raised.value.message == f"model: {name.removesuffix('[1m]')[:200]}"


async def test_no_model_is_an_empty_page() -> None:
    assert await page(ListModels({}, {})) == ([], False)
    assert await page(ListModels({"*": ModelTarget("fake")}, {"fake": backend()})) == ([], False)


async def test_a_page_has_twenty_models_by_default() -> None:
    names, more = await page(MANY)
    assert (names[0], names[-1], len(names), more) == ("m0000", "m0019", 20, True)


@pytest.mark.parametrize(
    ("limit", "number", "more"), [("1", 1, True), ("007", 7, True), ("1000", 1000, True)]
)
async def test_a_page_has_as_many_models_as_wanted(limit: str, number: int, more: bool) -> None:
    names, has_more = await page(MANY, limit=limit)
    assert (len(names), has_more) == (number, more)


@for_each(
    ("query", "expected"),
    [
        ({"limit": "2"}, (["a", "b/c"], True)),
        ({"limit": "4"}, (["a", "b/c", "d", "e"], False)),
        ({"after_id": "b/c"}, (["d", "e"], False)),
        ({"after_id": "b/c", "limit": "1"}, (["d"], True)),
        ({"after_id": "e"}, ([], False)),
        ({"before_id": "d"}, (["a", "b/c"], False)),
        ({"before_id": "e", "limit": "2"}, (["b/c", "d"], True)),
        ({"before_id": "a"}, ([], False)),
        ({"after_id": "", "before_id": ""}, (["a", "b/c", "d", "e"], False)),
        ({"lifecycle[]": "active", "beta": "true"}, (["a", "b/c", "d", "e"], False)),
    ],
    ids=lambda value: (
        ",".join(f"{k}={v}" for k, v in value.items())
        if value and isinstance(value, dict)
        else None
    ),
)
async def test_a_page_begins_and_ends_where_it_is_reported(
    query: dict[str, str], expected: tuple[list[str], bool]
) -> None:
    assert await page(FIVE, **query) == expected


async def test_going_on_after_the_last_id_gives_every_model_once() -> None:
    names: list[str] = []
    query: dict[str, str] = {"limit": "500"}
    more = True
    while more:
        some, more = await page(MANY, **query)
        names += some
        query["after_id"] = some[-1]
    assert names == list(MANY.models)


@for_each("limit", ["0", "1001", "-1", "1.5", "x", "", " 5", "+5", "1e2", "٣", "99999", "01000"])
async def test_another_limit_is_refused(limit: str) -> None:
    with pytest.raises(InvalidRequestError, match="limit: Input should be between 1 and 1000"):
        await run_stage(FIVE, [asking(limit=limit)])


@for_each("cursor", ["after_id", "before_id"])
@for_each("name", ["z", "claude-*", "x" * 5000], ids=["unknown", "pattern", "long"])
async def test_a_page_cannot_begin_at_an_unknown_model(cursor: str, name: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        await run_stage(FIVE, [asking(**{cursor: name})])
    assert raised.value.message == f"there is no model '{name[:200]}' to list from"


async def test_a_page_cannot_begin_and_end_at_a_model() -> None:
    with pytest.raises(InvalidRequestError, match="cannot be given together"):
        await run_stage(FIVE, [asking(after_id="a", before_id="e")])
