"""A backend's facts as data: shipped in `profiles/shipped/`, read by the translation."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NewType, get_args

from attrs import evolve, frozen, validators
from ruamel.yaml import YAML

from pipeline import option
from stages.profiles import checks
from stages.profiles.policies import Policy
from stages.profiles.price import Price, check_prices


def _merge_with_generic(fields: dict[str, Policy]) -> dict[str, Policy]:
    generic: dict[str, Policy] = profiles()["generic"]["fields"]
    return {**generic, **fields}


#: The names of the output limit in Chat Completions.
OutputLimit = Literal["max_tokens", "max_completion_tokens"]
OUTPUT_LIMITS: tuple[OutputLimit, ...] = get_args(OutputLimit)

#: Keys of a profile that differ for some models.
Overrides = NewType("Overrides", dict[str, Any])


@frozen
class Profile:
    """The facts of one backend. Each key can be set per backend, most per model (`overrides`)."""

    base_url: str = option(
        secret=checks.url_secrets,
        help="the URL above `/chat/completions`",
        validator=checks.check_url,
    )
    profile: str = option("generic", help="the shipped profile to start from")
    api_key: str = option(
        "", secret=True, help="sent as a bearer token", repr=False, validator=checks.check_key
    )
    headers: dict[str, str] = option(
        factory=dict,
        secret=checks.header_secrets,
        help="sent with each request",
        repr=False,
        validator=checks.check_headers,
    )
    body: dict[str, Any] = option(
        factory=dict,
        help="members of each call, as `{provider: {sort: price}}`, unless the request sets them",
        validator=checks.check_body,
    )
    health: str = option(
        "",
        help="path that /health/ready requests at the backend, as `/health`; true: `models`",
        validator=checks.check_health,
    )
    connect_timeout: float = option(10.0, help="seconds", validator=validators.gt(0))
    embedded: bool = option(False, help="llama.cpp runs inside the proxy")
    model_path: str = option("", help="a GGUF file for the embedded llama.cpp")
    max_concurrent_calls: int | None = option(
        None,
        renamed_from="slots",
        help="calls it accepts at a time; with the stage `queue`, others wait",
        validator=validators.optional(validators.gt(0)),
    )
    swaps_models: bool = option(False, help="has one model loaded; in `queue`, its calls go first")
    context_window: int | None = option(
        None,
        help="tokens of prompt and response together",
        validator=validators.optional(validators.gt(0)),
    )
    max_tokens_field: OutputLimit = option("max_tokens", help="the name of the output limit")
    stream: Literal["as-asked", "always"] = option(
        "as-asked", help="always: request a stream, even if the client does not"
    )
    stream_options: bool = option(True, help="accepts `stream_options`, and then reports usage")
    max_stop_sequences: int | None = option(
        4,
        help="number of stop sequences it accepts, with `stop_sequences: map`",
        validator=validators.optional(validators.ge(0)),
    )
    parallel_tool_calls: Literal["always", "when-false", "never"] = option(
        "when-false", help="when to send `parallel_tool_calls`"
    )
    named_tool_choice: bool = option(
        True, help="accepts a tool's name as `tool_choice`; false: send only that tool, as required"
    )
    max_tools: int | None = option(
        None,
        help="number of tools it accepts; more are left out and reported",
        validator=validators.optional(validators.gt(0)),
    )
    needs_tools_with_history: bool = option(
        False,
        renamed_from="tools_with_calls",
        help="needs the tools in the request if the conversation has calls",
    )
    assistant_first: bool = option(
        True, help="accepts the assistant before any user; false: send a short user message first"
    )
    allows_user_after_tool: bool = option(
        True,
        renamed_from="user_after_tool",
        help="accepts a user message after a tool result; false: insert a short assistant message. "
        "Without this and `assistant_first`, user and assistant alternate",
    )
    hoist_system: bool = option(
        False, help="emulated system messages join the system prompt, not a user message"
    )
    json_object: bool = option(
        False, help="accepts `response_format: {type: json_object}`, next to an emulated format"
    )
    fields: dict[str, Policy] = option(
        factory=dict,
        help="the policy for each field, where it differs from `generic`",
        converter=_merge_with_generic,
        validator=checks.check_fields,
    )
    forced_tool_prefill: str = option(
        "", help="prefill when a tool is required, for models that would write text instead"
    )
    empty_tool_result: str = option("", help="replaces an empty tool result")
    null_content: bool = option(
        True, help="accepts `content: null` next to calls; false: send an empty text"
    )
    split_tool_results: bool = option(
        False, help="needs each tool result directly after a message with only its call"
    )
    prefill_options: dict[str, Any] = option(factory=dict, help="options sent with a prefill")
    prefill_member: str = option(
        "",
        help="the member that marks a prefill, with the value true, as `prefix`",
        validator=validators.not_(validators.in_(("role", "content", "tool_calls"))),
    )
    echoes_prefill: bool = option(
        False,
        renamed_from="repeats_prefill",
        help="repeats the prefill at the start of a response that is not a stream",
    )
    reasoning_request: Literal["none", "effort", "reasoning", "template", "switch", "thinking"] = (
        option("none", help="how to request reasoning; see stages/translation/reasoning_options.py")
    )
    reasoning_switch: str = option(
        "enable_thinking",
        help="the name of the reasoning switch, for `template` and `switch`",
        validator=validators.min_len(1),
    )
    thinking_type: Literal["enabled", "adaptive"] = option(
        "enabled", help="the type that turns reasoning on, with `reasoning_request: thinking`"
    )
    thinking_budget: bool = option(
        True, help="accepts a budget of tokens, if `reasoning_request` supports one"
    )
    effort_with_thinking: bool = option(
        False, help="accepts `reasoning_effort` next to `thinking`, one of `effort_levels`"
    )
    effort_levels: tuple[str, ...] = option(
        ("low", "medium", "high"), help="the levels of effort it accepts, lowest first"
    )
    can_disable_reasoning: bool = option(
        True,
        help="accepts a request for no reasoning; false: it is not sent, and the model reasons",
    )
    tools_without_reasoning: bool = option(
        False, help="accepts tools only with `reasoning_effort: none`, which is then sent"
    )
    forced_tool_without_reasoning: bool = option(
        False, help="accepts a forced tool only with reasoning turned off, which is then sent"
    )
    reasoning_history: Literal[
        "none", "reasoning", "reasoning_content", "reasoning_text", "reasoning_details", "tags"
    ] = option("none", help="the member that returns earlier reasoning to it; tags: in the text")
    reasoning_placeholder: str = option(
        "", help="sent as the reasoning of calls that have none, if it refuses such calls"
    )
    thinking_needs_history: bool = option(
        False,
        help="accepts `thinking` after a tool result only with the reasoning before the call; "
        "without that, `thinking` is left out",
    )
    returned_call_members: tuple[str, ...] = option(
        ("extra_content",),
        help="members that it attaches to a call, returned to it with the call",
        validator=checks.check_call_members,
    )
    returned_message_members: tuple[str, ...] = option(
        ("reasoning_details", "reasoning_opaque"),
        help="the same for a message with calls",
        validator=checks.check_message_members,
    )
    returned_content: tuple[str, ...] = option(
        ("reasoning",), help="types of content items that are returned to it, next to the text"
    )
    default_call_members: dict[str, Any] = option(
        factory=dict,
        help="members of the first call of a message, if none of its calls has its own",
        validator=checks.check_call_members,
    )
    tool_use_id_limit: int = option(
        4096,
        help="characters of a client's tool_use id, which may contain such members; longer ones "
        "move to the signature of the thinking before it, or to a `redacted_thinking` block",
        validator=validators.ge(64),
    )
    tool_message_name: bool = option(False, help="needs the tool's name in its result")
    think_tags: bool = option(True, help="extract reasoning from `<think>` tags in the text")
    tool_name_limit: int = option(64, help="characters; longer names are shortened, and restored")
    tool_id_limit: int = option(64, help="characters; longer ids of tool calls are replaced")
    tool_id_length: int | None = option(
        None,
        help="replace ids of tool calls by this number of letters and digits",
        validator=validators.optional([validators.ge(8), validators.le(64)]),
    )
    unsupported_schema_keywords: tuple[str, ...] = option(
        ("$schema",),
        renamed_from="schema_without",
        help="JSON schema keywords it refuses, in tools and in the response format",
    )
    schema_refs: bool = option(
        True, help="accepts `$ref` in schemas; false: replace it by its target"
    )
    schema_types: Literal["list", "anyOf", "nullable"] = option(
        "list",
        help='how a schema names several types: `type: [string, "null"]`, or `anyOf`, or '
        "`nullable: true`, then also with `enum` for `const` and `anyOf` for `oneOf`",
    )
    typed_any_of: bool = option(
        False, help="needs `type` in the members of `anyOf`, and none next to it"
    )
    strict_needs_closed_schema: bool = option(
        False,
        renamed_from="strict_needs_all",
        help="accepts `strict` only for schemas with all properties required and no others",
    )
    tokenizer: Literal["none", "llamacpp", "vllm", "sglang"] = option(
        "none", help="the server whose endpoint counts tokens; none: estimate"
    )
    remember_refusals: float = option(
        86_400.0,
        help="seconds for which a refused option is left out; 0: a refusal is final",
        validator=validators.ge(0),
    )
    price: tuple[Price, ...] = option((), help="one price, or a list", validator=check_prices)
    models: dict[str, Overrides] = option(
        factory=dict, help="keys that differ for models, by a pattern of the models' names"
    )


#: Keys whose entries are merged one by one.
_BY_ENTRY = ("fields", "body")


def merge_overrides(profile: Profile, overrides: Mapping[str, Any]) -> Profile:
    """Merge `overrides` into `profile`; `fields` and `body` by entry."""
    whole: dict[str, Any] = {
        name: {**getattr(profile, name), **value} if name in _BY_ENTRY else value
        for name, value in overrides.items()
    }
    return evolve(profile, **whole)


#: Keys of the session, which all models of a backend share.
CONNECTION_KEYS = frozenset(
    (
        "profile base_url api_key headers health connect_timeout embedded model_path "
        "max_concurrent_calls swaps_models models remember_refusals"
    ).split()
)


class _Shipped(Mapping[str, dict[str, Any]]):
    """The files of `profiles/shipped/`, each read at first use, which takes 5 ms."""

    def __init__(self, folder: Path) -> None:
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        self._files = {name: folder / f"{name}.yaml" for name in ("generic", *names)}
        self._read: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self._read:
            self._read[name] = dict(YAML(typ="safe", pure=True).load(self._files[name]))
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@functools.cache
def profiles() -> Mapping[str, dict[str, Any]]:
    """The shipped profiles by name, each with only its differences from `generic`."""
    return _Shipped(Path(__file__).with_name("shipped"))
