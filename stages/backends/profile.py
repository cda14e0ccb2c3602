"""What is known of a backend, as data: read by the translation, shipped in `profiles.yaml`."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NewType, get_args
from urllib.parse import urlsplit

from attrs import evolve, frozen, validators
from ruamel.yaml import YAML

from pipeline import option
from pipeline.problems import nearest
from pipeline.stage import OptionError
from stages.backends.policies import KEPT, Policy, fault


def _check_url(profile: Profile, _: Any, url: str) -> None:
    if not url and profile.embedded:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and url.isprintable() and not {" ", "?", "#"}.intersection(url)
    except ValueError:
        usable = False
    if not usable:
        hint = "write it as `http://localhost:11434/v1`"
        raise OptionError("base_url", "`base_url` has to be an http or https URL", hint)


def _over_generic(fields: dict[str, Policy]) -> dict[str, Policy]:
    generic: dict[str, Policy] = profiles()["generic"]["fields"]
    return {**generic, **fields}


#: The names that the output limit has, on one backend or another.
OutputLimit = Literal["max_tokens", "max_completion_tokens"]
OUTPUT_LIMITS: tuple[OutputLimit, ...] = get_args(OutputLimit)
#: Ways to ask for reasoning that know no levels of it.
_WITHOUT_EFFORT = ("none", "template", "thinking")


def _check_fields(profile: Profile, _: Any, fields: dict[str, Policy]) -> None:
    for name, policy in fields.items():
        if wrong := fault(name, policy):
            hint = nearest(name, KEPT) if name not in KEPT else "use drop, warn or reject"
            raise OptionError("fields", wrong, hint)
    if fields["output_config.effort"] == "map" and profile.reasoning_request in _WITHOUT_EFFORT:
        message = "`output_config.effort` cannot be `map`: `reasoning_request` has no levels here"
        raise OptionError("fields", message, "use drop, warn or reject, or set `reasoning_request`")
    for name, way in (("thinking", "reasoning_request"), ("thinking_block", "reasoning_history")):
        if fields[name] == "map" and getattr(profile, way) == "none":
            message = f"`{name}` cannot be `map` while `{way}` is none: it would be lost"
            raise OptionError("fields", message, f"set `{way}`, or use drop, warn or reject")


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"([\x21-\x7e]+([ \t]+[\x21-\x7e]+)*)?")


def _check_key(_: Profile, attribute: Any, key: str) -> None:
    if not _HEADER_VALUE.fullmatch(key):
        message = "`api_key` cannot be sent: it has an odd character, or white space at an end"
        raise OptionError("api_key", message, "look for a line break at the end of it")


def _check_headers(_: Profile, attribute: Any, headers: dict[str, str]) -> None:
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            message = f"the header {name!r} cannot be sent: it has an odd character"
            raise OptionError("headers", message, "names and values of headers are plain ASCII")


def _check_health(_: Profile, attribute: Any, path: str) -> None:
    if not re.fullmatch(r"(/?[\w.~-]+)*/?", path, re.ASCII):  # elsewhere the key would go, too
        message = "`health` has to be a path on the same server"
        raise OptionError("health", message, "write it as `/health`, or `true`")


#: Members of a call that the translation always makes, or that the rest of it depends on.
_MADE = (
    *OUTPUT_LIMITS,
    *("model", "messages", "stream", "stream_options", "n", "stop", "response_format"),
    *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
)


def _check_body(_: Profile, __: Any, body: dict[str, Any]) -> None:
    for name in body:
        if name in _MADE:
            hint = f"remove `{name}`: each request says it, or a key of the profile does"
            raise OptionError("body", f"`body` cannot set `{name}`: the translation does", hint)


#: Keys of a profile with the values they have for some of its models.
Overrides = NewType("Overrides", dict[str, Any])


@frozen
class Profile:
    """One backend's ways. Each key can be set per backend, and most per model (`overrides`)."""

    base_url: str = option(help="where `/chat/completions` is below", validator=_check_url)
    profile: str = option("generic", help="the shipped profile it starts from")
    api_key: str = option("", help="sent as a bearer token", repr=False, validator=_check_key)
    headers: dict[str, str] = option(
        factory=dict, help="sent with each request", repr=False, validator=_check_headers
    )
    body: dict[str, Any] = option(
        factory=dict,
        help="members of each call, as `{provider: {sort: price}}`, unless the request says them",
        validator=_check_body,
    )
    health: str = option(
        "",
        help="a path to ask whether it is well, as `/health`, for /health/ready; true: `models`",
        validator=_check_health,
    )
    connect_timeout: float = option(10.0, help="seconds", validator=validators.gt(0))
    embedded: bool = option(False, help="llama.cpp runs inside the proxy")
    model_path: str = option("", help="a GGUF file for the embedded llama.cpp")
    slots: int | None = option(
        None,
        help="calls it takes at a time; with the stage `queue`, others wait",
        validator=validators.optional(validators.gt(0)),
    )
    context_window: int | None = option(
        None,
        help="tokens of prompt and answer together",
        validator=validators.optional(validators.gt(0)),
    )
    max_tokens_field: OutputLimit = option("max_tokens", help="the name of the output limit")
    stream_options: bool = option(True, help="takes `stream_options`, and then tells usage")
    max_stop_sequences: int | None = option(
        4,
        help="how many stop sequences it takes, where they are sent: `stop_sequences: map`",
        validator=validators.optional(validators.ge(0)),
    )
    parallel_tool_calls: Literal["always", "when-false", "never"] = option(
        "when-false", help="when to send `parallel_tool_calls`"
    )
    named_tool_choice: bool = option(
        True, help="takes a tool's name as `tool_choice`; else only that tool is sent, as required"
    )
    tools_with_calls: bool = option(
        False, help="wants the tools declared where the conversation has calls"
    )
    assistant_first: bool = option(
        True, help="takes the assistant before any user; if not, a short user message goes first"
    )
    user_after_tool: bool = option(
        True, help="takes a user message behind a tool's result; else the assistant says a word"
    )
    hoist_system: bool = option(
        False, help="emulated system messages join the system prompt, not a user message"
    )
    json_object: bool = option(
        False, help="takes `response_format: {type: json_object}`, beside an emulated format"
    )
    fields: dict[str, Policy] = option(
        factory=dict,
        help="the policy for each field, where it differs from `generic`",
        converter=_over_generic,
        validator=_check_fields,
    )
    forced_tool_prefill: str = option(
        "", help="begins the answer where a tool is required and the model would talk instead"
    )
    empty_tool_result: str = option("", help="stands for an empty tool result")
    split_tool_results: bool = option(
        False, help="wants each tool result right behind a message with only its call"
    )
    prefill_options: dict[str, Any] = option(
        factory=dict, help="sent when the conversation ends with the begun answer"
    )
    repeats_prefill: bool = option(
        False, help="begins a whole answer (not a stream) with the begun answer once more"
    )
    reasoning_request: Literal["none", "effort", "reasoning", "template", "thinking"] = option(
        "none", help="how to ask for reasoning; see stages/translation/reasoning.py"
    )
    effort_levels: tuple[str, ...] = option(
        ("low", "medium", "high"), help="the levels of effort it knows, lowest first"
    )
    can_disable_reasoning: bool = option(
        True, help="takes the wish for no reasoning; false: it is not sent, and the model reasons"
    )
    tools_without_reasoning: bool = option(
        False, help="takes tools only with `reasoning_effort: none`, which is then sent"
    )
    forced_tool_without_reasoning: bool = option(
        False, help="takes a forced tool only if it is told not to reason, which is then sent"
    )
    reasoning_history: Literal["none", "reasoning", "reasoning_content", "reasoning_details"] = (
        option("none", help="the field in which reasoning goes back to it")
    )
    think_tags: bool = option(True, help="reads reasoning out of `<think>` tags in the text")
    tool_name_limit: int = option(64, help="longer names are shortened, and restored")
    tool_id_limit: int = option(64, help="longer ids of tool calls are replaced")
    tool_id_length: int | None = option(
        None,
        help="ids of tool calls are replaced by so many letters and digits",
        validator=validators.optional([validators.ge(8), validators.le(64)]),
    )
    schema_without: tuple[str, ...] = option(
        ("$schema",), help="JSON schema keywords it refuses, in tools and as the answer's form"
    )
    strict_needs_all: bool = option(
        False, help="takes `strict` only of schemas that require all they have, and allow no more"
    )
    tokenizer: Literal["none", "llamacpp", "vllm", "sglang"] = option(
        "none", help="whose endpoint counts tokens; none: estimate"
    )
    remember_refusals: float = option(
        86_400.0,
        help="seconds for which an option that a model refuses is left out; 0: a refusal is final",
        validator=validators.ge(0),
    )
    models: dict[str, Overrides] = option(
        factory=dict, help="keys of this profile that differ for models, by pattern of their name"
    )


#: Keys whose entries are set one by one, not all together.
_BY_ENTRY = ("fields", "body")


def merged(profile: Profile, overrides: Mapping[str, Any]) -> Profile:
    """`profile` with `overrides`; of `fields` and `body` those entries that it names."""
    whole: dict[str, Any] = {
        name: {**getattr(profile, name), **value} if name in _BY_ENTRY else value
        for name, value in overrides.items()
    }
    return evolve(profile, **whole)


#: Keys that belong to a connection, so a single model cannot change them.
CONNECTION_KEYS = frozenset(
    (
        "profile base_url api_key headers health connect_timeout embedded model_path slots models "
        "remember_refusals"
    ).split()
)


@functools.cache
def profiles() -> dict[str, dict[str, Any]]:
    """The profiles that ship, by name: only the keys in which each differs from `generic`."""
    data = YAML(typ="safe", pure=True).load(Path(__file__).with_name("profiles.yaml"))
    return dict(data)
