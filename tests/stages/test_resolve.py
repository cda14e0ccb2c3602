"""The stage `resolve`."""

from __future__ import annotations

import pytest
from attrs import evolve

from pipeline.testing import check_stage, run_stage
from stages.backends.config import ModelTarget, TargetGroup, WeightedTarget
from stages.events import Resolved
from stages.exchange import Target
from stages.messages_api.errors import InvalidRequestError, NotFoundError
from stages.off_loop import LARGE_BODY
from stages.profiles.profile import Overrides
from stages.resolve import Resolve
from stages.routing.allowed_models import is_pattern
from stages.routing.selection import Rule, When
from tests.cases import for_each
from tests.rounds import turning
from tests.support import ON_BOTH, validated


@pytest.fixture
def anyio_backend() -> str:
    """The stage awaits nothing; its contract is tested on trio too."""
    return "asyncio"


def models(*names: str) -> dict[str, ModelTarget]:
    """Entries that each lead to a backend called as the entry."""
    return {name: ModelTarget(name) for name in names}


async def backend(stage: Resolve, name: str) -> str:
    """The backend a request for `name` goes to."""
    [out] = await run_stage(stage, [validated(model=name)])
    assert isinstance(out, Resolved)
    return out.target.backend


@ON_BOTH
async def test_it_keeps_to_the_contract() -> None:
    await check_stage(Resolve(models("claude-test")), [validated()])


async def test_a_request_keeps_where_it_came_from() -> None:
    event = validated()
    stage = Resolve({"claude-test": ModelTarget("local", "small", {"top_k": True})})  # type: ignore[arg-type]
    [out] = await run_stage(stage, [event])
    target = Target("local", "small", {"top_k": True})
    assert out == Resolved(event.http, event.request, target)


async def test_a_model_without_a_name_of_its_own_keeps_the_clients() -> None:
    [out] = await run_stage(
        Resolve({"claude-*": ModelTarget("local")}), [validated(model="claude-x")]
    )
    assert out.target == Target("local", "claude-x")


async def test_the_exact_name_comes_before_patterns() -> None:
    stage = Resolve(models("*", "claude-*", "claude-a", "claude-a*"))
    assert await backend(stage, "claude-a") == "claude-a"


@for_each(
    ("name", "expected"),
    [
        ("claude-haiku-4", "claude-haiku-*"),
        ("claude-haiku", "claude-*"),
        ("claude-", "claude-*"),
        ("claude-opus-4", "claude-*-4"),
        ("claude-haiku-10", "claude-haiku-1?"),
        ("gpt", "*"),
        ("Claude-haiku-4", "*"),
        ("xclaude-haiku-4", "*"),
        ("claude-haiku-4\nx", "claude-haiku-*"),
        ("llama3.1", "llama[23].?"),
        ("llama4.1", "*"),
    ],
)
@for_each("turned", [False, True], ids=["in order", "turned around"])
async def test_the_most_literal_pattern_counts(name: str, expected: str, turned: bool) -> None:
    names = ["*", "claude-*", "claude-*-4", "claude-haiku-*", "claude-haiku-1?", "llama[23].?"]
    stage = Resolve(models(*(reversed(names) if turned else names)))
    assert await backend(stage, name) == expected


async def test_of_equally_literal_patterns_the_first_counts() -> None:
    assert await backend(Resolve(models("*-a", "b-*")), "b-a") == "*-a"
    assert await backend(Resolve(models("b-*", "*-a")), "b-a") == "b-*"


async def test_a_name_with_brackets_is_matched_literally() -> None:
    stage = Resolve(models("claude-opus[1m]", "claude-opus*"))
    assert await backend(stage, "claude-opus[1m]") == "claude-opus[1m]"
    assert await backend(stage, "claude-opus-4[1m]") == "claude-opus*"


async def test_a_dot_in_a_pattern_is_a_dot() -> None:
    stage = Resolve(models("llama3.2*", "*"))
    assert await backend(stage, "llama3.2:1b") == "llama3.2*"
    assert await backend(stage, "llama312:1b") == "*"


async def test_the_default_is_for_names_that_match_none() -> None:
    stage = Resolve(models("claude-*", "other"), default="other")
    assert await backend(stage, "gpt-4") == "other"
    assert await backend(stage, "claude-x") == "claude-*"


async def test_the_default_may_be_a_pattern() -> None:
    [out] = await run_stage(Resolve(models("claude-*"), default="claude-*"), [validated(model="x")])
    assert out.target == Target("claude-*", "x")


async def test_of_several_targets_the_others_come_after_the_first() -> None:
    targets = (
        WeightedTarget("a", "m"),
        WeightedTarget("b", overrides=Overrides({"think_tags": False})),
    )
    [out] = await run_stage(
        Resolve({"claude-*": TargetGroup(targets)}), [validated(model="claude-x")]
    )
    assert out.target == Target("a", "m")
    assert out.alternatives == (Target("b", "claude-x", {"think_tags": False}),)
    assert [item.label for item in (out.target, *out.alternatives)] == ["a/m", "b"]


