"""Normalises the conversation of a Messages request, before its turns are rendered.

The steps, in this order: system blocks within a turn become system messages; a compaction replaces
the turns before it; system messages that were cleared are dropped; the others are kept, become
tagged user messages, or join the system prompt, by the policy for `system_message`; each moves
after the tool results that follow it; neighbours of one role become one turn.

A backend with `hoist_system` gets the system messages in the system prompt. That moves them before
earlier turns and so spoils the backend's prefix cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import attrgetter, eq

from attrs import evolve, frozen

from stages.chat_completions.json_values import as_string
from stages.messages_api import request as m
from stages.profiles.profile import Profile
from stages.translation.content import render_text
from stages.translation.field_policies import FieldPolicies

_ROLE, _CONTENT = attrgetter("role"), attrgetter("content")
_SUMMARY_HEADER = "Summary of the conversation until here:"


@frozen
class History:
    """A conversation whose turns only have to be rendered, one after the other.

    `system` is the system prompt. A turn is a message, or neighbouring messages of one role, which
    the Messages API takes for one turn. A `system` turn has text blocks only.
    """

    system: str
    turns: Sequence[m.Message]


def history(
    request: m.MessagesRequest, profile: Profile, fields: FieldPolicies, instruction: str = ""
) -> History:
    """Normalise the conversation. `instruction` is appended to the system prompt."""
    system = _system_texts(request.system)
    if isinstance(request.messages, m.Turns):
        return History(_system_prompt(system, fields, instruction), request.messages)
    if _is_plain(request.messages):
        return History(_system_prompt(system, fields, instruction), _turns(request.messages))
    messages: Sequence[m.Message] = tuple(_split_system_blocks(request.messages))
    messages = _drop_cleared(_apply_compaction(messages, fields))
    if profile.hoist_system and fields.policy("system_message") == "emulate":
        contents = (message.content for message in messages if message.role == "system")
        system += filter(None, (_text(content, fields) for content in contents))
        messages = [message for message in messages if message.role != "system"]
    prompt = _system_prompt(system, fields, instruction)
    rendered = (_render_system_message(message, fields) for message in messages)
    return History(prompt, _turns(_results_first(message for message in rendered if message)))


def _is_plain(messages: Iterable[m.Message]) -> bool:
    """Whether no step has anything to do, as in most conversations."""
    roles = set(map(_ROLE, messages))
    types = set(map(type, chain.from_iterable(map(_CONTENT, messages))))
    return "system" not in roles and types.isdisjoint(m.HISTORY_BLOCKS)


def _turns(messages: Iterable[m.Message]) -> Sequence[m.Message]:
    messages = tuple(messages)
    roles = list(map(_ROLE, messages))
    if not any(map(eq, roles, roles[1:])):
        return messages
    groups = (tuple(group) for _, group in groupby(messages, key=_ROLE))
    return [group[0] if len(group) == 1 else _merged(group) for group in groups]


def _merged(messages: Sequence[m.Message]) -> m.Message:
    return m.Message(messages[0].role, tuple(chain.from_iterable(map(_CONTENT, messages))))


def _split_system_blocks(messages: Iterable[m.Message]) -> Iterator[m.Message]:
    """Yield the messages, with each system block within a message as a message of its own."""
    for message in messages:
        if not any(isinstance(block, m.MidConvSystemBlock) for block in message.content):
            yield message
            continue
        for block in message.content:
            if isinstance(block, m.MidConvSystemBlock):
                yield m.Message("system", block.content)
            else:  # neighbours of one role become one turn again
                yield evolve(message, content=(block,))


def _apply_compaction(messages: Sequence[m.Message], fields: FieldPolicies) -> Sequence[m.Message]:
    """Return the messages from the last summary on, which becomes the user's.

    Without a readable summary, return all messages. The history is complete after a failed
    compaction, and where only Anthropic can read the summary, so nothing is lost.
    """
    places = [
        (n, k, block)
        for n, message in enumerate(messages)
        for k, block in enumerate(message.content)
        if isinstance(block, m.OtherBlock) and _summary(block)
    ]
    if not places or not fields.allows("compaction"):
        return messages
    n, k, block = places[-1]
    remaining = messages[n].content[k + 1 :]
    if block.fields.get("tool_changes"):
        fields.allows("unknown", "compaction.tool_changes")
    summary = m.Message("user", (m.TextBlock(f"{_SUMMARY_HEADER}\n\n{_summary(block)}"),))
    first = (evolve(messages[n], content=remaining),) if remaining else ()
    return (summary, *first, *messages[n + 1 :])


def _summary(block: m.OtherBlock) -> str:
    return as_string(block.fields.get("content")) if block.type == "compaction" else ""


def _drop_cleared(messages: Sequence[m.Message]) -> list[m.Message]:
    """Drop system messages that are valid up to the next user turn, if there is such a turn."""
    last = max((n for n, message in enumerate(messages) if message.role == "user"), default=0)
    return [
        message
        for n, message in enumerate(messages)
        if message.role != "system" or message.clear_at != "next_user_message" or n > last
    ]


def _system_texts(blocks: Iterable[m.Block]) -> list[str]:
    return [block.text for block in blocks if isinstance(block, m.TextBlock)]


def _system_prompt(texts: Iterable[str], fields: FieldPolicies, instruction: str) -> str:
    """Join the texts of the system prompt, without the attribution line of Claude Code.

    Older clients change that line with each request, which spoils every prefix cache.
    """
    kept = []
    for text in texts:
        if text.startswith(m.ATTRIBUTION) and not fields.allows("system.attribution"):
            text = text.partition("\n")[2]
        kept.append(text)
    return "\n\n".join(filter(str.strip, (*kept, instruction)))


def _render_system_message(message: m.Message, fields: FieldPolicies) -> m.Message | None:
    """Return a message as the backend takes it; None for a system message without text."""
    if message.role != "system":
        return message
    if not message.content:  # it only sets the effort
        return None
    text = _text(message.content, fields) if fields.allows("system_message") else ""
    if not text:
        return None
    if fields.policy("system_message") == "map":
        return evolve(message, content=(m.TextBlock(text),))
    text = f"<system-reminder>\n{text}\n</system-reminder>"
    return evolve(message, role="user", content=(m.TextBlock(text),))


def _text(blocks: Iterable[m.Block], fields: FieldPolicies) -> str:
    return "\n\n".join(filter(None, (render_text(block, fields) for block in blocks)))


def _results_first(messages: Iterable[m.Message]) -> Iterator[m.Message]:
    """Move system messages after tool results: nothing may be between a call and its result."""
    waiting: list[m.Message] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message)
            continue
        if not any(isinstance(block, m.ToolResultBlock) for block in message.content):
            yield from waiting
            waiting = []
        yield message
    yield from waiting
