"""Helpers of the tests of a translated conversation."""

from __future__ import annotations

from typing import Any

from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies
from tests.stages.translation.support import messages_of
from tests.support import profile, request

PNG = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
IMAGE = {"type": "image", "source": PNG}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def part(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(identity: str, name: str = "f", **value: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": value}


def result(identity: str, content: Any = None, **members: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": identity, **members}
    return block if content is None else {**block, "content": content}


def user(*content: Any) -> dict[str, Any]:
    """A turn of blocks; a lone string is the whole content."""
    whole: Any = list(content)
    if len(whole) == 1 and isinstance(whole[0], str):
        [whole] = whole
    return {"role": "user", "content": whole}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def system(words: str) -> dict[str, Any]:
    return {"role": "system", "content": words}


def call(identity: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(identity: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": content}


def both(turns: Any, options: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    result = request(messages=list(turns), system=options.pop("prompt", None))
    changed: Profile = profile(**options)
    fields = FieldPolicies(changed.fields)
    return messages_of(result, changed, fields), tuple(map(str, fields.degradations()))


def translated(*turns: Any, **options: Any) -> list[dict[str, Any]]:
    """The messages of a conversation, for the generic profile with the changes in `how`."""
    return both(turns, options)[0]


def noted(*turns: Any, **options: Any) -> tuple[str, ...]:
    """The degradations reported for a conversation."""
    return both(turns, options)[1]


# What cannot be expressed


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
