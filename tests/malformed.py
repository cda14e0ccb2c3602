"""Bodies of `POST /v1/messages` that are refused, and how.

Used on the stage alone and over real sockets, so each row is decided before any backend is
asked: (name, body, status, error type, how the message starts).
"""

from __future__ import annotations

import base64
import json
from typing import Any

_SCHEMA = {"type": "object", "properties": {}}
_TOOL = {"name": "f", "input_schema": _SCHEMA}
_IMAGE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
_PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
_FORM = {"type": "json_schema", "schema": _SCHEMA}
_CITED = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "a"},
    "citations": {"enabled": True},
}
_NOT_JSON = "the body is not valid JSON: "
_FIRST = "messages.0.content.0"


def _body(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "model": "claude-test",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    return {**whole, **changes}


def _without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in _body().items() if name not in names}


def _turns(*messages: Any) -> dict[str, Any]:
    return _body(messages=list(messages))


def _user(content: Any) -> dict[str, Any]:
    return _turns({"role": "user", "content": content})


def _blocks(*blocks: Any) -> dict[str, Any]:
    return _user(list(blocks))


def _assistant(*blocks: Any) -> dict[str, Any]:
    return _turns(
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": list(blocks)}
    )


def _image(**source: Any) -> dict[str, Any]:
    return _blocks({"type": "image", "source": {**_IMAGE, **source}})


def _document(source: Any, **members: Any) -> dict[str, Any]:
    return _blocks({"type": "document", "source": source, **members})


def _result(*content: Any) -> dict[str, Any]:
    return _blocks({"type": "tool_result", "tool_use_id": "a", "content": list(content)})


def _tool(**changes: Any) -> dict[str, Any]:
    return _body(tools=[{**_TOOL, **changes}])


def _choice(choice: Any, *tools: Any) -> dict[str, Any]:
    return _body(tools=list(tools or [_TOOL]), tool_choice=choice)


def _thinking(**thinking: Any) -> dict[str, Any]:
    return _body(max_tokens=4096, thinking=thinking)


def _nested(levels: int) -> bytes:
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    return json.dumps(_body(metadata=0)).encode().replace(b"0}", deep + b"}")


def _with(member: bytes) -> bytes:
    """A right body, and one more member, verbatim."""
    return json.dumps(_body()).encode()[:-1] + b"," + member + b"}"


_NOT_UTF8 = json.dumps(_body(model="?")).encode().replace(b"?", b"\xff\xfe")
_OK = json.dumps(_body())

# Bodies that are no JSON in UTF-8.
_RAW: list[tuple[str, bytes, str]] = [
    ("no body", b"", _NOT_JSON + "EOF while parsing"),
    ("white space", b"  \n ", _NOT_JSON + "EOF while parsing"),
    ("a form", b"model=claude&max_tokens=1", _NOT_JSON + "expected value at line 1 column 1"),
    ("a body that breaks off", _OK.encode()[:40], _NOT_JSON + "EOF while parsing"),
    ("something after the body", _OK.encode() + b"{}", _NOT_JSON + "trailing characters"),
    ("bytes that are not UTF-8", _NOT_UTF8, _NOT_JSON + "invalid unicode code point"),
    ("Latin-1", '{"model":"é"}'.encode("latin-1"), _NOT_JSON + "invalid unicode code point"),
    ("UTF-16", _OK.encode("utf-16"), _NOT_JSON + "expected value"),
    ("UTF-16 without a mark", _OK.encode("utf-16-le"), _NOT_JSON),
    ("UTF-32", _OK.encode("utf-32"), _NOT_JSON + "expected value"),
    ("a byte order mark", b"\xef\xbb\xbf" + _OK.encode(), _NOT_JSON + "expected value"),
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", _NOT_JSON + "expected value"),
    ("a NUL before the body", b"\x00" + _OK.encode(), _NOT_JSON + "expected value"),
    ("a NUL after the body", _OK.encode() + b"\x00", _NOT_JSON + "trailing characters"),
    ("a NUL in a string", _with(b'"a":"\x00"'), _NOT_JSON + "control character"),
    ("a lone surrogate", _with(b'"a":"\\ud800"'), _NOT_JSON),
    ("a surrogate in UTF-8", _with(b'"a":"\xed\xa0\x80"'), _NOT_JSON),
    ("a trailing comma", b'{"model":"m",}', _NOT_JSON + "trailing comma"),
    ("single quotes", b"{'model':'m'}", _NOT_JSON + "key must be a string"),
    ("a duplicate key and NaN", b'{"a":1,"a":2,"b":NaN}', _NOT_JSON + "expected value"),
    ("NaN", _with(b'"temperature":NaN'), _NOT_JSON + "expected value"),
    ("Infinity", _with(b'"temperature":Infinity'), _NOT_JSON + "expected value"),
    ("a number too large for a double", _with(b'"temperature":1e400'), _NOT_JSON + "number out of"),
    ("the same in a schema", _with(b'"tools":[{"a":-1e400}]'), _NOT_JSON + "number out of range"),
    ("the same without an exponent", _with(b'"a":' + b"9" * 400 + b".0"), _NOT_JSON + "number out"),
    ("an integer of 5000 digits", _with(b'"a":' + b"9" * 5000), _NOT_JSON + "number out of range"),
    ("300 levels of objects", _nested(300), _NOT_JSON + "recursion limit exceeded"),
    ("100,000 open lists", b"[" * 100_000, _NOT_JSON + "recursion limit exceeded"),
]

