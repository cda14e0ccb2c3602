"""Bodies that are not JSON, and requests with malformed parameters, turns, blocks or sources."""

from __future__ import annotations

from typing import Any

from tests.malformed.bodies import (
    FIRST,
    FORM,
    IMAGE,
    NOT_JSON,
    NOT_UTF8,
    OK,
    PDF,
    TOOL,
    assistant,
    blocks,
    body,
    document,
    image,
    nested,
    turns,
    user,
    with_member,
    without,
)

# Bodies that are not JSON in UTF-8.
RAW: list[tuple[str, bytes, str]] = [
    ("no body", b"", "the body is empty"),
    ("white space", b"  \n ", "the body is empty"),
    ("a form", b"model=claude&max_tokens=1", NOT_JSON + "expected value at line 1 column 1"),
    ("a body that breaks off", OK.encode()[:40], NOT_JSON + "EOF while parsing"),
    ("something after the body", OK.encode() + b"{}", NOT_JSON + "trailing characters"),
    ("bytes that are not UTF-8", NOT_UTF8, NOT_JSON + "invalid unicode code point"),
    ("Latin-1", '{"model":"é"}'.encode("latin-1"), NOT_JSON + "invalid unicode code point"),
    ("UTF-16", OK.encode("utf-16"), NOT_JSON + "expected value"),
    ("UTF-16 without a mark", OK.encode("utf-16-le"), NOT_JSON),
    ("UTF-32", OK.encode("utf-32"), NOT_JSON + "expected value"),
    ("a byte order mark", b"\xef\xbb\xbf" + OK.encode(), NOT_JSON + "expected value"),
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", NOT_JSON + "expected value"),
    ("a NUL before the body", b"\x00" + OK.encode(), NOT_JSON + "expected value"),
    ("a NUL after the body", OK.encode() + b"\x00", NOT_JSON + "trailing characters"),
    ("a NUL in a string", with_member(b'"a":"\x00"'), NOT_JSON + "control character"),
    ("a lone surrogate", with_member(b'"a":"\\ud800"'), NOT_JSON),
    ("a surrogate in UTF-8", with_member(b'"a":"\xed\xa0\x80"'), NOT_JSON),
    ("a trailing comma", b'{"model":"m",}', NOT_JSON + "trailing comma"),
    ("single quotes", b"{'model':'m'}", NOT_JSON + "key must be a string"),
    ("a duplicate key and NaN", b'{"a":1,"a":2,"b":NaN}', NOT_JSON + "expected value"),
    ("NaN", with_member(b'"temperature":NaN'), NOT_JSON + "expected value"),
    ("Infinity", with_member(b'"temperature":Infinity'), NOT_JSON + "expected value"),
    *(
        (name, with_member(member), NOT_JSON + "number out of range")
        for name, member in (
            ("a number too large for a double", b'"temperature":1e400'),
            ("the same in a schema", b'"tools":[{"a":-1e400}]'),
            ("the same without an exponent", b'"a":' + b"9" * 400 + b".0"),
            ("an integer of 5000 digits", b'"a":' + b"9" * 5000),
        )
    ),
    ("300 levels of objects", nested(300), NOT_JSON + "recursion limit exceeded"),
    ("100,000 open lists", b"[" * 100_000, NOT_JSON + "recursion limit exceeded"),
]

