"""What needs no server: the judgement, the table, the comparison with truths.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.profiles.profile import Profile
from tests.cases import for_each
from tests.live.judging import Result, compare, table
from tests.live.probe import flat, found
from tests.live.proxy import config
from tests.live.servers import SERVERS

PRINTED = """\
  # measured by `llm-proxy probe` with the model m
  probed:
    base_url: "http://127.0.0.1:1/v1"
    stream_options: true   # usage in the stream
    tool_id_length: null   # accepted
    named_tool_choice: true  # undetermined: it was cut
    max_concurrent_calls: null            # as configured
    fields:
      top_k: map           # obeyed
      prefill: map         # undetermined: it was cut
"""


@for_each(
    ("expected", "seen", "passed"),
    [
        ("end_turn", "end_turn", True),
        ("end_turn", "end_turn weather", False),
        ("tool_use *", "tool_use weather", True),
        ("tool_use *", "end_turn", False),
        ("[none, low]", "[none, low]", True),
        ("[none, low]", "n", False),
    ],
)
def test_a_star_matches_any_text(expected: str, seen: str, passed: bool) -> None:
    assert Result("a check", expected, seen).passed is passed


def test_the_table_repeats_the_whole_text_of_what_differs() -> None:
    long = "x" * 200
    lines = table([Result("good", "a", "a"), Result("bad", "b", long)]).splitlines()

    assert [line.split()[-1] for line in lines[2:4]] == ["ok", "DIFFERENT"]
    assert all(long not in line for line in lines[:4])
    assert lines[-3] == f"  seen: {long}"
    assert lines[-1] == "1 as expected, 1 different"


def test_only_what_the_probe_has_found_out_is_compared() -> None:
    assert found(PRINTED) == {"stream_options": True, "tool_id_length": None, "fields.top_k": "map"}


def test_an_unverified_key_is_a_difference() -> None:
    passed = {
        result.check: result.passed
        for result in compare({"a": 1, "b": None, "c": 2}, {"a": 1, "b": None})
    }

    assert passed == {"probe: a": True, "probe: b": True, "probe: c": False}


@pytest.mark.parametrize("name", SERVERS)
def test_the_facts_of_a_server_are_keys_of_a_profile(name: str) -> None:
    truths = YAML(typ="safe", pure=True).load(Path(__file__).with_name("truths.yaml"))
    profile = Profile("http://localhost/v1")

    for key in flat(truths[name]):
        place, field = (profile.fields, key.removeprefix("fields.")) if "." in key else (None, key)
        assert field in place if place is not None else hasattr(profile, field)


def test_the_config_of_the_proxy_has_the_shipped_pipelines() -> None:
    text = config(SERVERS["vllm"], "a model", "http://127.0.0.1:1", PRINTED)
    loaded = YAML(typ="safe", pure=True).load(text)

    assert loaded["backends"]["live"]["profile"] == "vllm"
    assert set(loaded["backends"]) == {"live", "wrong-key", "probed"}
    assert loaded["models"]["probed"] == {"backend": "probed", "model": "a model"}
    assert "messages" in loaded["pipelines"]
