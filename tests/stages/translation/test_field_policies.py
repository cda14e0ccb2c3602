"""The policies for fields, and the reports about them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.options import OptionError
from stages.messages_api.errors import InvalidRequestError, UnsupportedError
from stages.profiles.policies import SUPPORTED
from stages.profiles.profile import profiles
from stages.translation.field_policies import FieldPolicies
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.support import degradations, profile, resolved


def notes(body: dict[str, Any], **fields: str) -> tuple[str, ...]:
    policies = {name.replace("__", "."): policy for name, policy in fields.items()}
    return degradations(chat_request(resolved(**body), profile(fields=policies)))


def test_generic_has_a_policy_for_each_field() -> None:
    assert profiles()["generic"]["fields"].keys() == SUPPORTED.keys()


def test_a_dropped_field_is_not_reported() -> None:
    assert notes({"top_k": 3}, top_k="drop") == ()


def test_a_field_with_a_warning_is_reported_once() -> None:
    assert notes({"top_k": 3}, top_k="warn") == ("top_k:dropped",)


def test_a_rejected_field_is_a_400_that_names_it() -> None:
    with pytest.raises(UnsupportedError, match=r"^top_k: "):
        notes({"top_k": 3}, top_k="reject")


def test_strict_makes_a_400_of_a_warning() -> None:
    with pytest.raises(UnsupportedError, match=r"^top_k: would be dropped"):
        chat_request(resolved(top_k=3), profile(), strict=True)


@pytest.mark.parametrize("policy", ["reject", "warn"])
@pytest.mark.parametrize(
    "body",
    [{"x" * 100_000: 1}, {"tools": [{"type": "y" * 100_000, "name": "f"}]}],
    ids=["a field", "a tool's type"],
)
def test_a_refusal_does_not_repeat_megabytes(body: dict[str, Any], policy: str) -> None:
    value = profile(fields={"unknown": policy, "server_tools.alone": policy})
    with pytest.raises(InvalidRequestError) as raised:
        chat_request(resolved(**body), value, strict=True)
    assert len(str(raised.value)) < 200


def test_strict_lets_pass_what_loses_nothing() -> None:
    assert degradations(chat_request(resolved(temperature=1), profile(), strict=True)) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("container", "x"), ("speed", "fast"), ("inference_geo", "eu"), ("context_management", "x")],
)
def test_fields_that_cannot_be_kept_follow_their_policy(name: str, value: str) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        notes({name: value}, **{name: "reject"})


def test_skills_are_refused_where_a_container_is_left_out() -> None:
    assert notes({"container": {"id": "c", "skills": []}}) == ("container:dropped",)
    with pytest.raises(InvalidRequestError, match=r"^container\.skills: "):
        notes({"container": {"id": "c", "skills": [{"skill_id": "pdf"}]}})


def test_a_field_of_a_newer_client_is_reported_by_its_name() -> None:
    assert notes({"brand_new": 1}) == ("brand_new:dropped",)


@for_each(
    ("fields", "words"),
    [
        ({"top_g": "drop"}, "no field `top_g`"),
        ({"container": "map"}, "cannot be `map`"),
        ({"max_tokens": "drop"}, "always `map`"),
        ({"thinking": "map"}, "while `reasoning_request` is none"),
        ({"thinking_block": "map"}, "while `reasoning_history` is none"),
    ],
)
def test_an_impossible_policy_is_refused_in_the_config(fields: dict[str, str], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        profile(fields=fields)


def test_a_name_that_is_no_field_is_a_mistake_in_the_code() -> None:
    with pytest.raises(KeyError):
        FieldPolicies(profile().fields).allows("no_such_field")
