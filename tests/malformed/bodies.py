"""Parts of request bodies, to build malformed ones from."""

from __future__ import annotations

import base64
import json
from typing import Any

SCHEMA = {"type": "object", "properties": {}}
TOOL = {"name": "f", "input_schema": SCHEMA}
IMAGE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
FORM = {"type": "json_schema", "schema": SCHEMA}
CITED = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "a"},
    "citations": {"enabled": True},
}
NOT_JSON = "the body is not valid JSON: "
FIRST = "messages.0.content.0"


def body(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "model": "claude-test",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    return {**whole, **changes}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in body().items() if name not in names}


def turns(*messages: Any) -> dict[str, Any]:
    return body(messages=list(messages))


def user(content: Any) -> dict[str, Any]:
    return turns({"role": "user", "content": content})


def blocks(*blocks: Any) -> dict[str, Any]:
    return user(list(blocks))


def assistant(*blocks: Any) -> dict[str, Any]:
    return turns(
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": list(blocks)}
    )


def image(**source: Any) -> dict[str, Any]:
    return blocks({"type": "image", "source": {**IMAGE, **source}})


def document(source: Any, **members: Any) -> dict[str, Any]:
    return blocks({"type": "document", "source": source, **members})


def result(*content: Any) -> dict[str, Any]:
    return blocks({"type": "tool_result", "tool_use_id": "a", "content": list(content)})


def tool(**changes: Any) -> dict[str, Any]:
    return body(tools=[{**TOOL, **changes}])


def choice(choice: Any, *tools: Any) -> dict[str, Any]:
    return body(tools=list(tools or [TOOL]), tool_choice=choice)


def thinking(**thinking: Any) -> dict[str, Any]:
    return body(max_tokens=4096, thinking=thinking)


def nested(levels: int) -> bytes:
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    return json.dumps(body(metadata=0)).encode().replace(b"0}", deep + b"}")


def with_member(member: bytes) -> bytes:
    """A right body, and one more member, verbatim."""
    return json.dumps(body()).encode()[:-1] + b"," + member + b"}"


NOT_UTF8 = json.dumps(body(model="?")).encode().replace(b"?", b"\xff\xfe")
OK = json.dumps(body())

# The pictures have to be whole, or the rows would test something else.
for _source in (IMAGE, PDF):
    base64.b64decode(_source["data"], validate=True)
