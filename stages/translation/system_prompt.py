"""The system prompt, and system messages between the turns.

Where a backend takes no system message between turns, it becomes a tagged user message in its
place; or it joins the system prompt, which moves it before what was said and so spoils the
backend's prefix cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve

from stages.messages_api import request as m
from stages.translation.content import render_text
from stages.translation.field_policies import FieldPolicies
from stages.translation.structured_output import form_instruction


def system_prompt(request: m.MessagesRequest, fields: FieldPolicies) -> str:
    """The system prompt; without the attribution line of Claude Code, unless that is kept.

    That line changes with each request in older clients and so spoils every prefix cache.
    """
    texts = []
    for text in (block.text for block in request.system if isinstance(block, m.TextBlock)):
        if text.startswith(m.ATTRIBUTION) and not fields.allows("system.attribution"):
            text = text.partition("\n")[2]
        texts.append(text)
    texts.append(form_instruction(request, fields))
    return "\n\n".join(filter(str.strip, texts))


def split_system_blocks(messages: Iterable[m.Message]) -> Iterator[m.Message]:
    """The messages, with system blocks that stand inside of one as messages in their place."""
    for message in messages:
        if not any(isinstance(block, m.MidConvSystemBlock) for block in message.content):
            yield message
            continue
        for block in message.content:
            if isinstance(block, m.MidConvSystemBlock):
                yield m.Message("system", block.content)
            else:  # neighbours of one role are one turn again
                yield evolve(message, content=(block,))


def hoist_system(request: m.MessagesRequest, fields: FieldPolicies) -> m.MessagesRequest:
    """The request with its system messages, where they are emulated, in the system prompt."""
    if fields.policy("system_message") != "emulate":
        return request
    said = (each for each in drop_cleared(request.messages) if each.role == "system")
    texts = (_text(each.content, fields) for each in said)
    blocks = (m.TextBlock(text) for text in texts if text)
    rest = tuple(message for message in request.messages if message.role != "system")
    return evolve(request, system=(*request.system, *blocks), messages=rest)


def drop_cleared(messages: Sequence[m.Message]) -> list[m.Message]:
    """The messages without those that were for one user turn, where a later one is there."""
    last = max((n for n, each in enumerate(messages) if each.role == "user"), default=0)
    return [
        message
        for n, message in enumerate(messages)
        if message.role != "system" or message.clear_at != "next_user_message" or n > last
    ]


def render_system_message(message: m.Message, fields: FieldPolicies) -> m.Message | None:
    """A message as the backend takes it; None for a system message of which nothing is left."""
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
