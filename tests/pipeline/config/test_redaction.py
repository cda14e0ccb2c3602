"""Keys that stand in a declaration are not shown with what is wrong there."""

from __future__ import annotations

import pytest

from pipeline.config.problems import Location, Problem
from pipeline.config.redaction import redact

KEY = "s3cret-key"
STARS = "*" * len(KEY)

SECRET = {
    "flow": f"b: {{base_url: nonsense, api_key: {KEY}, max_concurrent_calls: many}}",
    "quoted": f'b: {{api_key: "{KEY}", max_concurrent_calls: many}}',
    "json": f'{{"api_key": "{KEY}"}}',
    "compact-json": f'{{"b":{{"api_key":"{KEY}","slots":"many"}}}}',
    "without-a-space": f"api_key:{KEY}",
    "behind-a-quote": f"api_key: 'it''s {KEY}'",
    "behind-a-comma": f"api_key: one,{KEY}",
    "unclosed": f"b: {{api_key: '{KEY}}}",
    "misspelt": f"apikey: {KEY}",
    "list": f"- authenticate: {{keys: [one, '{KEY}']}}",
    "block-list": f"keys:\n- one\n- {KEY}",
    "below": f"keys:\n    # two of them\n\n    - one\n    - {KEY}",
    "in-an-item": f"- keys:\n    - {KEY}",
    "lines-of-a-list": f"keys: [\n  one,\n  {KEY}]",
    "folded": f"api_key: >-\n  {KEY}",
    "headers": f"headers: {{x-own: {KEY}}}",
    "headers-below": f"headers:\n  x-own: {KEY}",
    "in-place-of-options": f"- authenticate: {KEY}",
    "a-default": f'api_key: "${{NAME:-{KEY}}}"',
    "twice": f"api_key: {KEY}, api_key: {KEY}",
    "url": f"base_url: http://user:{KEY}@host/v1",
    "url-of-a-user": f"base_url: http://{KEY}@host/v1",
    "url-without-a-password": f"base_url: http://{KEY}:@host/v1",
    "url-with-signs": f'{{"base_url":"http://user:{KEY}@host/v1","x":"a@b"}}',
    "url-with-an-apostrophe": f'base_url: "http://user:it\'{KEY}@host/v1"',
    "query-of-a-credential": f"base_url: http://host/v1?credential={KEY}",
    "query": f"base_url: http://host/v1?api-key={KEY}",
    "query-in-flow": f"b: {{base_url: http://host/v1?a=long&X-Token={KEY}&b=more, limit: many}}",
    "query-in-quotes": f'base_url: "http://host/v1?sig={KEY}#part"',
    "explicit": f"b:\n  ? api_key\n  : {KEY}",
    "explicit-in-quotes": f"- ? 'api_key'  # this one\n  # and this\n  : '{KEY}'",
    "explicit-list": f"? keys\n:\n  - one\n  - {KEY}",
    "explicit-list-in-line": f"? keys\n: - one\n  - {KEY}",
    "explicit-in-flow": f"b: {{? api_key\n: {KEY}, max_concurrent_calls: many}}",
}
PLAIN = (
    "backends:\n  ollama: {profile: ollama, api_key: ollama}",
    "api_key: ${SOME_NAME}",
    "b: {api_key: ${SOME_NAME}, max_concurrent_calls: many}",
    "- authenticate: &keys {keys: [${PROXY_KEY}]}\n- validate: {body: messages}",
    "keys: [a]\nother: words",
    "tokenizer: vllm\nmax_tokens: 4000",
    "- my_keys:Check: {max_concurrent_calls: many}\n- their_token:Other",
    "api_key:\nbase_url: http://host/v1",
    "base_url: http://host/v1?api-version=2024-10-21&key=${KEY}",
    "? profile\n: ollama\n? models\n: some",
)


@pytest.mark.parametrize("source", SECRET.values(), ids=SECRET)
def test_a_key_becomes_stars_wherever_it_is_shown(source: str) -> None:
    assert redact(source, source) == source.replace(KEY, STARS)
    assert redact(f"got the text '{KEY}'", source) == f"got the text '{STARS}'"


@pytest.mark.parametrize("password", [f"a@b{KEY}", f"{KEY}/long", f"long:{KEY}"])
def test_a_password_with_signs_that_end_none_in_a_url_becomes_stars(password: str) -> None:
    source = f"base_url: http://user:{password}@host/v1"
    assert redact(source, source) == source.replace(password, "*" * len(password))


@pytest.mark.parametrize("source", PLAIN)
def test_what_is_no_secret_is_shown(source: str) -> None:
    assert redact(source, source) == source


def test_what_stands_beside_a_key_is_shown_and_the_caret_stays() -> None:
    problem = Problem("some-code", "it is many", Location(1, 28))
    assert problem.render(
        "a.yaml", f"b: {{api_key: {KEY}, max_concurrent_calls: many}}"
    ).splitlines()[1:] == [
        f"    1 | b: {{api_key: {STARS}, max_concurrent_calls: many}}",
        "      |                            ^",
    ]
