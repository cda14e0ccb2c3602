"""Findings as an entry of `backends`."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML

from pipeline.config.parsing import parse
from proxy.probe.question import Finding, Question
from proxy.probe.report import key_findings, report
from stages.profiles.profile import Profile
from tests.cases import for_each
from tests.support import profile

Row = tuple[tuple[str, ...], str, dict[str, Any]]


def findings(*reported: Row) -> list[tuple[Question, Finding]]:
    return [
        (Question("q", keys, (), lambda _: Finding("")), Finding(evidence, sets))
        for keys, evidence, sets in reported
    ]


def printed(*reported: Row, whole: bool = False, config: Profile | None = None) -> str:
    return report("mine", {}, config or profile(), findings(*reported), whole)


def test_an_unusual_finding_is_printed_with_its_evidence() -> None:
    text = printed((("tokenizer",), "it counts", {"tokenizer": "vllm"}))

    assert text == "  mine:\n    tokenizer: vllm  # it counts\n"


def test_a_usual_finding_is_not_printed() -> None:
    assert printed((("tokenizer",), "404", {"tokenizer": "none"})) == "  mine:\n"


def test_an_undetermined_key_stays_as_configured() -> None:
    config = profile(tool_id_limit=40)
    text = printed((("tool_id_limit",), "429: slow down", {}), config=config)

    assert "tool_id_limit: 40  # undetermined: 429: slow down" in text


def test_a_wrong_config_is_reported_even_if_the_finding_is_usual() -> None:
    config = profile(tool_id_limit=40)
    text = printed((("tool_id_limit",), "accepted", {"tool_id_limit": 64}), config=config)

    assert "tool_id_limit: 64  # accepted; configured: 40" in text


def test_a_later_finding_wins_and_silence_changes_nothing() -> None:
    known = key_findings(
        profile(),
        findings(
            (("reasoning_request",), "first", {"reasoning_request": "effort"}),
            (("reasoning_request",), "second", {"reasoning_request": "template"}),
            (("reasoning_request",), "429", {}),
        ),
    )

    assert known["reasoning_request"].value == "template"
    assert known["reasoning_request"].evidence == "second"


def test_a_refused_effort_is_not_requested() -> None:
    config = profile(reasoning_request="effort", fields={"thinking": "map"})
    refused = (("fields.output_config.effort",), "400", {"fields.output_config.effort": "warn"})
    known = key_findings(config, findings(refused))

    assert known["reasoning_request"].value == "none"
    assert known["fields.thinking"].value == "warn"


VALUES = [
    "plain",
    "(no output)",
    "<tool_call>\n",
    "null",
    "Yes",
    "a: b",
    "a # b",
    "a  # b",
    " spaced ",
    "",
    "42",
    "- x",
    'quo"te',
    "ümlaut",
]


@for_each("value", VALUES)
def test_any_text_is_yaml(value: str) -> None:
    text = printed((("empty_tool_result",), "e # v: 'i'", {"empty_tool_result": value}), whole=True)

    assert YAML(typ="safe").load(text)["mine"]["empty_tool_result"] == value


def test_a_value_is_no_variable() -> None:
    text = printed((("empty_tool_result",), "e", {"empty_tool_result": "${VAR}"}))

    document = parse(text, {})
    assert not document.problems
    assert document.value["mine"]["empty_tool_result"] == "${VAR}"


def test_any_value_is_yaml() -> None:
    sets = {
        "prefill_options": {"a": True, "b c": [1, "null"]},
        "effort_levels": ("none", "low"),
        "max_stop_sequences": None,
    }
    text = printed((tuple(sets), "found", sets))

    assert YAML(typ="safe").load(text)["mine"] == {**sets, "effort_levels": ["none", "low"]}


def test_long_evidence_is_cut() -> None:
    text = printed((("tokenizer",), "x" * 1000, {"tokenizer": "vllm"}))

    assert max(map(len, text.splitlines())) < 160
