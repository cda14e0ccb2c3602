"""The sections `backends` and `models` of a config."""

from __future__ import annotations

from typing import Any

import pytest
from cattrs.errors import BaseValidationError

from pipeline.config.options import OptionError
from pipeline.config.structuring import leaf_errors, make_converter
from stages.backends.backend import Backend
from stages.backends.config import ModelTarget, merge_with_shipped, register_hooks
from stages.exchange import Target
from stages.profiles.profile import CONNECTION_KEYS, Overrides, profiles
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.support import resolved


def structured(value: Any, kind: Any) -> Any:
    """Structure `value` as a config is structured."""
    converter = make_converter()
    register_hooks(converter)
    return converter.structure(value, kind)


def problems(value: Any, kind: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """The problems of `value`, with their paths."""
    with pytest.raises((BaseValidationError, ValueError)) as raised:
        structured(value, kind)
    return [(path, str(leaf)) for path, leaf in leaf_errors(raised.value)]


def option_error(value: Any, kind: Any) -> OptionError:
    with pytest.raises((BaseValidationError, OptionError)) as raised:
        structured(value, kind)
    [(_, leaf)] = leaf_errors(raised.value)
    assert isinstance(leaf, OptionError)
    return leaf


def structured_backend(**value: Any) -> Backend:
    backend: Backend = structured(value, Backend)
    return backend


# Backends


def test_a_backend_without_a_profile_is_generic() -> None:
    backend = structured_backend(base_url="http://x.invalid/v1")
    assert backend.profile.base_url == "http://x.invalid/v1"
    assert (
        backend.profile
        == structured_backend(base_url="http://x.invalid/v1", profile="generic").profile
    )


def test_a_profile_gives_its_keys() -> None:
    profile = structured_backend(profile="ollama").profile
    assert profile.base_url == "http://localhost:11434/v1"
    assert profile.stream_options
    assert profile.fields["image.url"] == "reject"
    assert profile.fields["image.base64"] == "map"


def test_a_configured_key_counts_more_than_the_profiles() -> None:
    profile = structured_backend(
        profile="ollama",
        base_url="http://gpu:11434/v1",
        fields={"image.url": "map", "top_k": "map"},
        api_key="k",
    ).profile
    assert profile.base_url == "http://gpu:11434/v1"
    assert (profile.fields["image.url"], profile.fields["top_k"]) == ("map", "map")
    assert profile.fields["thinking"] == "map", "other policies are those of the profile"
    assert profile.api_key == "k"
    assert profile.stream_options


def test_a_configured_backend_does_not_change_its_profile() -> None:
    structured_backend(profile="ollama", stream_options=False, fields={"top_k": "map"})
    assert structured_backend(profile="ollama").profile.stream_options
    assert structured_backend(profile="ollama").profile.fields["top_k"] == "warn"


def test_two_backends_are_never_the_same() -> None:
    assert structured_backend(profile="ollama") != structured_backend(profile="ollama")


@pytest.mark.parametrize("name", ["databricks", "llamacpp", "generic"])
def test_a_profile_without_a_base_url_wants_one(name: str) -> None:
    assert "base_url" not in profiles()[name]
    [(path, _)] = problems({"profile": name}, Backend)
    assert path == ("base_url",)


def test_a_misspelt_profile_gets_a_hint() -> None:
    error = option_error({"profile": "olama"}, Backend)
    assert error.option == "profile"
    assert "olama" in str(error)
    assert error.hint == "did you mean `ollama`?"


@for_each("name", ["", "Ollama2000", None, 3, ["ollama"], {}], ids=repr)
def test_an_invalid_profile_is_refused(name: Any) -> None:
    error = option_error({"profile": name}, Backend)
    assert error.option == "profile"
    assert "there is no profile" in str(error)
    assert error.hint


@pytest.mark.parametrize("value", [None, "ollama", ["ollama"], 3], ids=repr)
def test_a_backend_is_a_mapping(value: Any) -> None:
    [(path, text)] = problems(value, Backend)
    assert path == ()
    assert text.startswith("expected a mapping, got ")


def test_each_wrong_key_of_a_backend_is_reported_with_its_path() -> None:
    wrong = {"think_tags": "yes", "tokenizer": "bpe", "fields": {"top_k": "yes"}, "x": 1}
    reported = problems({"profile": "ollama", **wrong}, Backend)
    assert {path for path, _ in reported} >= {("think_tags",), ("tokenizer",), ("fields", "top_k")}
    assert any("x" in text for path, text in reported if path == ())


@pytest.mark.parametrize("fields", [["top_k"], "top_k", None], ids=repr)
def test_policies_are_a_mapping(fields: Any) -> None:
    [(path, text)] = problems({"profile": "ollama", "fields": fields}, Backend)
    assert path == ("fields",)
    assert text.startswith("expected a mapping, got ")


def test_a_misspelt_field_gets_a_hint() -> None:
    error = option_error({"profile": "ollama", "fields": {"topk": "map"}}, Backend)
    assert (error.option, error.hint) == ("fields", "did you mean `top_k`?")


def test_a_wrong_url_is_reported_with_its_option() -> None:
    assert option_error({"base_url": "localhost"}, Backend).option == "base_url"


@pytest.mark.parametrize(
    ("health", "path"),
    [(True, "models"), (False, ""), ("/health", "/health"), ("v2/ok", "v2/ok")],
    ids=repr,
)
def test_health_is_a_path_and_true_is_the_list_of_models(health: Any, path: str) -> None:
    assert structured_backend(base_url="http://x.invalid/v1", health=health).profile.health == path


@for_each("health", ["http://y.invalid/", "//y.invalid/", "/a b", "/x?y", ".:80"])
def test_a_probe_goes_to_no_other_server(health: str) -> None:
    error = option_error({"base_url": "http://x.invalid/v1", "health": health}, Backend)
    assert error.option == "health"


def test_a_file_that_is_not_there_is_no_embedded_model() -> None:
    error = option_error({"profile": "embedded", "model_path": "/no/such/model.gguf"}, Backend)
    assert error.option == "model_path"
    assert str(error) == "there is no file '/no/such/model.gguf'"


# Models


def test_a_model_leads_to_a_backend() -> None:
    assert structured({"backend": "local"}, ModelTarget) == ModelTarget("local")
    assert structured({"backend": "local", "model": "m"}, ModelTarget) == ModelTarget("local", "m")


def test_overrides_are_structured_like_a_profile() -> None:
    model = structured(
        {
            "backend": "b",
            "overrides": {"context_window": 9, "unsupported_schema_keywords": ["format"]},
        },
        ModelTarget,
    )
    assert model.overrides == {"context_window": 9, "unsupported_schema_keywords": ("format",)}


def test_overrides_hold_only_what_is_given() -> None:
    assert structured({"backend": "b", "overrides": {}}, ModelTarget).overrides == {}
    assert structured({"backend": "b"}, ModelTarget).overrides == {}
    value = {"fields": {"top_k": "map"}}
    assert structured({"backend": "b", "overrides": value}, ModelTarget).overrides == value


def test_overrides_change_the_profile_for_one_model_only() -> None:
    backend = structured_backend(profile="ollama")
    overrides = {"think_tags": False, "fields": {"top_k": "map"}}
    model = structured({"backend": "b", "overrides": overrides}, ModelTarget)
    changed = backend.profile_for(Target("b", "m", model.overrides))
    assert not changed.think_tags
    assert changed.fields == {**backend.profile.fields, "top_k": "map"}
    assert changed.fields["thinking"] == "map", "other policies are those of the backend"
    assert backend.profile_for(Target("b", "m")).think_tags
    assert backend.profile_for(Target("b", "m")).fields["top_k"] == "warn"
    assert backend.profile_for(Target("b", "m")) is backend.profile


@for_each("key", sorted(CONNECTION_KEYS))
def test_options_of_the_connection_cannot_be_overridden_by_model(key: str) -> None:
    error = option_error({"backend": "b", "overrides": {key: "x"}}, ModelTarget)
    assert error.option == key
    assert str(error) == f"`{key}` cannot differ for one model"
    assert error.hint == "configure a second backend instead"


@for_each(
    "overrides",
    [
        {"think_tags": "yes"},
        {"topk": True},
        {"tokenizer": "some"},
        {"context_window": "9"},
        {"fields": {"top_k": "some"}},
        {"fields": {"topk": "map"}},
        {"fields": "top_k"},
    ],
    ids=str,
)
def test_wrong_overrides_are_refused(overrides: dict[str, Any]) -> None:
    reported = problems({"backend": "b", "overrides": overrides}, ModelTarget)
    assert all(path[:1] == ("overrides",) for path, _ in reported)
    assert len(reported) == 1


@pytest.mark.parametrize("value", [[], "top_k", 3, True], ids=repr)
def test_overrides_are_a_mapping(value: Any) -> None:
    [(path, text)] = problems({"backend": "b", "overrides": value}, ModelTarget)
    assert path == ("overrides",)
    assert text.startswith("expected a mapping, got ")


@for_each(
    ("value", "path"),
    [
        ({}, ("backend",)),
        ({"backend": 3}, ("backend",)),
        ({"backend": "b", "model": 3}, ("model",)),
        ({"backend": "b", "name": "m"}, ()),
        ("b", ()),
    ],
    ids=["no backend", "a number", "a model that is a number", "an unknown key", "a text"],
)
def test_a_wrong_model_is_reported_with_its_path(value: Any, path: tuple[str, ...]) -> None:
    assert [where for where, _ in problems(value, ModelTarget)] == [path]


ROUTED = {"provider": {"sort": "price", "only": ["a"]}, "temperature": 0.7}


def test_extra_members_yield_to_those_of_the_request() -> None:
    backend = structured_backend(
        base_url="http://b.invalid/v1",
        body=ROUTED,
        reasoning_request="template",
        fields={"thinking": "map"},
    )
    own = {"body": {"chat_template_kwargs": {"enable_thinking": False, "more": 1}}}
    target = Target("fake", "m", overrides=structured(own, Overrides))
    asking = resolved(thinking={"type": "adaptive"}, temperature=0.1)
    sent = chat_request(asking, backend.profile_for(target)).options

    assert sent["provider"] == ROUTED["provider"]
    assert sent["temperature"] == 0.1
    assert sent["chat_template_kwargs"] == {"enable_thinking": True, "more": 1}
    assert chat_request(resolved(), backend.profile).options["temperature"] == 0.7


@for_each("name", ["model", "messages", "stream", "tools", "max_tokens", "n"])
def test_members_that_the_translation_makes_are_refused(name: str) -> None:
    error = option_error({"base_url": "http://b.invalid/v1", "body": {name: 1}}, Backend)

    assert error.option == "body"
    assert f"`{name}`" in error.hint


def test_a_model_may_have_its_own_price() -> None:
    backend = structured_backend(profile="ollama", price={"input": 1})
    overrides = {"price": {"input": 2, "output": 3}}
    model = structured({"backend": "b", "overrides": overrides}, ModelTarget)
    targets = (Target("b", "m", model.overrides), Target("b", "m"))

    assert [backend.profile_for(target).price[0].input for target in targets] == [2, 1]


def test_a_pattern_of_models_changes_the_profile_for_them() -> None:
    backend = structured_backend(
        base_url="http://b.invalid/v1",
        models={"gpt-*": {"body": {"a": 1}, "json_object": True}, "gpt-5*": {"body": {"b": 2}}},
    )
    five, four, other = (
        backend.profile_for(Target("fake", name)) for name in ("gpt-5", "gpt-4", "llama")
    )
    overridden = backend.profile_for(Target("fake", "gpt-5", {"json_object": False}))

    assert (five.body, five.json_object) == ({"a": 1, "b": 2}, True)
    assert four.body == {"a": 1}
    assert other == backend.profile
    assert not overridden.json_object
    assert backend.profile_for(Target("fake", "gpt-5")) is five


def test_overrides_of_a_pattern_are_checked() -> None:
    value = {"base_url": "http://b.invalid/v1", "models": {"gpt-*": {"base_url": "http://x/"}}}

    assert option_error(value, Backend).option == "base_url"


def test_a_shipped_pattern_can_be_changed_and_others_added() -> None:
    shipped = {"models": {"a*": {"json_object": True}, "b*": {}}, "base_url": "http://b.invalid"}
    over = merge_with_shipped(shipped, {"models": {"a*": {}, "c*": {}}})

    assert list(over["models"]) == ["a*", "b*", "c*"]
    assert over["models"]["a*"] == {}
