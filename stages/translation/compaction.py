"""A conversation that was compacted: a block with a summary stands for all that was before it."""

from __future__ import annotations

from attrs import evolve

from stages.chat_completions.json_values import as_string
from stages.messages_api import request as m
from stages.translation.field_policies import FieldPolicies

_HEADER = "Summary of the conversation until here:"


def apply_compaction(
    messages: tuple[m.Message, ...], fields: FieldPolicies
) -> tuple[m.Message, ...]:
    """The messages from the last summary on, which is the user's; all, where none can be read.

    Of one that only Anthropic can read, and of a compaction that failed, nothing is lost: then
    the history is still there.
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
    rest = messages[n].content[k + 1 :]
    if block.fields.get("tool_changes"):
        fields.allows("unknown", "compaction.tool_changes")
    summary = m.Message("user", (m.TextBlock(f"{_HEADER}\n\n{_summary(block)}"),))
    begun = (evolve(messages[n], content=rest),) if rest else ()
    return (summary, *begun, *messages[n + 1 :])


def _summary(block: m.OtherBlock) -> str:
    return as_string(block.fields.get("content")) if block.type == "compaction" else ""
