"""The profiles: facts about backends, as data."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from cattrs.errors import BaseValidationError

from pipeline.config.options import OptionError
from pipeline.config.structuring import make_converter
from stages.profiles.describe import profile_named
from stages.profiles.profile import CONNECTION_KEYS, Profile, profiles
from tests.cases import for_each
from tests.support import profile


@for_each("name", profiles())
def test_each_profile_that_ships_is_in_order(name: str) -> None:
    value = {"base_url": "http://backend.invalid/v1", **profiles()[name]}
    result = make_converter().structure(value, Profile)
    assert result == profile_named(name)
    assert bool(result.base_url) is not result.embedded


def test_the_profiles_that_ship_are_these() -> None:
    names = """
        azure cerebras dashscope databricks deepseek embedded fireworks gemini generic github groq
        koboldcpp llama-swap llamacpp lmstudio minimax mistral mlx moonshot nvidia ollama openai
        openrouter sglang together vllm xai zai
    """
    assert sorted(profiles()) == names.split()


def test_generic_is_the_defaults() -> None:
    fields = profiles()["generic"]["fields"]
    assert profiles()["generic"] == {"fields": fields}
    assert profile().fields == fields


@for_each("name", profiles())
def test_a_profile_names_only_policies_that_differ_from_generic(name: str) -> None:
    fields = {} if name == "generic" else profiles()[name].get("fields", {})
    assert not fields.items() & profiles()["generic"]["fields"].items()


@for_each("name", profiles())
def test_a_profile_can_express_each_field_that_it_maps(name: str) -> None:
    result = profile_named(name)
    assert (result.fields["thinking"] == "map") is (result.reasoning_request != "none")
    assert (result.fields["thinking_block"] == "map") is (result.reasoning_history != "none")
    assert (result.fields["disable_parallel_tool_use"] == "emulate") is (
        result.parallel_tool_calls == "never"
    )


def test_a_policy_overrides_only_its_row_of_generic() -> None:
    generic = profile().fields
    assert generic["top_k"] != "map"
    assert profile(fields={"top_k": "map"}).fields == {**generic, "top_k": "map"}


@pytest.mark.parametrize(
    ("fields", "words", "hint"),
    [
        ({"top_kk": "map"}, "there is no field `top_kk`", "did you mean `top_k`?"),
        ({"speed": "map"}, "`speed` cannot be `map`", "use drop, warn or reject"),
        ({"search_result": "map"}, "`search_result` cannot be `map`", "use drop, warn or reject"),
        ({"top_k": "emulate"}, "`top_k` cannot be `emulate`", "use drop, warn or reject"),
    ],
    ids=["unknown", "not to be kept", "not to be mapped", "not to be emulated"],
)
def test_a_policy_that_would_do_nothing_is_refused(
    fields: dict[str, Any], words: str, hint: str
) -> None:
    with pytest.raises(OptionError, match=words) as raised:
        profile(fields=fields)
    assert (raised.value.option, raised.value.hint) == ("fields", hint)


def test_effort_cannot_be_mapped_where_there_are_no_levels() -> None:
    with pytest.raises(OptionError, match=r"`output_config.effort` cannot be `map`"):
        profile(fields={"output_config.effort": "map"}, reasoning_request="template")


def test_no_profile_that_ships_has_a_key_of_a_person() -> None:
    for value in profiles().values():
        assert not {"api_key", "headers", "model_path"}.intersection(value)


def test_keys_of_a_connection_are_keys_of_a_profile() -> None:
    assert {field.name for field in attrs.fields(Profile)} > CONNECTION_KEYS


def test_every_key_says_what_it_is_for() -> None:
    assert all(field.metadata["help"] for field in attrs.fields(Profile))


@for_each(
    "url",
    [
        "http://localhost:11434/v1",
        "https://x.invalid",
        "HTTP://x.invalid/",
        "http://[::1]:8080/v1",
        "http://user:pass@x.invalid:1/a/b",
    ],
)
def test_an_http_url_is_a_base_url(url: str) -> None:
    assert profile(base_url=url).base_url == url


@for_each(
    "url",
    [
        "",
        "localhost:11434",
        "//x.invalid/v1",
        "/v1",
        "ftp://x.invalid",
        "http://",
        "http:///v1",
        "http://:80/v1",
        "http://x .invalid/v1",
        "http://x.invalid/v1\n",
        "http://x.invalid:0/v1",
        "http://x.invalid:99999/v1",
        "http://x.invalid:port/v1",
        "http://[::1/v1",
    ],
)
def test_an_invalid_base_url_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match="must be an http or https URL") as raised:
        profile(base_url=url)
    assert raised.value.option == "base_url"
    assert "`http://localhost:11434/v1`" in raised.value.hint


@for_each(
    ("url", "words"),
    [
        ("http://x.invalid/v1?c=d", "no query and no fragment"),
        ("http://x.invalid/v1#c", "no query and no fragment"),
        ("http://x.invalid/v1/chat/completions", "not end with `/chat/completions`"),
        ("http://x.invalid/v1/chat/completions//", "not end with `/chat/completions`"),
    ],
)
def test_a_part_of_the_base_url_that_is_too_much_is_named(url: str, words: str) -> None:
    with pytest.raises(OptionError, match=f"`base_url` must .*{words}"):
        profile(base_url=url)


def test_the_embedded_model_needs_no_base_url() -> None:
    assert profile(base_url="", embedded=True).base_url == ""


def test_a_url_with_a_password_is_not_repeated_when_it_is_wrong() -> None:
    with pytest.raises(OptionError) as raised:
        profile(base_url="postgres://user:s3cret@x.invalid")
    assert "s3cret" not in f"{raised.value}{raised.value.hint}"


def test_no_text_shows_the_key_or_the_headers() -> None:
    result = profile(api_key="s3cret-key", headers={"x-token": "s3cret-token"})
    assert "s3cret" not in repr(result)


@pytest.mark.parametrize("key", ["", "sk-1", "a b", "dapi.1_2+3/4=="])
def test_a_key_of_plain_letters_can_be_sent(key: str) -> None:
    assert profile(api_key=key).api_key == key


@for_each("key", ["s3cret\n", " s3cret", "s3cret\r\nx: y", "s3crét", "s3cret\x00"])
def test_a_key_that_no_header_can_have_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(OptionError, match="cannot be sent") as raised:
        profile(api_key=key)
    assert raised.value.option == "api_key"
    assert "s3cr" not in f"{raised.value}{raised.value.hint}"


@for_each(
    ("name", "value"),
    [("x token", "a"), ("", "a"), ("x:", "a"), ("x-a", "s3cret\n"), ("x-a", "s3cr\r\nb: c")],
)
def test_a_header_that_cannot_be_sent_is_refused_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(OptionError, match="cannot be sent") as raised:
        profile(headers={"x-right": "1", name: value})
    assert raised.value.option == "headers"
    assert "s3cr" not in f"{raised.value}{raised.value.hint}"


@pytest.mark.parametrize("seconds", [0, -1])
def test_the_connect_timeout_has_to_be_positive(seconds: float) -> None:
    with pytest.raises((OptionError, ValueError), match="connect_timeout"):
        profile(connect_timeout=seconds)


WRONG: dict[str, dict[str, Any]] = {
    "a misspelt key": {"stream_option": True},
    "text as true": {"stream_options": "true"},
    "a number as true": {"think_tags": 1},
    "another field's name": {"max_tokens_field": "max_output_tokens"},
    "another word": {"reasoning_request": "yes"},
    "another policy": {"fields": {"top_k": "maybe"}},
    "true as a policy": {"fields": {"top_k": True}},
    "a list of policies": {"fields": ["top_k"]},
    "a text as a list": {"unsupported_schema_keywords": "format"},
    "text as a number": {"context_window": "8192"},
    "a fraction": {"max_stop_sequences": 4.5},
    "a list of headers": {"headers": ["a: b"]},
    "a number in a header": {"headers": {"a": 1}},
    "a null": {"tokenizer": None},
}


@for_each("changes", WRONG.values(), ids=WRONG)
def test_a_profile_is_structured_strictly(changes: dict[str, Any]) -> None:
    with pytest.raises(BaseValidationError):
        make_converter().structure({"base_url": "http://x.invalid", **changes}, Profile)
