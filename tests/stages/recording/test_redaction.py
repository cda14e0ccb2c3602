"""No secret of the table in stages/recording/redaction.py is in a recording; the rest stays."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from stages.recording import redaction
from stages.recording.redaction import MARK, redacted, redacted_text
from tests.cases import for_each

WORD = "Q7hZ2kLm9XwPa3Rt5Vn8Bc1D"


def pattern(expression: str) -> st.SearchStrategy[str]:
    return st.from_regex(re.compile(expression, re.ASCII), fullmatch=True)


HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
#: Each kind of the table: texts with a secret, as (before, secret, after).
SECRETS: dict[str, st.SearchStrategy[tuple[str, str, str]]] = {
    "private key": pattern(r"[A-Za-z0-9+/\n]{20,400}={0,2}").map(
        lambda key: ("-----BEGIN RSA PRIVATE KEY-----\n", key, "\n-----END RSA PRIVATE KEY-----")
    ),
    "private key without an end": pattern(r"[A-Za-z0-9+/\n]{20,400}").map(
        lambda key: ("-----BEGIN PRIVATE KEY-----\n   1→", key, "")
    ),
    "URL password": pattern(r"[A-Za-z0-9!$%&*._~-]{6,40}").map(
        lambda password: ("postgres://me:", password, "@db.example:5432/x")
    ),
    "API key": st.tuples(
        st.sampled_from(("sk-", "sk-ant-api03-", "sk_live_", "gsk_", "hf_", "xai-", "nvapi-")),
        pattern(r"[A-Za-z][0-9][A-Za-z0-9]{18,60}"),
    ).map(lambda parts: ("the key ", "".join(parts), ".")),
    "GitHub": pattern(r"gh[pousr]_[A-Za-z0-9]{36}").map(lambda key: ("(", key, ")")),
    "AWS": pattern(r"(?:AKIA|ASIA)[A-Z0-9]{16}").map(lambda key: ("id ", key, "\n")),
    "Google": pattern(r"AIza[A-Za-z0-9_-]{35}").map(lambda key: ("", key, "")),
    "Databricks": HEX.map(lambda key: ("", f"dapi{key}", " ")),
    "JSON Web Token": pattern(
        r"eyJ[A-Za-z0-9_-]{10,80}\.eyJ[A-Za-z0-9_-]{10,80}\.[A-Za-z0-9_-]{20,60}"
    ).map(lambda key: ("jwt ", key, " ")),
    "credential": pattern(r"[A-Za-z0-9._~+/-]{8,60}[0-9]").map(
        lambda key: ("Authorization: Bearer ", key, "\n")
    ),
    "assignment in quotes": pattern(r"[A-Za-z ,;!]{4,60}").map(
        lambda key: ('DB_PASSWORD = "', key, '"')
    ),
    "assignment": pattern(r"[A-Za-z0-9_+/-]{8,60}[0-9]").map(
        lambda key: ("export SOME_API_KEY=", key, "\n")
    ),
    "JSON in a text": pattern(r"[A-Za-z0-9]{6,60}").map(
        lambda key: ('{\\"client_secret\\": \\"', key, '\\"}')
    ),
    "e-mail address": pattern(r"[a-z0-9_+%-]{1,100}@[a-z0-9]{1,30}\.[a-z]{2,10}").map(
        lambda address: ("write to ", address, ", please")
    ),
}
AROUND = st.text("ab .\n\"'{}:/-_=1", max_size=20)


@for_each("kind", SECRETS)
def test_a_secret_of_each_kind_is_replaced_wherever_it_is(kind: str) -> None:
    @given(SECRETS[kind], AROUND, AROUND)
    def check(secret: tuple[str, str, str], begin: str, end: str) -> None:
        text = f"{begin} {''.join(secret)} {end}"
        deep: Any = {"messages": [{"content": [{"type": "tool_result", "content": text}]}]}

        for result in (redacted_text(text), json.dumps(redacted(deep), ensure_ascii=False)):
            assert secret[1] not in result
            assert MARK in result

    check()


@for_each("name", ["password", "db_password", "api_key", "apiKey", "X-Secret"])
def test_the_text_of_a_member_with_such_a_name_is_replaced(name: str) -> None:
    assert redacted({"input": {name: "hunter two"}}) == {"input": {name: MARK}}
    assert redacted({name: {"type": "string"}}) == {name: {"type": "string"}}


def test_names_of_members_are_redacted_too() -> None:
    assert redacted({"me@example.com": [1, None, True]}) == {MARK: [1, None, True]}


@for_each(
    "text",
    [
        "token = lexer.next_token()",
        "the number of tokens: 12",
        "max_tokens=1024",
        "task-1234567890123456789012 is done",
        "pip install lodash@4.17.21, @app.route, user@localhost",
        "https://example.com:8080/a@b",
        "a Basic idea, a Token of love, Bearer of news",
        "AKIA is a prefix, and so is ghp_",
        "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
        "sk-learn-is-a-library-without-numbers",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redacted_text(text) == text


def test_images_stay() -> None:
    data = "/".join(["AKIA" + "A1" * 8] * 3)
    source = {"type": "base64", "media_type": "image/png", "data": data}

    assert redacted(source) == source
    assert redacted({**source, "type": "text"})["data"] != data


def test_a_mention_of_a_private_key_removes_only_some_text() -> None:
    rest = "line\n" * 20_000
    result = redacted_text(f"grep '-----BEGIN PRIVATE KEY-----' {rest}")

    assert result.startswith(f"grep '{MARK}")
    assert len(rest) - 16_400 < len(result) < len(rest)


@given(st.lists(st.sampled_from(("a@b.cd", "\n", f"token: {WORD}", "x" * 20)), max_size=40))
@example([])
def test_a_long_text_is_redacted_as_a_short_one(parts: list[str]) -> None:
    text = " ".join(parts)
    filler = "y" * redaction._PART + "\n"

    assert redacted_text(filler + text) == filler + redacted_text(text)
