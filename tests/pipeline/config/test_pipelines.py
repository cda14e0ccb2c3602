"""The section `pipelines`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.problems import Location
from tests.pipeline.support import (
    Begin,
    End,
    Finish,
    Start,
    Tap,
    Thing,
    load_config,
    problems,
)
from tests.pipeline.toys.pick_one import PickOne


def pipelines(stages: str, route: str = "GET /") -> str:
    return (
        f"things: {{one: {{size: 2}}}}\npipelines:\n  p:\n    route: {route}\n    stages:{stages}"
    )


async def test_a_pipeline_is_built_and_runs(tmp_path: Path) -> None:
    text = pipelines("\n    - tap: {name: it}\n    - begin\n    - finish:\n", "[GET /a, POST /b]")

    (pipeline,) = load_config(tmp_path, text).pipelines

    arrived = []

    async def sink(event: Any) -> None:
        arrived.append(event)

    await pipeline.chain.run(Start("x"), sink)
    assert arrived == [End("x")]
    assert (pipeline.name, pipeline.routes) == ("p", ("GET /a", "POST /b"))
    assert pipeline.stages == (Tap("it", ["it Start"]), Begin(), Finish())
    assert pipeline.locations == (Location(6, 7), Location(7, 7), Location(8, 7))


def stage(tmp_path: Path, options: str, **environ: str) -> Any:
    text = pipelines(f" [pick-one: {options}, finish]")
    return load_config(tmp_path, text, **environ).pipelines[0].stages[0]


def test_options_and_sections_are_filled_in(tmp_path: Path) -> None:
    result = stage(tmp_path, "{limit: 3, default: one}")

    assert result == PickOne({"one": Thing(2)}, "one", limit=3)


@pytest.mark.parametrize(
    ("options", "environ", "keys"),
    [
        ("{}", {"SOME_KEY": "k"}, ("k",)),
        ("", {"SOME_KEY": "k"}, ("k",)),
        ("{keys: [a]}", {"SOME_KEY": "k"}, ("a",)),
        ("{keys: []}", {"SOME_KEY": "k"}, ()),
        ("{}", {"SOME_KEY": ""}, ()),
        ("{}", {}, ()),
    ],
    ids=["no-options", "nothing", "given", "given-empty", "empty-variable", "no-variable"],
)
def test_an_option_may_come_from_its_variable(
    tmp_path: Path, options: str, environ: dict[str, str], keys: tuple[str, ...]
) -> None:
    assert stage(tmp_path, options, **environ).keys == keys


def test_routes_are_plain_texts(tmp_path: Path) -> None:
    (pipeline,) = load_config(
        tmp_path, pipelines(" [begin, finish]", "${ROUTE}"), ROUTE="GET /x"
    ).pipelines

    assert [(route, type(route)) for route in pipeline.routes] == [("GET /x", str)]


@pytest.mark.parametrize(
    "route",
    [
        "GET /",
        "POST /v1/messages",
        "GET /v1/{id}",
        "'GET /v1/{id:path}'",
        "'DELETE /{a}/b/{c:int}.json'",
        "GET /a%20b?",
    ],
)
def test_a_route_is_a_method_and_a_path(tmp_path: Path, route: str) -> None:
    (pipeline,) = load_config(tmp_path, pipelines(" [begin, finish]", route)).pipelines

    assert pipeline.routes == (route.strip("'"),)


@pytest.mark.parametrize(
    "route",
    [
        "/v1",
        "GET",
        "GET v1",
        "get /v1",
        "'GET  /v1'",
        "'GET /v1 '",
        "'GET /a b'",
        "'GET /{a'",
        "'GET /a}'",
        "'GET /{}'",
        "'GET /{1a}'",
        "'GET /{a:name}'",
        "5",
        "[[GET /]]",
        "{GET: /}",
        "[]",
        "",
        "'GET /a\n\n  b'",
    ],
)
def test_other_texts_are_no_route(tmp_path: Path, route: str) -> None:
    ((line, _, code, message),) = problems(tmp_path, pipelines(" [begin, finish]", route))

    assert (line, code) == (4, "bad-route")
    assert message.startswith("expected ")


def test_each_problem_of_a_list_of_routes_has_its_place(tmp_path: Path) -> None:
    text = pipelines(" [begin, finish]", "[GET /a, /b, GET /a, 5]")

    assert [(column, code) for _, column, code, _ in problems(tmp_path, text)] == [
        (21, "bad-route"),
        (25, "route-taken"),
        (33, "bad-route"),
    ]


def test_a_route_leads_to_one_pipeline(tmp_path: Path) -> None:
    text = pipelines(" [begin, finish]") + "\n  q:\n    route: GET /\n    stages: [begin, finish]\n"

    assert problems(tmp_path, text) == [
        (7, 12, "route-taken", "`GET /` already leads to pipeline `p`")
    ]


@pytest.mark.parametrize(
    ("stages", "line", "column", "code", "words"),
    [
        (" begin", 5, 13, "bad-option", "`stages`: expected a list, got the text 'begin'"),
        ("", 5, 5, "bad-option", "`stages`: expected a list, got nothing"),
        (" []", 5, 5, "chain-end", "pipeline `p` has no stages"),
        (" [5]", 5, 14, "bad-stage", "expected the name of a stage, got `5`"),
        (" [[begin]]", 5, 14, "bad-stage", "expected the name of a stage, got a list"),
        (" [{}]", 5, 14, "bad-stage", "expected the name of a stage, got a mapping"),
        (" [~]", 5, 14, "bad-stage", "expected the name of a stage, got nothing"),
        ("\n    - begin\n      finish", 6, 7, "bad-stage", "`begin finish` is not the name of one"),
        ("\n    - begin:\n      finish:", 7, 7, "bad-stage", "`finish` is next to `begin`"),
        ("\n    - begin:\n      limit: 5", 7, 7, "bad-stage", "`limit` is next to `begin`"),
        (" [begn, finish]", 5, 14, "unknown-stage", "there is no stage `begn`"),
        (" [begn: {a: 1}, finish]", 5, 14, "unknown-stage", "there is no stage `begn`"),
        (" [begin: 5, finish]", 5, 21, "bad-option", "`begin`: expected a mapping, got `5`"),
        (" [begin: {a: 1}, finish]", 5, 22, "unknown-option", "`begin` has no option `a`"),
        (" [tap: {nam: x}, begin, finish]", 5, 20, "unknown-option", "`tap` has no option `nam`"),
        (" [tap: {name: 1}, begin, finish]", 5, 26, "bad-option", "`name`: expected a text"),
        (" [tap: x, begin, finish]", 5, 19, "bad-option", "`tap`: expected a mapping"),
        (
            " [pick-one: {things: {}}, finish]",
            5,
            25,
            "unknown-option",
            "`pick-one` has no option `things`",
        ),
        (" [finish, begin]", 5, 14, "chain-order", "stage `finish` accepts Middle"),
        (" [begin]", 5, 14, "chain-end", "pipeline `p` ends with Middle"),
    ],
    ids=str,
)
def test_a_list_that_is_not_in_order_is_reported(
    tmp_path: Path, stages: str, line: int, column: int, code: str, words: str
) -> None:
    ((*place, matches, message),) = problems(tmp_path, pipelines(stages))

    assert (place, matches) == ([line, column], code)
    assert message.startswith(words)


def test_wrong_options_do_not_hide_a_wrong_order(tmp_path: Path) -> None:
    text = pipelines(" [finish: {a: 1}, begin]")

    assert [code for _, _, code, _ in problems(tmp_path, text)] == [
        "chain-order",
        "unknown-option",
    ]


def test_with_an_unknown_stage_no_order_is_reported(tmp_path: Path) -> None:
    text = pipelines(" [finish, begn]")

    assert [code for _, _, code, _ in problems(tmp_path, text)] == ["unknown-stage"]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("things: {}", "no-pipelines", "the config has no pipelines"),
        ("pipelines:", "no-pipelines", "the config has no pipelines"),
        ("pipelines: {}", "no-pipelines", "the config has no pipelines"),
        ("pipelines: [a]", "bad-option", "`pipelines`: expected a mapping, got a list"),
        ("pipelines: a", "bad-option", "`pipelines`: expected a mapping, got the text 'a'"),
        ("pipelines: {p: [a]}", "bad-option", "`p`: expected a mapping, got a list"),
        ("pipelines: {p: }", "bad-option", "`p`: expected a mapping, got nothing"),
    ],
)
def test_an_invalid_section_of_pipelines_is_reported(
    tmp_path: Path, text: str, code: str, message: str
) -> None:
    ((*_, matches, response),) = problems(tmp_path, text)

    assert (matches, response) == (code, message)


def test_a_broken_section_is_reported_once(tmp_path: Path) -> None:
    text = pipelines(" [pick-one, finish]").replace("{one: {size: 2}}", "5")

    assert [code for _, _, code, _ in problems(tmp_path, text)] == ["bad-option"]


def test_a_stage_that_asks_for_no_section_there_is_is_reported(tmp_path: Path) -> None:
    (tmp_path / "asking.py").write_text(
        "from attrs import frozen\n"
        "from pipeline import Stage, section\n"
        "from tests.pipeline.support import Middle, Start\n\n"
        "@frozen\n"
        "class Asking(Stage[Start, Middle]):\n"
        "    thing: dict[str, int] = section('thing')\n"
    )

    assert problems(tmp_path, pipelines(' ["asking:Asking", finish]')) == [
        (5, 14, "bad-stage", "`asking:Asking` asks for the section `thing`, which no file has")
    ]


def test_names_from_variables_are_not_shown(tmp_path: Path) -> None:
    text = pipelines("\n    - ${NAME}\n", "'${ROUTE}'")

    matches = problems(tmp_path, text, NAME="s3cret stage", ROUTE="s3cret route")

    assert [message for *_, message in matches] == [
        "expected a method and a path, got a text from the environment",
        "there is no stage `${NAME}`",
    ]
