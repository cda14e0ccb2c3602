"""Requests with malformed tools, results, choices, forms or thinking."""

from __future__ import annotations

from typing import Any

from tests.malformed.bodies import (
    CITED,
    FIRST,
    FORM,
    IMAGE,
    SCHEMA,
    TOOL,
    blocks,
    body,
    choice,
    result,
    thinking,
    tool,
)

TOOLS_AND_OPTIONS: list[tuple[str, Any, str]] = [
    # Tool results
    (
        "a result without an id",
        blocks({"type": "tool_result"}),
        f"{FIRST}.tool_use_id: Field required",
    ),
    (
        "a result in a result",
        result({"type": "tool_result", "tool_use_id": "b"}),
        f"{FIRST}.content.0: I",
    ),
    (
        "an unknown block in a result",
        result({"type": "poem"}),
        f"{FIRST}.content.0: Input tag 'poem'",
    ),
    (
        "a broken image in a result",
        result({"type": "text", "text": "a"}, {"type": "image", "source": {**IMAGE, "data": "!"}}),
        f"{FIRST}.content.1.source.data: Input should be valid base64",
    ),
    (
        "a text as is_error",
        blocks({"type": "tool_result", "tool_use_id": "a", "is_error": "no"}),
        f"{FIRST}.is_error: Input should be a valid boolean",
    ),
    # Tools
    ("an object as tools", body(tools={}), "tools: Input should be a valid list"),
    ("a string as a tool", body(tools=["f"]), "tools.0: Input should be an object"),
    (
        "a tool without a name",
        body(tools=[{"input_schema": SCHEMA}]),
        "tools.0.name: String should",
    ),
    ("a tool's name with a dot", tool(name="a.b"), "tools.0.name: String should match pattern"),
    (
        "a tool's name of 129 letters",
        tool(name="a" * 129),
        "tools.0.name: String should match pattern",
    ),
    (
        "a tool's name with a line break",
        tool(name="f\n"),
        "tools.0.name: String should match pattern",
    ),
    ("a tool without a schema", tool(input_schema=None), "tools.0.input_schema: Field required"),
    ("a list as schema", tool(input_schema=[]), "tools.0.input_schema: Input should be an object"),
    (
        "a schema of an array",
        tool(input_schema={"type": "array"}),
        "tools.0.input_schema.type: Input",
    ),
    (
        "a schema without a type",
        tool(input_schema={}),
        "tools.0.input_schema.type: Input should be 'o",
    ),
    (
        "a number as description",
        tool(description=5),
        "tools.0.description: Input should be a valid",
    ),
    ("two tools of one name", body(tools=[TOOL, TOOL]), "tools: Tool names must be unique."),
    (
        "a screen whose width is text",
        body(tools=[{"type": "computer_20250124", "name": "computer", "display_width_px": "1024"}]),
        "tools.0.display_width_px: Input should be a valid integer",
    ),
    ("a number as a tool's type", body(tools=[{"type": 1}]), "tools.0.type: Input should be a va"),
    ("a text as strict", tool(strict="yes"), "tools.0.strict: Input should be a valid boolean"),
    (
        "an example that is text",
        tool(input_examples=["a"]),
        "tools.0.input_examples.0: Input should be an object",
    ),
    (
        "two tools of one name, one of them the API's own",
        body(tools=[{"type": "bash_20250124", "name": "f"}, TOOL]),
        "tools: Tool names must be unique.",
    ),
    # Tool choice
    ("a string as tool_choice", choice("auto"), "tool_choice: Input should be an object"),
    (
        "an unknown tool_choice",
        choice({"type": "some"}),
        "tool_choice.type: Input should be 'auto', 'any",
    ),
    ("a tool_choice without a type", choice({"name": "f"}), "tool_choice.type: Field required"),
    (
        "a tool_choice without a name",
        choice({"type": "tool"}),
        "tool_choice.name: there is no tool ''",
    ),
    (
        "another tool's name",
        choice({"type": "tool", "name": "g"}),
        "tool_choice.name: there is no tool 'g'",
    ),
    (
        "a tool_choice without tools",
        body(tool_choice={"type": "auto"}),
        "tool_choice: tool_choice may only be specified while providing tools.",
    ),
    (
        "a toolset's member as tool_choice",
        choice({"type": "tool", "name": ""}, {"type": "computer_toolset_20260801"}),
        "tool_choice.name: there is no tool ''",
    ),
    *(
        (
            f"thinking with {choice} as tool_choice",
            body(
                max_tokens=4096,
                thinking={"type": "enabled", "budget_tokens": 1024},
                tools=[TOOL],
                tool_choice={"type": choice, "name": "f"},
            ),
            "Thinking may not be enabled when tool_choice forces tool use.",
        )
        for choice in ("any", "tool")
    ),
    # The form of the response
    (
        "a form with a begun answer",
        body(
            output_config={"format": FORM},
            messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        ),
        "output_config.format: cannot be combined with a prefilled assistant message",
    ),
    (
        "an old form with citations",
        body(output_format=FORM, messages=[{"role": "user", "content": [CITED]}]),
        "output_config.format: cannot be combined with citations",
    ),
    (
        "a form with citations of a result",
        body(
            output_config={"format": FORM},
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "1", "content": [CITED]}],
                }
            ],
        ),
        "output_config.format: cannot be combined with citations",
    ),
    ("another old form", body(output_format={"type": "xml"}), "output_format.type: Input should"),
    # Thinking
    ("a string as thinking", body(thinking="enabled"), "thinking: Input should be an object"),
    (
        "an unknown thinking",
        thinking(type="deep"),
        "thinking.type: Input should be 'enabled', 'adaptive'",
    ),
    (
        "thinking without a budget",
        thinking(type="enabled"),
        "thinking.enabled.budget_tokens: Field requ",
    ),
    (
        "a small budget",
        thinking(type="enabled", budget_tokens=1023),
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    ),
    (
        "a budget as large as max_tokens",
        thinking(type="enabled", budget_tokens=4096),
        "`max_tokens` must be greater than `thinking.budget_tokens`",
    ),
    (
        "a budget with a fraction",
        thinking(type="enabled", budget_tokens=2048.5),
        "thinking.budget_tokens: Input should be a valid integer",
    ),
    # Options of the response
    (
        "a text as output_config",
        body(output_config="high"),
        "output_config: Input should be an object",
    ),
    (
        "an unknown effort",
        body(output_config={"effort": "huge"}),
        "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
    ),
    (
        "an unknown format",
        body(output_config={"format": {"type": "xml", "schema": {}}}),
        "output_config.format.type: Input should be 'json_schema'",
    ),
    (
        "a format without a schema",
        body(output_config={"format": {"type": "json_schema"}}),
        "output_config.format.schema: Field required",
    ),
    ("a text as metadata", body(metadata="me"), "metadata: Input should be an object"),
    (
        "a number as user_id",
        body(metadata={"user_id": 7}),
        "metadata.user_id: Input should be a valid string",
    ),
    # Several at once
    (
        "two problems",
        body(model=1, stream="no"),
        "model: Input should be a valid string; stream: Input should be a valid boolean",
    ),
    (
        "eight problems",
        body(messages=[{"role": "user", "content": [{"type": "text", "text": ""}] * 8}]),
        "; ".join(
            f"messages.0.content.{n}.text: text content blocks must be non-empty" for n in range(5)
        )
        + "; and 3 more",
    ),
]