async def test_routes_go_before_names_and_the_first_that_holds_counts() -> None:
    routes = (
        Rule(When(tools=True), "tools"),
        Rule(When(input_tokens_over=1000), "long"),
        Rule(When(model="claude-*-haiku*"), "small"),
    )
    stage = Resolve(models("claude-*", "tools", "long", "small"), rules=routes)
    tool = {"name": "look", "input_schema": {"type": "object"}}
    for expected, asked in (
        ("claude-*", {}),
        ("small", {"model": "claude-3-haiku"}),
        ("long", {"model": "claude-3-haiku", "system": "x" * 5000}),
        ("tools", {"system": "x" * 5000, "tools": [tool]}),
        ("small", {"model": "small"}),
    ):
        [out] = await run_stage(stage, [validated(**asked)])
        assert out.target.backend == expected


async def test_a_route_leads_to_names_that_are_not_served_otherwise() -> None:
    stage = Resolve(models("small"), rules=(Rule(When(model="gpt-*"), "small"),))
    assert await backend(stage, "gpt-4") == "small"
    with pytest.raises(InvalidRequestError):
        await backend(stage, "other")


async def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        await run_stage(Resolve(models("a", "b-*")), [validated(model="gpt-4")])
    assert raised.value.message == "model: gpt-4 is not served here; there are: a, b-*"
    assert raised.value.status == 400


async def test_row_c7_an_unknown_model_can_be_the_apis_own_404() -> None:
    stage = Resolve(models("a", "b-*"), unknown_model="not_found")
    for name in ("gpt-4", "A", "x" * 500):
        with pytest.raises(NotFoundError) as raised:
            await run_stage(stage, [validated(model=name)])
        assert raised.value.message.startswith(f"model: {name[:200]}")
        assert raised.value.message.endswith("there are: a, b-*")
    assert await backend(stage, "b-1") == "b-*"


@for_each("mark", ["[1m]", "[1M]", "[1m][1M]"])
@for_each(
    ("entry", "name"), [("claude-opus-4", "claude-opus-4"), ("claude-*", "claude-x"), ("o", "else")]
)
async def test_row_c10_the_window_mark_is_no_part_of_the_name(
    entry: str, name: str, mark: str
) -> None:
    stage = Resolve(models(entry, "o"), default="o")
    [out] = await run_stage(stage, [validated(model=name + mark)])
    assert out.target == Target(entry, name)
    assert out.request.model == name + mark  # the response repeats it


async def test_row_c10_a_configured_name_with_the_mark_counts() -> None:
    stage = Resolve(models("opus[1m]", "opus"))
    [out] = await run_stage(stage, [validated(model="opus[1m]")])
    assert out.target == Target("opus[1m]", "opus[1m]")
    assert await backend(stage, "opus[1M]") == "opus"


async def test_row_c10_routes_and_groups_see_the_name_without_the_mark() -> None:
    group = TargetGroup((WeightedTarget("a"), WeightedTarget("b")))
    stage = Resolve({"big": group}, rules=(Rule(When(model="*-opus"), "big"),))
    [out] = await run_stage(stage, [validated(model="claude-opus[1m]")])
    assert [item.model for item in (out.target, *out.alternatives)] == [
        "claude-opus",
        "claude-opus",
    ]


@for_each("name", ["[1m]", "opus[1m]x", "opus[2m]", "opus1m", "opus[1m] "])
async def test_row_c10_another_mark_is_part_of_the_name(name: str) -> None:
    [out] = await run_stage(Resolve(models("o"), default="o"), [validated(model=name)])
    assert out.target.model == name


async def test_of_many_models_twenty_are_listed() -> None:
    stage = Resolve(models(*(f"m{n}" for n in range(25))))
    with pytest.raises(InvalidRequestError) as raised:
        await run_stage(stage, [validated(model="x" * 10_000)])
    message = raised.value.message
    assert message.endswith("m18, m19 and 5 more")
    assert "x" * 201 not in message


async def test_no_model_at_all_is_no_failure() -> None:
    with pytest.raises(InvalidRequestError, match="is not served here"):
        await run_stage(Resolve({}), [validated()])


@for_each(
    ("name", "expected"),
    [("a*", True), ("a?", True), ("[ab]", True), ("a-b.c:d/e@f", False), ("", False)],
)
def test_stars_question_marks_and_brackets_make_a_pattern(name: str, expected: bool) -> None:
    assert is_pattern(name) is expected


@pytest.mark.untraced
@ON_BOTH
async def test_row_a7_a_large_request_is_looked_at_off_the_event_loop() -> None:
    turns = [{"role": "user", "content": "word"}] * 50_000
    event = evolve(validated(messages=turns), size=LARGE_BODY, new_bytes=LARGE_BODY)
    stage = Resolve(models("a", "claude-test"), rules=(Rule(When(images=True), "a"),))
    async with turning() as turned:
        [out] = await run_stage(stage, [event])
    assert (out.target.backend, out.size) == ("claude-test", LARGE_BODY)
    assert turned.rounds > 5
