"""Removes secrets from recorded exchanges.

    kind            what is replaced by `[redacted]`
    -------------   ------------------------------------------------------------------------------
    private key     a PEM block from `-----BEGIN … PRIVATE KEY…-----` to its end line; without an
                    end line, at most 16,384 characters
    URL password    the password of `scheme://user:password@host`
    API key         a word that begins as the keys of known services do, such as `sk-`, `ghp_`,
                    `AKIA`, `hf_`, `dapi`; JSON Web Tokens
    credential      the value after `Bearer`, `Basic` or `Token`, of 8 characters or more
    assignment      the value after a name that ends in `api_key`, `access_key`, `secret`, `token`,
                    `password`, `passwd` or `credential`, and `:` or `=`. The value is in quotes,
                    or has 8 characters or more and a digit
    member          the text of a JSON member with such a name
    e-mail address  the whole address

These apply to each text and each name of a member, but not to base64 data of images and documents.
Everything else of a prompt or response stays: a replay needs it. So `token = read()` in a prompt
stays, and a password that is in no such place stays, too. Each expression takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MARK = "[redacted]"
#: Characters of a part of a text.
_PART = 32_768

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[^-]|-(?!----)){0,16384}+(?:-----END [A-Z0-9 ]{0,60}-----)?"
)
_URL_PASSWORD = re.compile(r"(://[^\s:/@\"'<>]{0,100}:)[^\s/@\"'<>]{1,200}(?=@)")
# Of services, by their documentation or by the rules of secret scanners, 2026-11.
_API_KEY = re.compile(
    r"(?<![\w-])(?:"
    r"(?:sk|rk|pk|sk_live|rk_live|sk_test|rk_test|xai|gsk|nvapi|hf|r8|npm|fw|pplx|csk|tgp_v1)"
    r"[-_](?=[\w-]{0,60}?\d)[\w-]{16,}"
    r"|(?:gh[opsur]|github_pat)_\w{20,}"
    r"|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|pypi-[\w-]{16,}|dop_v1_\w{16,}"
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|AIza[\w-]{35}|ya29\.[\w-]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|dapi[0-9a-f]{32}(?:-\d)?"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r")"
)
_CREDENTIAL = re.compile(
    r"(?<![A-Za-z0-9])((?:Bearer|bearer|BEARER|Basic|basic|Token) {1,3})"
    r"(?=[^\s\"']{0,60}?[\d=._-])[\w.~+/=-]{8,}"
)
_NAME = r"(?:api[-_ ]?key|access[-_]?key|secret|token|passwo?r?d|credential)"
_ASSIGNMENT = re.compile(
    rf"({_NAME}(?:\\?[\"'])?[ \t]{{0,20}}[:=][ \t]{{0,20}})"
    r"(?:(\\?[\"'])[^\"'\\\n]{1,500}|(?=[^\s\"']{0,60}?\d)[^\s\"'`,;()\[\]{}<>\\]{8,})",
    re.IGNORECASE,
)
_SECRET_MEMBER = re.compile(rf"(?:[\w-]{{0,60}}[-_])?{_NAME}", re.IGNORECASE)
# Only an address: the local part has no limit, so that a long one is not cut.
_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w.%+-]++@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.)+[A-Za-z]{2,24}(?![A-Za-z0-9])"
)


def redacted_text(text: str) -> str:
    """Replace each secret in a text.

    No expression but the first matches a line break. So a long text is read in parts of whole
    lines: `re` holds Python's lock until it returns.
    """
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub(MARK, text)
    if len(text) <= _PART:
        return _redacted_part(text)
    return "".join(map(_redacted_part, _parts(text)))


def _parts(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PART) + 1 or len(text)
        yield text[start:end]
        start = end


def _redacted_part(text: str) -> str:
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1{MARK}", text)
    text = _API_KEY.sub(MARK, text)
    text = _CREDENTIAL.sub(rf"\1{MARK}", text)
    text = _ASSIGNMENT.sub(_assigned, text)
    return _EMAIL.sub(MARK, text) if "@" in text else text


def redacted(value: Any) -> Any:
    """Replace each secret in JSON. The result shares nothing with `value` but its data."""
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, dict):
        base64 = value.get("type") == "base64"
        return {
            redacted_text(name): item if base64 and name == "data" else _member(name, item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return value


def _member(name: str, item: Any) -> Any:
    if isinstance(item, str) and item and _SECRET_MEMBER.fullmatch(name):
        return MARK
    return redacted(item)


def _assigned(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2] or ''}{MARK}"
