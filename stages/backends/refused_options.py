"""Recognise options that a backend refuses and a request can do without.

After a 400 that names such an option, the request is sent again without it, and later requests to
that model leave it out. Leaving out an option is always a change of the profile, so the translation
does the rest: it uses an alternative if there is one, and reports what is lost.

    refused                              the profile from then on
    ----------------------------------   ----------------------------------------------------------
    a level of effort                    `effort_levels`: those the backend lists
    reasoning with tools                 `tools_without_reasoning`
    reasoning with a forced tool         `forced_tool_without_reasoning`
    reasoning with a prefill             `prefill_options` that turn reasoning off
    a budget of thinking                 not `thinking_budget`, in this request
    reasoning                            no `reasoning_request`
    no reasoning                         not `can_disable_reasoning`
    a tool's name as `tool_choice`       not `named_tool_choice`
    `parallel_tool_calls`                never sent; only the first call is forwarded
    `stream_options`                     not `stream_options`; usage is estimated
    the name of the output limit         the other `max_tokens_field`
    temperature, top_p, top_k            the policy `warn`; a value out of range: in this request
    `safety_identifier`                  the policy `drop` for `metadata`
    a keyword of a tool's schema         in `unsupported_schema_keywords`

An error may name several options, or quote one from the request. They are tried one after another,
the likeliest first. Options that promise something to the client are never left out: `strict`, the
response format, a forced tool.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import Factory, define, field, frozen

from stages.profiles.profile import OUTPUT_LIMITS, Profile

Overrides = Mapping[str, Any]
Options = Mapping[str, Any]

#: Characters of an error that are read: backends name the option at its beginning.
_MAX_CHARACTERS = 600
#: Clients may use any model name, so the least recently used is dropped.
_MODELS = 100
_REFUSAL = re.compile(
    r"not (supported?|permitted|allowed|valid|a valid)|(does|do|did) not|unsupported|unknown"
    r"|unrecogni[sz]ed|unexpected|extra (inputs|fields)|invalid|deprecated|mandatory|cannot"
    r"|can't|incompatible|only\b.{0,40}\bsupport|supported|should be|must be",
    re.IGNORECASE,
)
# These errors are about the model's output, and quote it: another attempt may succeed.
_ABOUT_OUTPUT = re.compile("tool call validation|failed to call|failed_generation", re.IGNORECASE)
# A client could put an option's name into a URL, whose file it serves only at the second attempt.
_URL = re.compile(r"://\S*")
# These words precede the values that the backend accepts.
_LISTING = re.compile(r"\b(supported values|should be|must be|one of|expected)\b", re.IGNORECASE)
_LEVEL = re.compile(r"['\"`](none|minimal|low|medium|high|xhigh|max)['\"`]")
# These words are about a value, or about a combination of options: others would be accepted.
_RANGE = re.compile(
    r"\b(must|should) be\b|\bbetween\b|\bboth\b|\brange\b|\b(less|greater|more) than\b"
    r"|\bat (most|least)\b|\b(max|min)imum\b|[<>]=?",
    re.IGNORECASE,
)
_BUDGET = re.compile("budget", re.IGNORECASE)
_REASONING = ("reasoning", "thinking")
_BUDGETS = ("thinking_budget", "budget_tokens")
_EFFORT = ("reasoning_effort", "reasoningEffort")  # the second is xAI's: BerriAI/litellm#16265
# A schema without one of these accepts more values, never fewer.
_LOOSENING_KEYWORDS = (
    "$schema $id $comment additionalProperties default deprecated examples exclusiveMaximum "
    "exclusiveMinimum format maxItems maxLength maxProperties maximum minItems minLength "
    "minProperties minimum multipleOf pattern patternProperties propertyNames readOnly title "
    "uniqueItems writeOnly"
).split()


@frozen
class RefusedOption:
    """One refused option, and the overrides of a profile that leave it out.

    Not `lasting`: only the value was refused, so other requests may send the option.
    """

    option: str
    overrides: Overrides
    lasting: bool = True


def find_refused_options(
    message: str, options: Options, profile: Profile
) -> Iterator[RefusedOption]:
    """The options that a backend's 400 may be about, the likeliest first.

    `message` is the backend's own text, `options` are those of the refused call, translated by
    `profile`. Only options that were sent count.
    """
    words = _URL.sub("", message[:_MAX_CHARACTERS])
    if _REFUSAL.search(words) and not _ABOUT_OUTPUT.search(words):
        yield from _reasoning(words, options, profile)
        yield from _tools(words, options, profile)
        yield from _other_options(words, options, profile)
        yield from _schema_keywords(words, options, profile)


def _reasoning(words: str, options: Options, profile: Profile) -> Iterator[RefusedOption]:
    on = _reasoning_requested(options, profile)
    switch = profile.reasoning_switch
    if on is None or not _mentions(words, *_REASONING, *_EFFORT, *_BUDGETS, switch):
        if options.get("tools") and _mentions(words, *_EFFORT):
            yield _without_reasoning_for_tools(profile)  # the model reasons by default
        return
    listed = _LISTING.search(words)
    levels = tuple(dict.fromkeys(_LEVEL.findall(words, listed.end()))) if listed else ()
    if "reasoning_effort" in options and levels and options["reasoning_effort"] not in levels:
        yield RefusedOption("level of effort", {"effort_levels": levels})
    elif not on:
        yield RefusedOption("no reasoning", {"can_disable_reasoning": False})
    elif options.get("tools") and _mentions(words, "tools"):
        yield _without_reasoning_for_tools(profile)
    elif "tool_choice" in options and _mentions(words, "tool_choice"):
        yield RefusedOption("reasoning with a forced tool", {"forced_tool_without_reasoning": True})
    elif _mentions(words, "prefill"):
        yield _prefill(profile)
    else:
        if _BUDGET.search(words) and "thinking_budget" in options:
            yield RefusedOption("budget of thinking", {"thinking_budget": False}, lasting=False)
        without = {"thinking": "warn", "output_config.effort": "warn"}
        nothing = {"reasoning_request": "none", "fields": without}
        yield RefusedOption("reasoning", nothing, lasting=not _BUDGET.search(words))


def _without_reasoning_for_tools(profile: Profile) -> RefusedOption:
    overrides: dict[str, Any] = {"tools_without_reasoning": True}
    if profile.reasoning_request in ("none", "effort"):
        levels = (level for level in profile.effort_levels if level != "none")
        overrides |= {"reasoning_request": "effort", "effort_levels": ("none", *levels)}
    return RefusedOption("reasoning with tools", overrides)


def _reasoning_requested(options: Options, profile: Profile) -> bool | None:
    """Whether a call requests reasoning; None if it does not mention it."""
    switch_name = profile.reasoning_switch
    switch = options.get("chat_template_kwargs", {}).get(switch_name)
    if profile.reasoning_request == "switch":
        switch = options.get(switch_name)
    reasoning, thinking = options.get("reasoning"), options.get("thinking")
    requested = (
        options.get("reasoning_effort") and options["reasoning_effort"] != "none",
        reasoning.get("enabled", True) if isinstance(reasoning, dict) else None,
        thinking.get("type") != "disabled" if isinstance(thinking, dict) else None,
        switch,
    )
    mentioned = [value for value in requested if value is not None]
    return any(mentioned) if mentioned else None


def _prefill(profile: Profile) -> RefusedOption:
    kwargs = profile.prefill_options.get("chat_template_kwargs", {})
    off = {**kwargs, profile.reasoning_switch: False}
    overrides = {"prefill_options": {**profile.prefill_options, "chat_template_kwargs": off}}
    return RefusedOption("reasoning with a prefill", overrides)


def _tools(words: str, options: Options, profile: Profile) -> Iterator[RefusedOption]:
    choice = options.get("tool_choice")
    if (
        "tool_choice" in options
        and _mentions(words, "tool_choice")
        and _mentions(words, *_REASONING)
    ):
        overrides: dict[str, Any] = {"forced_tool_without_reasoning": True}  # it reasons by default
        if profile.reasoning_request == "none":
            overrides["reasoning_request"] = "thinking"
        yield RefusedOption("reasoning with a forced tool", overrides)
    elif isinstance(choice, dict) and _mentions(words, "tool_choice"):
        yield RefusedOption("named tool", {"named_tool_choice": False})
    if "parallel_tool_calls" in options and _mentions(words, "parallel_tool_calls"):
        only_first = {"disable_parallel_tool_use": "emulate"}
        never = {"parallel_tool_calls": "never", "fields": only_first}
        yield RefusedOption("parallel_tool_calls", never)


def _schema_keywords(words: str, options: Options, profile: Profile) -> Iterator[RefusedOption]:
    """Keywords of schemas. Many are also English words, so they come last."""
    tools = options.get("tools", ())
    if any(tool["function"].get("strict") for tool in tools):
        return
    for keyword in _LOOSENING_KEYWORDS:
        if keyword not in profile.unsupported_schema_keywords and _mentions(words, keyword):
            without = (*profile.unsupported_schema_keywords, keyword)
            if any(_has_key(tool["function"].get("parameters"), keyword) for tool in tools):
                yield RefusedOption(
                    f"schema keyword {keyword}", {"unsupported_schema_keywords": without}
                )


def _has_key(schema: Any, key: str) -> bool:
    """Whether `key` is a key anywhere in `schema`."""
    pending = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if key in value:
                return True
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return False


def _other_options(words: str, options: Options, profile: Profile) -> Iterator[RefusedOption]:
    if "stream_options" in options and _mentions(words, "stream_options", "include_usage"):
        yield RefusedOption("stream_options", {"stream_options": False})
    limit = profile.max_tokens_field
    if limit in options and _mentions(words, limit):
        (other,) = (name for name in OUTPUT_LIMITS if name != limit)
        if 0 <= words.find(limit) < words.find(other):
            yield RefusedOption(limit, {"max_tokens_field": other})
    for name in ("top_k", "top_p", "temperature"):
        if name in options and _mentions(words, name):
            yield RefusedOption(name, {"fields": {name: "warn"}}, lasting=not _RANGE.search(words))
    if "safety_identifier" in options and _mentions(words, "safety_identifier"):
        yield RefusedOption("safety_identifier", {"fields": {"metadata": "drop"}})


def _mentions(words: str, *names: str) -> bool:
    """Whether one of `names` is in `words` as a whole word."""
    matches = (
        re.search(rf"(?<![\w$]){re.escape(name)}(?!\w)", words, re.IGNORECASE) for name in names
    )
    return any(matches)


@define
class RefusedOptions:
    """The options that each model of one backend has refused, for `seconds` each."""

    seconds: float
    by_model: OrderedDict[str, dict[str, tuple[Overrides, float]]] = field(
        default=Factory(OrderedDict), init=False
    )
    """By model, then by option: the overrides, and the time when they expire."""

    def learn(self, model: str, refused: RefusedOption, now: float) -> None:
        """Remember a refused option. `now` is in seconds, of any monotonic clock."""
        options = self.by_model.setdefault(model, {})
        options[refused.option] = (refused.overrides, now + self.seconds)
        self.by_model.move_to_end(model)
        if len(self.by_model) > _MODELS:
            self.by_model.popitem(last=False)

    def overrides_for(self, model: str, now: float) -> tuple[Overrides, ...]:
        """The overrides for the options that `model` refuses, in the order they were learned."""
        options = self.by_model.get(model)
        if options is None:
            return ()
        for option in [option for option, (_, until) in options.items() if until <= now]:
            del options[option]
        if not options:
            del self.by_model[model]
        return tuple(overrides for overrides, _ in options.values())