# Bodies that are JSON, but not a request.
REQUESTS: list[tuple[str, Any, str]] = [
    ("null", None, "Input should be an object"),
    ("a list", [body()], "Input should be an object"),
    ("a string", OK, "Input should be an object"),
    ("a number", 17, "Input should be an object"),
    ("true", True, "Input should be an object"),
    ("an empty object", {}, "max_tokens: Field required; model: Field required; messages: Field"),
    # Parameters
    ("no model", without("model"), "model: Field required"),
    ("no max_tokens", without("max_tokens"), "max_tokens: Field required"),
    ("no messages", without("messages"), "messages: Field required"),
    ("a null model", body(model=None), "model: Field required"),
    ("a null max_tokens", body(max_tokens=None), "max_tokens: Field required"),
    ("a number as model", body(model=3), "model: Input should be a valid string"),
    ("an empty model", body(model=" "), "model: String should have at least 1 character"),
    ("max_tokens as text", body(max_tokens="100"), "max_tokens: Input should be a valid integer"),
    (
        "max_tokens with a fraction",
        body(max_tokens=1.0),
        "max_tokens: Input should be a valid int",
    ),
    ("max_tokens true", body(max_tokens=True), "max_tokens: Input should be a valid integer"),
    ("negative max_tokens", body(max_tokens=-1), "max_tokens: Input should be greater than or"),
    *(
        (
            f"max_tokens 0 with {name}",
            body(max_tokens=0, **members),
            f"max_tokens: 0 cannot be used with `{option}`",
        )
        for name, members, option in (
            ("a stream", {"stream": True}, "stream"),
            ("thinking", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
            ("a format", {"output_config": {"format": FORM}}, "output_config.format"),
            ("the format of older clients", {"output_format": FORM}, "output_config.format"),
            ("a forced tool", {"tools": [TOOL], "tool_choice": {"type": "any"}}, "tool_choice"),
        )
    ),
    ("stream as text", body(stream="true"), "stream: Input should be a valid boolean"),
    ("stream 1", body(stream=1), "stream: Input should be a valid boolean"),
    ("temperature as text", body(temperature="1"), "temperature: Input should be a valid number"),
    ("temperature true", body(temperature=True), "temperature: Input should be a valid number"),
    ("temperature 1.1", body(temperature=1.1), "temperature: Input should be between 0 and 1"),
    ("temperature below 0", body(temperature=-0.1), "temperature: Input should be between 0 and"),
    ("top_p 2", body(top_p=2), "top_p: Input should be between 0 and 1"),
    ("a list as top_p", body(top_p=[1]), "top_p: Input should be a valid number"),
    ("negative top_k", body(top_k=-1), "top_k: Input should be greater than or equal to 0"),
    ("top_k with a fraction", body(top_k=1.5), "top_k: Input should be a valid integer"),
    (
        "one stop sequence",
        body(stop_sequences="END"),
        "stop_sequences: Input should be a valid list",
    ),
    (
        "a null stop sequence",
        body(stop_sequences=["a", None]),
        "stop_sequences.1: Input should be",
    ),
    ("a blank stop sequence", body(stop_sequences=["\n"]), "stop_sequences: each stop sequence"),
    (
        "stop sequences of 10,001 characters",
        body(stop_sequences=["a" * 5_000, "b" * 5_001]),
        "stop_sequences: all of them should have at most 10000 characters together",
    ),
    ("a thread", body(thread={"type": "create"}), "thread: this server keeps no conversations"),
    (
        "an object as system",
        body(system={"type": "text"}),
        "system: Input should be a valid string or",
    ),
    (
        "an image as system",
        body(system=[{"type": "image", "source": IMAGE}]),
        "system.0: only text",
    ),
    (
        "a system block without text",
        body(system=[{"type": "text"}]),
        "system.0.text: Field required",
    ),
    (
        "an unknown system block",
        body(system=[{"type": "poem"}]),
        "system.0: only text blocks are allowed",
    ),
    # Turns
    ("an object as messages", body(messages={}), "messages: Input should be a valid list"),
    ("no turn", body(messages=[]), "messages: at least one message is required"),
    ("a string as a turn", turns("Hello"), "messages.0: Input should be an object"),
    ("a turn without a role", turns({"content": "Hello"}), "messages.0.role: Field required"),
    ("a turn without content", turns({"role": "user"}), "messages.0.content: Field required"),
    (
        "an unknown role",
        turns({"role": "tool", "content": "a"}),
        "messages.0.role: Input should be 'u",
    ),
    (
        "a list as role",
        turns({"role": ["user"], "content": "a"}),
        "messages.0.role: Input should be",
    ),
    (
        "the system first",
        turns({"role": "system", "content": "a"}),
        "messages: first message must use",
    ),
    (
        "a number as content",
        user(7),
        "messages.0.content: Input should be a valid string or a list",
    ),
    (
        "an object as content",
        user({"type": "text"}),
        "messages.0.content: Input should be a valid",
    ),
    ("an empty string", user(""), "messages.0: all messages must have non-empty content except"),
    ("an empty list", user([]), "messages.0: all messages must have non-empty content except"),
    # Blocks
    ("a string as a block", blocks("Hello"), f"{FIRST}: Input should be an object"),
    ("a null block", blocks(None), f"{FIRST}: Input should be an object"),
    (
        "a block without a type",
        blocks({"text": "a"}),
        f"{FIRST}: an object with a 'type' is required",
    ),
    (
        "a number as type",
        blocks({"type": 1}),
        f"{FIRST}: an object with a 'type' is required here",
    ),
    (
        "an unknown block",
        blocks({"type": "poem"}),
        f"{FIRST}: Input tag 'poem' found using 'type'",
    ),
    (
        "an empty text block",
        blocks({"type": "text", "text": ""}),
        f"{FIRST}.text: text content blocks",
    ),
    (
        "a number as text",
        blocks({"type": "text", "text": 1}),
        f"{FIRST}.text: Input should be a valid",
    ),
    (
        "thinking of the user",
        blocks({"type": "thinking", "thinking": "a"}),
        f"{FIRST}: this block is only allowed in an assistant message",
    ),
    (
        "a call of the user",
        blocks({"type": "tool_use", "id": "a", "name": "f", "input": {}}),
        f"{FIRST}: this block is only allowed in an assistant message",
    ),
    (
        "a call with text as input",
        assistant({"type": "tool_use", "id": "a", "name": "f", "input": "{}"}),
        "messages.1.content.0.input: Input should be an object",
    ),
    (
        "a call without an id",
        assistant({"type": "tool_use", "name": "f", "input": {}}),
        "messages.1.content.0.id: Field required",
    ),
    (
        "an image of the assistant",
        assistant({"type": "image", "source": IMAGE}),
        "messages.1.content.0: this block is only allowed in a user message",
    ),
    (
        "a result of the assistant",
        assistant({"type": "tool_result", "tool_use_id": "a"}),
        "messages.1.content.0: this block is only allowed in a user message",
    ),
    (
        "an image of the system",
        turns(
            {"role": "user", "content": "Hello"},
            {"role": "system", "content": [{"type": "image", "source": IMAGE}]},
        ),
        "messages.1.content.0: only text blocks are allowed in a system message",
    ),
    # Sources
    ("an image without a source", blocks({"type": "image"}), f"{FIRST}.source: Field required"),
    (
        "a string as source",
        blocks({"type": "image", "source": "x"}),
        f"{FIRST}.source: Input should be",
    ),
    (
        "an unknown source",
        image(type="ftp"),
        f"{FIRST}.source: Input tag 'ftp' found using 'type'",
    ),
    (
        "text as an image",
        image(type="text"),
        f"{FIRST}.source: Input tag 'text' found using 'type'",
    ),
    ("a source without data", image(data=None), f"{FIRST}.source.data: Field required"),
    (
        "a TIFF",
        image(media_type="image/tiff"),
        f"{FIRST}.source.media_type: Input should be 'image/j",
    ),
    *(
        (name, image(data=data), f"{FIRST}.source.data: Input should be valid base64")
        for name, data in (
            ("base64 of odd length", "abc"),
            ("no base64 at all", "a b="),
            ("empty base64", ""),
            ("base64 with line breaks", "QUJD\nQUJ"),
            ("base64 for URLs", "QUJ-_A=="),
            ("a data URL", "data:image/png;base64,QUJD"),
        )
    ),
    (
        "an image that is a local file",
        blocks({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}),
        f"{FIRST}.source.url: Input should be an http or https URL",
    ),
    (
        "an image as a PDF",
        document(IMAGE),
        f"{FIRST}.source.media_type: Input should be 'applicatio",
    ),
    (
        "a broken PDF",
        document({**PDF, "data": "%"}),
        f"{FIRST}.source.data: Input should be valid base64",
    ),
    (
        "a number as title",
        document(PDF, title=1),
        f"{FIRST}.title: Input should be a valid string",
    ),
    (
        "a document in a document",
        document({"type": "content", "content": [{"type": "document", "source": PDF}]}),
        f"{FIRST}.source.content.0: only text and image blocks are allowed here",
    ),
    (
        "a broken image in a document",
        document(
            {"type": "content", "content": [{"type": "image", "source": {**IMAGE, "data": "?"}}]}
        ),
        f"{FIRST}.source.content.0.source.data: Input should be valid base64",
    ),
    (
        "an image in a search result",
        blocks(
            {
                "type": "search_result",
                "source": "s",
                "title": "t",
                "content": [{"type": "text", "text": "a"}, {"type": "image", "source": IMAGE}],
            }
        ),
        f"{FIRST}.content.1: only text blocks are allowed here",
    ),
]
