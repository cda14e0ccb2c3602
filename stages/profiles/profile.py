"""What is known of a backend, as data: read by the translation, shipped in `profiles/`."""

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


def _merge_with_generic(fields: dict[str, Policy]) -> dict[str, Policy]:
    generic: dict[str, Policy] = profiles()["generic"]["fields"]
    return {**generic, **fields}


#: The names that the output limit has, on one backend or another.
OutputLimit = Literal["max_tokens", "max_completion_tokens"]
OUTPUT_LIMITS: tuple[OutputLimit, ...] = get_args(OutputLimit)

#: Keys of a profile with the values they have for some of its models.
Overrides = NewType("Overrides", dict[str, Any])


@frozen
class Profile:
    """One backend's ways. Each key can be set per backend, and most per model (`overrides`)."""

    base_url: str = option(help="where `/chat/completions` is below", validator=checks.check_url)
    profile: str = option("generic", help="the shipped profile it starts from")
    api_key: str = option("", help="sent as a bearer token", repr=False, validator=checks.check_key)
    headers: dict[str, str] = option(
        factory=dict, help="sent with each request", repr=False, validator=checks.check_headers
    )
    body: dict[str, Any] = option(
        factory=dict,
        help="members of each call, as `{provider: {sort: price}}`, unless the request says them",
        validator=checks.check_body,
    )
    health: str = option(
        "",
        help="a path to ask whether it is well, as `/health`, for /health/ready; true: `models`",
        validator=checks.check_health,
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
    stream: Literal["as-asked", "always"] = option(
        "as-asked", help="always: it answers only, or best, as a stream; clients still may not"
    )
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
    max_tools: int | None = option(
        None,
        help="how many tools it takes; those beyond are left out and reported",
        validator=validators.optional(validators.gt(0)),
    )
    tools_with_calls: bool = option(
        False, help="wants the tools declared where the conversation has calls"
    )
    assistant_first: bool = option(
        True, help="takes the assistant before any user; if not, a short user message goes first"
    )
    user_after_tool: bool = option(
        True,
        help="takes a user message behind a tool's result; else the assistant says a word. Without "
        "this and `assistant_first`, user and assistant alternate",
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
        converter=_merge_with_generic,
        validator=checks.check_fields,
    )
    forced_tool_prefill: str = option(
        "", help="begins the answer where a tool is required and the model would talk instead"
    )
    empty_tool_result: str = option("", help="stands for an empty tool result")
    null_content: bool = option(
        True, help="takes `content: null` next to calls; false: an empty text is sent"
    )
    split_tool_results: bool = option(
        False, help="wants each tool result right behind a message with only its call"
    )
    prefill_options: dict[str, Any] = option(
        factory=dict, help="sent when the conversation ends with the begun answer"
    )
    prefill_member: str = option(
        "",
        help="the member that marks the begun answer, with the value true, as `prefix`",
        validator=validators.not_(validators.in_(("role", "content", "tool_calls"))),
    )
    repeats_prefill: bool = option(
        False, help="begins a whole answer (not a stream) with the begun answer once more"
    )
    reasoning_request: Literal["none", "effort", "reasoning", "template", "switch", "thinking"] = (
        option("none", help="how to ask for reasoning; see stages/translation/reasoning_options.py")
    )
    reasoning_switch: str = option(
        "enable_thinking",
        help="what `template` and `switch` call the switch for reasoning",
        validator=validators.min_len(1),
    )
    thinking_type: Literal["enabled", "adaptive"] = option(
        "enabled", help="what turns reasoning on, with `reasoning_request: thinking`"
    )
    thinking_budget: bool = option(
        True,
        help="takes a budget of tokens, where the way to ask for reasoning can have one",
    )
    effort_with_thinking: bool = option(
        False, help="takes `reasoning_effort` next to `thinking`, one of `effort_levels`"
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
    reasoning_history: Literal[
        "none", "reasoning", "reasoning_content", "reasoning_text", "reasoning_details", "tags"
    ] = option("none", help="the field in which reasoning goes back to it; tags: in the text")
    reasoning_placeholder: str = option(
        "", help="goes back where a message with calls has no reasoning, and it refuses that"
    )
    thinking_needs_history: bool = option(
        False,
        help="takes `thinking` after the result of a tool only if the reasoning before the call "
        "goes back with it; if not, `thinking` is left out",
    )
    returned_call_members: tuple[str, ...] = option(
        ("extra_content",),
        help="members that it attaches to a call, and gets back with it",
        validator=checks.check_call_members,
    )
    returned_message_members: tuple[str, ...] = option(
        ("reasoning_details", "reasoning_opaque"),
        help="the same for an answer that has calls",
        validator=checks.check_message_members,
    )
    returned_content: tuple[str, ...] = option(
        ("reasoning",), help="types of items of its content that it gets back, next to the text"
    )
    default_call_members: dict[str, Any] = option(
        factory=dict,
        help="members of the first call of a message, where none of its calls has its own",
        validator=checks.check_call_members,
    )
    tool_use_id_limit: int = option(
        4096,
        help="characters of an id for the client, which may hold such members; longer ones are in "
        "the signature of the thinking before it, or in a block `redacted_thinking`",
        validator=validators.ge(64),
    )
    tool_message_name: bool = option(False, help="wants the tool's name in its result")
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
    schema_refs: bool = option(
        True, help="takes `$ref` in schemas; false: what it refers to is written in its place"
    )
    schema_types: Literal["list", "anyOf", "nullable"] = option(
        "list",
        help='how a schema says several types: `type: [string, "null"]`, or `anyOf`, or '
        "`nullable: true`, then also with `enum` for `const` and `anyOf` for `oneOf`",
    )
    typed_any_of: bool = option(
        False, help="wants `type` in the members of `anyOf`, and none next to it"
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


def merge_overrides(profile: Profile, overrides: Mapping[str, Any]) -> Profile:
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


class _Shipped(Mapping[str, dict[str, Any]]):
    """The files of `profiles/`, each read when it is first wanted: to read one takes 5 ms."""

    def __init__(self, folder: Path) -> None:
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        self._files = {name: folder / f"{name}.yaml" for name in ("generic", *names)}
        self._read: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self._read:
            data = YAML(typ="safe", pure=True).load(self._files[name])
            self._read[name] = dict(data)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@functools.cache
def profiles() -> Mapping[str, dict[str, Any]]:
    """The profiles that ship, by name: only the keys in which each differs from `generic`."""
    return _Shipped(Path(__file__).with_name("shipped"))
