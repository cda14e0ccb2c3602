"""Secrets of a config are not in the lines and messages that people see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from pipeline import ConfigError, Stage, option
from pipeline.config.load import load
from pipeline.config.parsing import parse
from pipeline.config.redaction import mask_unparsed
from pipeline.config.registry import Registry
from pipeline.config.schema import Config, Schema
from proxy.config import read
from tests.cases import for_each
from tests.pipeline.support import End, Start

KEY = "s3cret-key"
STARS = "*" * len(KEY)
CHAIN = """
models: {some: {backend: b}}
pipelines:
  one: {route: GET /one, stages: [authenticate, list-models]}
"""

# In each, something is wrong in the line with the key, or it is a note. `BACKEND` is one that is
# in order.
BACKENDS = {
    "flow": f"  b: {{base_url: nonsense, api_key: {KEY}, limit: many}}",
    "quoted": f'  b: {{api_key: "{KEY}", limit: many}}',
    "json": f'  b: {{"api_key": "{KEY}", "limit": "many"}}',
    "compact-json": f'  {{"b":{{"api_key":"{KEY}","limit":"many"}}}}',
    "after-a-quote": f"  b: {{api_key: 'it''s {KEY}', limit: many}}",
    "after-a-comma": f"  b:\n    api_key: one,{KEY}\n    limit: many",
    "without-a-space": f"  b: {{api_key:{KEY}}}",
    "without-a-space-alone": f"  b:\n    api_key:{KEY}",
    "misspelt": f"  b: {{apikey: {KEY}}}",
    "misspelt-in-a-mapping": f"  b: {{auth: {{key: [{KEY}]}}}}",
    "braces-for-quotes": f"  b: {{api_key: {{{KEY}}}}}",
    "in-place-of-a-mapping": f"  b: {KEY}",
    "a-list": f"  b: {{api_key: [{KEY}]}}",
    "folded": f"  b:\n    api_key: >-\n      {KEY}\n      é\n    limit: many",
    "not-sendable": f'  b: {{profile: ollama, api_key: "{KEY}\\n"}}',
    "headers": f"  b: {{headers: {{x-own: {KEY}}}, limit: many}}",
    "headers-below": f"  b:\n    limit: many\n    headers:\n      x own: {KEY}",
    "header-not-sendable": f'  b: {{profile: ollama, headers: {{x-own: "{KEY}\\n"}}}}',
    "a-default": f'  b: {{api_key: "${{NAME:-{KEY}}}", limit: many}}',
    "twice": f"  b: {{api_key: {KEY}, api_key: {KEY}}}",
    "twice-with-an-anchor": f"  b: {{api_key: &k {KEY}, api_key: *k}}",
    "tagged": f"  b: {{api_key: !!str {KEY}, limit: many}}",
    "explicit": f"  b:\n    ? api_key\n    : {KEY}\n    limit: many",
    "a-mapping-as-a-name": f"  b: {{? {{api_key: {KEY}}} : x}}",
    "for-one-model": f"  b: {{profile: ollama, models: {{x: {{api_key: {KEY}}}}}}}",
    "url": f"  b: {{base_url: http://user:{KEY}@host/v1, limit: many}}",
    "url-of-a-user": f"  b: {{base_url: http://{KEY}@host/v1, limit: many}}",
    "url-without-a-password": f"  b: {{base_url: 'http://{KEY}:@host/v1', limit: many}}",
    "url-with-signs": f"  b: {{base_url: 'http://user:a@b/{KEY}@host/v1', limit: many}}",
    "url-without-a-scheme": f"  b: {{base_url: user:{KEY}@host/v1}}",
    "query": f"  b: {{base_url: http://host/v1?api-key={KEY}}}",
    "query-with-a-sign": f"  b: {{base_url: http://host/v1?a=@&key={KEY}}}",
    "unclosed-quote": f"  b: {{api_key: '{KEY}}}",
    "unclosed-bracket": f"  b: {{api_key: {KEY}",
    "unclosed-list": f"  b:\n    x: [\n      {KEY}, other: a",
    "read-as-a-tag": f"  b:\n    limit: many\n    api_key: !{KEY}",
    "read-as-a-tag-of-a-header": f"  b: {{headers: {{x-own: !{KEY} }}, limit: many}}",
    "read-as-an-anchor": f"  b:\n    limit: many\n    api_key: &{KEY}",
    "undefined-alias": f"  b: {{api_key: *{KEY}}}",
    "tab": f"  b:\n\tapi_key: {KEY}",
    "odd-directive": f"  b:\n%{KEY}\n  x",
    "below-a-name-without-a-colon": f"  b\n  - {KEY}\n  c: d",
}
STAGES = {
    "list": f"authenticate: {{keys: [one, '{KEY}'], other: 1}}",
    "misspelt-stage": f"authenticat: {{keys: [{KEY}]}}",
    "misspelt-option": f"authenticate: {{key: [{KEY}]}}",
    "braces-for-brackets": f"authenticate: {{keys: {{{KEY}}}}}",
    "text-for-a-list": f"authenticate: {{keys: {KEY}}}",
    "in-place-of-options": f"authenticate: {KEY}",
    "list-in-place-of-options": f"authenticate: [{KEY}]",
    "not-indented": f"{{authenticate: , keys: [{KEY}]}}",
    "a-list-for-a-stage": f"[authenticate, {KEY}]",
}


def check_output(folder: Path, text: str) -> str:
    """The output of `check` for a config with `text`, which has a problem."""
    file = folder / "pipelines.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read(str(file), {})
    return str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
def test_no_message_about_a_backend_has_its_key(tmp_path: Path, backend: str) -> None:
    text = f"backends:\n{backend}\n{CHAIN}"

    assert KEY not in check_output(tmp_path, text)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_no_message_about_a_stage_has_a_key(tmp_path: Path, stage: str) -> None:
    text = f"backends: {{b: {{profile: ollama}}}}\n{CHAIN}".replace("[authenticate", f"[{stage}")

    assert KEY not in check_output(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        f"keys: [{KEY}]",
        f"backnds: {{b: {{api_key: {KEY}}}}}",
        f"{KEY}",
        f"- {KEY}",
        f"api_key:{KEY}",
        f"pipelines: [{KEY}]",
        f"pipelines: {{one: {{route: GET /one, stages: {{authenticate: {{keys: [{KEY}]}}}}}}}}",
        f"pipelines: {{one: {{route: GET /one, keys: [{KEY}], stages: []}}}}",
    ],
)
def test_no_message_has_a_key_in_the_wrong_place(tmp_path: Path, text: str) -> None:
    assert KEY not in check_output(tmp_path, text)


@pytest.mark.parametrize(
    ("backend", "line"),
    [
        (f"{{api_key: {KEY}, slots: many}}", f"{{api_key: {STARS}, slots: many}}"),
        (f"{{api_key: '{KEY}', slots: many}}", f"{{api_key: '{STARS}', slots: many}}"),
        ('{api_key: "${NAME:-}", slots: many}', '{api_key: "${NAME:-}", slots: many}'),
        ('{api_key: "${X:-long}", slots: many}', '{api_key: "${X:-*****", slots: many}'),
        (
            f"{{headers: {{x-own: {KEY}}}, slots: many}}",
            f"{{headers: {{x-own: {STARS}}}, slots: many}}",
        ),
        (
            f"{{base_url: http://user:{KEY}@host/v1, slots: many}}",
            f"{{base_url: http://*****{STARS}@host/v1, slots: many}}",
        ),
        (
            "{base_url: http://host:80/v1, tokenizer: vllm, slots: many}",
            "{base_url: http://host:80/v1, tokenizer: vllm, slots: many}",
        ),
        ("{profile: ollama, api_key: ollama, slots: many}", None),
        (
            f"{{base_url: http://host/v1, slots: many}}  # {KEY}",
            "{base_url: http://host/v1, slots: many}",
        ),
        (
            "{base_url: http://host/v1, tokenizer: 'a # b', slots: many}",
            "{base_url: http://host/v1, tokenizer: 'a # b', slots: many}",
        ),
    ],
)
def test_a_quoted_line_has_stars_in_place_of_secrets_only(
    tmp_path: Path, backend: str, line: str | None
) -> None:
    line = line or "{profile: ollama, api_key: ******, slots: many}"
    text = check_output(tmp_path, f"backends:\n  b: {backend}\n{CHAIN}")

    caret = "^".rjust(5 + backend.index("many") + 1)
    assert f"    2 |   b: {line}\n      | {caret}" in text


def test_an_alias_hides_the_value_at_its_anchor(tmp_path: Path) -> None:
    text = (
        f"server: {{host: &k {KEY}, port: many}}\nbackends: {{b: {{profile: ollama, api_key: *k}}}}"
    )

    assert f"host: &k {STARS}, port: many" in check_output(tmp_path, text + CHAIN)


@frozen
class Own(Stage[Start, End]):
    token: str = "none"
    pin: str = option("none", secret=True)
    word: str = "none"
    number: int = 1


@pytest.mark.parametrize(("name", "is_shown"), [("token", False), ("pin", False), ("word", True)])
def test_secrets_of_own_stages_are_known_by_name_or_option(
    tmp_path: Path, name: str, is_shown: bool
) -> None:
    schema = Schema({}, Registry("none", (), "no.group"), Start, End)
    stage = f"{__name__}:Own: {{{name}: {KEY}, number: many}}"
    file = tmp_path / "pipelines.yaml"
    file.write_text(f"pipelines: {{one: {{route: GET /one, stages: [{stage}]}}}}")

    def run() -> Config:
        return load(file, schema, {})

    with pytest.raises(ConfigError) as caught:
        run()
    assert (KEY in str(caught.value)) is is_shown


COMMENTS = [
    ('a: "b # c" # OLD', 'a: "b # c"      '),
    ('"a # b": "c # d" # OLD # OLD', '"a # b": "c # d"            '),
    ("[a, 'b #c', # OLD\n d] # OLD", "[a, 'b #c',      \n d]      "),
    ("a: | # OLD\n  b # c\n# OLD", "a: |      \n  b # c\n     "),
    ("a: &b >- # OLD\n  # c", "a: &b >-      \n  # c"),
    ("a: &b # OLD\n  # OLD\n  c#d # OLD", "a: &b      \n       \n  c#d      "),
    ("a: !!str # OLD\n  'b # c' # OLD", "a: !!str      \n  'b # c'      "),
]


@for_each(("text", "expected"), COMMENTS)
def test_comments_are_not_shown_and_texts_like_them_are(text: str, expected: str) -> None:
    assert parse(text, {}).masked_text() == expected


UNPARSED: list[tuple[str, Any]] = [
    ("    api_key: x", "    api_key: …"),
    ("    api_key: ", "    api_key:"),
    ("  - authenticate: {keys: [x]}", "  - authenticate: …"),
    ("  - 'authenticate': x", "  - 'authenticate': …"),
    ('{"api_key": "x"}', '{"api_key": …'),
    ("  - x", "  - …"),
    ("  x, api_key: y", "  …"),
    ("api_key:x", "…"),
    ("x y: z", "…"),
    ("", ""),
]


@for_each(("line", "expected"), UNPARSED)
def test_a_line_that_does_not_parse_is_shown_up_to_its_name(line: str, expected: str) -> None:
    assert mask_unparsed(line) == expected