# Bodies that are JSON, but no request.
_JSON: list[tuple[str, Any, str]] = [
    ("null", None, "Input should be an object"),
    ("a list", [_body()], "Input should be an object"),
    ("a string", _OK, "Input should be an object"),
    ("a number", 17, "Input should be an object"),
    ("true", True, "Input should be an object"),
    ("an empty object", {}, "max_tokens: Field required; model: Field required; messages: Field"),
    # Parameters
    ("no model", _without("model"), "model: Field required"),
    ("no max_tokens", _without("max_tokens"), "max_tokens: Field required"),
    ("no messages", _without("messages"), "messages: Field required"),
    ("a null model", _body(model=None), "model: Field required"),
    ("a null max_tokens", _body(max_tokens=None), "max_tokens: Field required"),
    ("a number as model", _body(model=3), "model: Input should be a valid string"),
    ("an empty model", _body(model=" "), "model: String should have at least 1 character"),
    ("max_tokens as text", _body(max_tokens="100"), "max_tokens: Input should be a valid integer"),
    (
        "max_tokens with a fraction",
        _body(max_tokens=1.0),
        "max_tokens: Input should be a valid int",
    ),
    ("max_tokens true", _body(max_tokens=True), "max_tokens: Input should be a valid integer"),
    ("negative max_tokens", _body(max_tokens=-1), "max_tokens: Input should be greater than or"),
    (
        "max_tokens 0 of a stream",
        _body(max_tokens=0, stream=True),
        "max_tokens: 0 cannot be used with `stream`",
    ),
    (
        "max_tokens 0 with thinking",
        _body(max_tokens=0, thinking={"type": "enabled", "budget_tokens": 1024}),
        "max_tokens: 0 cannot be used with `thinking`",
    ),
    (
        "max_tokens 0 with a form",
        _body(max_tokens=0, output_config={"format": {"type": "json_schema", "schema": {}}}),
        "max_tokens: 0 cannot be used with `output_config.format`",
    ),
    (
        "max_tokens 0 with a form said as older clients do",
        _body(max_tokens=0, output_format={"type": "json_schema", "schema": {}}),
        "max_tokens: 0 cannot be used with `output_config.format`",
    ),
    (
        "max_tokens 0 with a tool that has to be called",
        _body(
            max_tokens=0,
            tools=[{"name": "f", "input_schema": {"type": "object"}}],
            tool_choice={"type": "any"},
        ),
        "max_tokens: 0 cannot be used with `tool_choice`",
    ),
    ("stream as text", _body(stream="true"), "stream: Input should be a valid boolean"),
    ("stream 1", _body(stream=1), "stream: Input should be a valid boolean"),
    ("temperature as text", _body(temperature="1"), "temperature: Input should be a valid number"),
    ("temperature true", _body(temperature=True), "temperature: Input should be a valid number"),
    ("temperature 1.1", _body(temperature=1.1), "temperature: Input should be between 0 and 1"),
    ("temperature below 0", _body(temperature=-0.1), "temperature: Input should be between 0 and"),
    ("top_p 2", _body(top_p=2), "top_p: Input should be between 0 and 1"),
    ("a list as top_p", _body(top_p=[1]), "top_p: Input should be a valid number"),
    ("negative top_k", _body(top_k=-1), "top_k: Input should be greater than or equal to 0"),
    ("top_k with a fraction", _body(top_k=1.5), "top_k: Input should be a valid integer"),
    (
        "one stop sequence",
        _body(stop_sequences="END"),
        "stop_sequences: Input should be a valid list",
    ),
    (
        "a null stop sequence",
        _body(stop_sequences=["a", None]),
        "stop_sequences.1: Input should be",
    ),
    ("a blank stop sequence", _body(stop_sequences=["\n"]), "stop_sequences: each stop sequence"),
    (
        "stop sequences of 10,001 characters",
        _body(stop_sequences=["a" * 5_000, "b" * 5_001]),
        "stop_sequences: all of them should have at most 10000 characters together",
    ),
    ("a thread", _body(thread={"type": "create"}), "thread: this server keeps no conversations"),
    (
        "an object as system",
        _body(system={"type": "text"}),
        "system: Input should be a valid string or",
    ),
    (
        "an image as system",
        _body(system=[{"type": "image", "source": _IMAGE}]),
        "system.0: only text",
    ),
    (
        "a system block without text",
        _body(system=[{"type": "text"}]),
        "system.0.text: Field required",
    ),
    (
        "an unknown system block",
        _body(system=[{"type": "poem"}]),
        "system.0: only text blocks are allowed",
    ),
    # Turns
    ("an object as messages", _body(messages={}), "messages: Input should be a valid list"),
    ("no turn", _body(messages=[]), "messages: at least one message is required"),
    ("a string as a turn", _turns("Hello"), "messages.0: Input should be an object"),
    ("a turn without a role", _turns({"content": "Hello"}), "messages.0.role: Field required"),
    ("a turn without content", _turns({"role": "user"}), "messages.0.content: Field required"),
    (
        "an unknown role",
        _turns({"role": "tool", "content": "a"}),
        "messages.0.role: Input should be 'u",
    ),
    (
        "a list as role",
        _turns({"role": ["user"], "content": "a"}),
        "messages.0.role: Input should be",
    ),
    (
        "the system first",
        _turns({"role": "system", "content": "a"}),
        "messages: first message must use",
    ),
    (
        "a number as content",
        _user(7),
        "messages.0.content: Input should be a valid string or a list",
    ),
    (
        "an object as content",
        _user({"type": "text"}),
        "messages.0.content: Input should be a valid",
    ),
    ("an empty string", _user(""), "messages.0: all messages must have non-empty content except"),
    ("an empty list", _user([]), "messages.0: all messages must have non-empty content except"),
    # Blocks
    ("a string as a block", _blocks("Hello"), f"{_FIRST}: Input should be an object"),
    ("a null block", _blocks(None), f"{_FIRST}: Input should be an object"),
    (
        "a block without a type",
        _blocks({"text": "a"}),
        f"{_FIRST}: an object with a 'type' is required",
    ),
    (
        "a number as type",
        _blocks({"type": 1}),
        f"{_FIRST}: an object with a 'type' is required here",
    ),
    (
        "an unknown block",
        _blocks({"type": "poem"}),
        f"{_FIRST}: Input tag 'poem' found using 'type'",
    ),
    (
        "an empty text block",
        _blocks({"type": "text", "text": ""}),
        f"{_FIRST}.text: text content blocks",
    ),
    (
        "a number as text",
        _blocks({"type": "text", "text": 1}),
        f"{_FIRST}.text: Input should be a valid",
    ),
    (
        "thinking of the user",
        _blocks({"type": "thinking", "thinking": "a"}),
        f"{_FIRST}: this block is only allowed in an assistant message",
    ),
    (
        "a call of the user",
        _blocks({"type": "tool_use", "id": "a", "name": "f", "input": {}}),
        f"{_FIRST}: this block is only allowed in an assistant message",
    ),
    (
        "a call with text as input",
        _assistant({"type": "tool_use", "id": "a", "name": "f", "input": "{}"}),
        "messages.1.content.0.input: Input should be an object",
    ),
    (
        "a call without an id",
        _assistant({"type": "tool_use", "name": "f", "input": {}}),
        "messages.1.content.0.id: Field required",
    ),
    (
        "an image of the assistant",
        _assistant({"type": "image", "source": _IMAGE}),
        "messages.1.content.0: this block is only allowed in a user message",
    ),
    (
        "a result of the assistant",
        _assistant({"type": "tool_result", "tool_use_id": "a"}),
        "messages.1.content.0: this block is only allowed in a user message",
    ),
    (
        "an image of the system",
        _turns(
            {"role": "user", "content": "Hello"},
            {"role": "system", "content": [{"type": "image", "source": _IMAGE}]},
        ),
        "messages.1.content.0: only text blocks are allowed in a system message",
    ),
    # Sources
    ("an image without a source", _blocks({"type": "image"}), f"{_FIRST}.source: Field required"),
    (
        "a string as source",
        _blocks({"type": "image", "source": "x"}),
        f"{_FIRST}.source: Input should be",
    ),
    (
        "an unknown source",
        _image(type="ftp"),
        f"{_FIRST}.source: Input tag 'ftp' found using 'type'",
    ),
    (
        "text as an image",
        _image(type="text"),
        f"{_FIRST}.source: Input tag 'text' found using 'type'",
    ),
    ("a source without data", _image(data=None), f"{_FIRST}.source.data: Field required"),
    (
        "a TIFF",
        _image(media_type="image/tiff"),
        f"{_FIRST}.source.media_type: Input should be 'image/j",
    ),
    (
        "base64 of odd length",
        _image(data="abc"),
        f"{_FIRST}.source.data: Input should be valid base64",
    ),
    (
        "no base64 at all",
        _image(data="a b="),
        f"{_FIRST}.source.data: Input should be valid base64",
    ),
    ("empty base64", _image(data=""), f"{_FIRST}.source.data: Input should be valid base64"),
    (
        "base64 with line breaks",
        _image(data="QUJD\nQUJ"),
        f"{_FIRST}.source.data: Input should be valid",
    ),
    (
        "base64 for URLs",
        _image(data="QUJ-_A=="),
        f"{_FIRST}.source.data: Input should be valid base64",
    ),
    (
        "a data URL",
        _image(data="data:image/png;base64,QUJD"),
        f"{_FIRST}.source.data: Input should be",
    ),
    (
        "an image that is a local file",
        _blocks({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}),
        f"{_FIRST}.source.url: Input should be an http or https URL",
    ),
    (
        "an image as a PDF",
        _document(_IMAGE),
        f"{_FIRST}.source.media_type: Input should be 'applicatio",
    ),
    (
        "a broken PDF",
        _document({**_PDF, "data": "%"}),
        f"{_FIRST}.source.data: Input should be valid b",
    ),
    (
        "a number as title",
        _document(_PDF, title=1),
        f"{_FIRST}.title: Input should be a valid string",
    ),
    (
        "a document in a document",
        _document({"type": "content", "content": [{"type": "document", "source": _PDF}]}),
        f"{_FIRST}.source.content.0: only text and image blocks are allowed here",
    ),
    (
        "a broken image in a document",
        _document(
            {"type": "content", "content": [{"type": "image", "source": {**_IMAGE, "data": "?"}}]}
        ),
        f"{_FIRST}.source.content.0.source.data: Input should be valid base64",
    ),
    (
        "an image in a search result",
        _blocks(
            {
                "type": "search_result",
                "source": "s",
                "title": "t",
                "content": [{"type": "text", "text": "a"}, {"type": "image", "source": _IMAGE}],
            }
        ),
        f"{_FIRST}.content.1: only text blocks are allowed here",
    ),
    # Tool results
    (
        "a result without an id",
        _blocks({"type": "tool_result"}),
        f"{_FIRST}.tool_use_id: Field required",
    ),
    (
        "a result in a result",
        _result({"type": "tool_result", "tool_use_id": "b"}),
        f"{_FIRST}.content.0: I",
    ),
    (
        "an unknown block in a result",
        _result({"type": "poem"}),
        f"{_FIRST}.content.0: Input tag 'poem'",
    ),
    (
        "a broken image in a result",
        _result(
            {"type": "text", "text": "a"}, {"type": "image", "source": {**_IMAGE, "data": "!"}}
        ),
        f"{_FIRST}.content.1.source.data: Input should be valid base64",
    ),
    (
        "a text as is_error",
        _blocks({"type": "tool_result", "tool_use_id": "a", "is_error": "no"}),
        f"{_FIRST}.is_error: Input should be a valid boolean",
    ),
    # Tools
    ("an object as tools", _body(tools={}), "tools: Input should be a valid list"),
    ("a string as a tool", _body(tools=["f"]), "tools.0: Input should be an object"),
    (
        "a tool without a name",
        _body(tools=[{"input_schema": _SCHEMA}]),
        "tools.0.name: String should",
    ),
    ("a tool's name with a dot", _tool(name="a.b"), "tools.0.name: String should match pattern"),
    (
        "a tool's name of 129 letters",
        _tool(name="a" * 129),
        "tools.0.name: String should match pattern",
    ),
    (
        "a tool's name with a line break",
        _tool(name="f\n"),
        "tools.0.name: String should match pattern",
    ),
    ("a tool without a schema", _tool(input_schema=None), "tools.0.input_schema: Field required"),
    ("a list as schema", _tool(input_schema=[]), "tools.0.input_schema: Input should be an object"),
    (
        "a schema of an array",
        _tool(input_schema={"type": "array"}),
        "tools.0.input_schema.type: Input",
    ),
    (
        "a schema without a type",
        _tool(input_schema={}),
        "tools.0.input_schema.type: Input should be 'o",
    ),
    (
        "a number as description",
        _tool(description=5),
        "tools.0.description: Input should be a valid",
    ),
    ("two tools of one name", _body(tools=[_TOOL, _TOOL]), "tools: Tool names must be unique."),
    (
        "a screen whose width is text",
        _body(
            tools=[{"type": "computer_20250124", "name": "computer", "display_width_px": "1024"}]
        ),
        "tools.0.display_width_px: Input should be a valid integer",
    ),
    ("a number as a tool's type", _body(tools=[{"type": 1}]), "tools.0.type: Input should be a va"),
    ("a text as strict", _tool(strict="yes"), "tools.0.strict: Input should be a valid boolean"),
    (
        "an example that is text",
        _tool(input_examples=["a"]),
        "tools.0.input_examples.0: Input should be an object",
    ),
    (
        "two tools of one name, one of them the API's own",
        _body(tools=[{"type": "bash_20250124", "name": "f"}, _TOOL]),
        "tools: Tool names must be unique.",
    ),
    # Tool choice
    ("a string as tool_choice", _choice("auto"), "tool_choice: Input should be an object"),
    (
        "an unknown tool_choice",
        _choice({"type": "some"}),
        "tool_choice.type: Input should be 'auto', 'any",
    ),
    ("a tool_choice without a type", _choice({"name": "f"}), "tool_choice.type: Field required"),
    (
        "a tool_choice without a name",
        _choice({"type": "tool"}),
        "tool_choice.name: there is no tool ''",
    ),
    (
        "another tool's name",
        _choice({"type": "tool", "name": "g"}),
        "tool_choice.name: there is no tool 'g'",
    ),
    (
        "a tool_choice without tools",
        _body(tool_choice={"type": "auto"}),
        "tool_choice: tool_choice may only be specified while providing tools.",
    ),
    (
        "a toolset's member as tool_choice",
        _choice({"type": "tool", "name": ""}, {"type": "computer_toolset_20260801"}),
        "tool_choice.name: there is no tool ''",
    ),
    *(
        (
            f"thinking with {choice} as tool_choice",
            _body(
                max_tokens=4096,
                thinking={"type": "enabled", "budget_tokens": 1024},
                tools=[_TOOL],
                tool_choice={"type": choice, "name": "f"},
            ),
            "Thinking may not be enabled when tool_choice forces tool use.",
        )
        for choice in ("any", "tool")
    ),
    # The form of the response
    (
        "a form with a begun answer",
        _body(
            output_config={"format": _FORM},
            messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        ),
        "output_config.format: cannot be combined with a prefilled assistant message",
    ),
    (
        "an old form with citations",
        _body(output_format=_FORM, messages=[{"role": "user", "content": [_CITED]}]),
        "output_config.format: cannot be combined with citations",
    ),
    (
        "a form with citations of a result",
        _body(
            output_config={"format": _FORM},
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "1", "content": [_CITED]}],
                }
            ],
        ),
        "output_config.format: cannot be combined with citations",
    ),
    ("another old form", _body(output_format={"type": "xml"}), "output_format.type: Input should"),
    # Thinking
    ("a string as thinking", _body(thinking="enabled"), "thinking: Input should be an object"),
    (
        "an unknown thinking",
        _thinking(type="deep"),
        "thinking.type: Input should be 'enabled', 'adaptive'",
    ),
    (
        "thinking without a budget",
        _thinking(type="enabled"),
        "thinking.enabled.budget_tokens: Field requ",
    ),
    (
        "a small budget",
        _thinking(type="enabled", budget_tokens=1023),
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    ),
    (
        "a budget as large as max_tokens",
        _thinking(type="enabled", budget_tokens=4096),
        "`max_tokens` must be greater than `thinking.budget_tokens`",
    ),
    (
        "a budget with a fraction",
        _thinking(type="enabled", budget_tokens=2048.5),
        "thinking.budget_tokens: Input should be a valid integer",
    ),
    # How to answer
    (
        "a text as output_config",
        _body(output_config="high"),
        "output_config: Input should be an object",
    ),
    (
        "an unknown effort",
        _body(output_config={"effort": "huge"}),
        "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
    ),
    (
        "an unknown format",
        _body(output_config={"format": {"type": "xml", "schema": {}}}),
        "output_config.format.type: Input should be 'json_schema'",
    ),
    (
        "a format without a schema",
        _body(output_config={"format": {"type": "json_schema"}}),
        "output_config.format.schema: Field required",
    ),
    ("a text as metadata", _body(metadata="me"), "metadata: Input should be an object"),
    (
        "a number as user_id",
        _body(metadata={"user_id": 7}),
        "metadata.user_id: Input should be a valid string",
    ),
    # Several at once
    (
        "two problems",
        _body(model=1, stream="no"),
        "model: Input should be a valid string; stream: Input should be a valid boolean",
    ),
    (
        "eight problems",
        _body(messages=[{"role": "user", "content": [{"type": "text", "text": ""}] * 8}]),
        "; ".join(
            f"messages.0.content.{n}.text: text content blocks must be non-empty" for n in range(5)
        )
        + "; and 3 more",
    ),
]

MALFORMED: list[tuple[str, bytes, int, str, str]] = [
    *((name, body, 400, "invalid_request_error", start) for name, body, start in _RAW),
    *(
        (name, json.dumps(value).encode(), 400, "invalid_request_error", start)
        for name, value, start in _JSON
    ),
]

# The pictures above have to be whole, or their rows would test something else.
for _source in (_IMAGE, _PDF):
    base64.b64decode(_source["data"], validate=True)
