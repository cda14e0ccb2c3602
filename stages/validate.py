"""The stage `validate`."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, Literal

from attrs import evolve, frozen, validators
from cattrs.errors import BaseValidationError

from pipeline import Send, Stage, option
from stages.events import GZIP_ENCODINGS, Authenticated, HttpRequest, Validated
from stages.messages_api import validation
from stages.messages_api.cached_part import SplitBody
from stages.messages_api.errors import InvalidRequestError
from stages.messages_api.part_cache import MIN_BODY, PARTS
from stages.messages_api.request import MessagesRequest
from stages.messages_api.structuring import spell, structure
from stages.off_loop import LARGE_BODY, off_loop
from stages.wire import json_codec

_MAX_PROBLEMS = 5  # shown
_MAX_COUNTED = 1000
#: The part of a problem that quotes the request; the quote may contain these words.
_QUOTED = re.compile(r"(?:Input tag|there is no tool) '(.*)' (?:found using|in tools)", re.DOTALL)
_VERSIONS = ("2023-06-01", "2026-10-21")


@frozen
class Validate(Stage[Authenticated, Validated]):
    """Read the body and check that it is a request of the Messages API."""

    max_body_bytes: int = option(
        32 * 1024 * 1024,
        help="most bytes of a request body; larger bodies get a 413",
        validator=validators.gt(0),
    )
    endpoint: Literal["messages", "count-tokens"] = option(
        "messages",
        renamed_from="body",
        help="the endpoint whose body to expect; for count-tokens, `max_tokens` is not required",
    )

    async def handle(self, event: Authenticated, forward: Send[Validated]) -> None:
        _check_headers(event.http)
        data = await event.http.read_body(self.max_body_bytes)
        betas, size = event.http.betas, len(data)
        split = PARTS.split(data, LARGE_BODY) if size >= MIN_BODY else None
        new_bytes = split.new_bytes if split else size
        if new_bytes < LARGE_BODY:
            request = self.parse(data, betas, split, is_split=True)
        else:
            request, split = await off_loop(self._split_and_parse, data, betas, split)
        event.exchange.model, event.exchange.stream = request.model, request.stream
        for function in event.exchange.on_request:
            function(request)
        is_cached = split is not None and split.is_cached
        await forward(
            Validated(event.http, request, size=size, new_bytes=new_bytes, is_cached=is_cached)
        )

    def _split_and_parse(
        self, data: bytes, betas: frozenset[str], split: SplitBody | None
    ) -> tuple[MessagesRequest, SplitBody | None]:
        split = split or PARTS.split(data)
        return self.parse(data, betas, split, is_split=True), split

    def parse(
        self,
        data: bytes,
        betas: frozenset[str] = frozenset(),
        split: SplitBody | None = None,
        is_split: bool = False,
    ) -> MessagesRequest:
        """Parse a body. Raise InvalidRequestError with the path of each problem.

        `betas` come from the header `anthropic-beta`: some of them lift a rule. `split` is the
        result of PartCache.split if the caller has called it, which `is_split` says.
        """
        if not is_split and len(data) >= MIN_BODY:
            split = PARTS.split(data)
        parts = PARTS.decode(split) if split else None  # these have no problems
        if split and parts is None:
            split.is_cached = False  # no later request finds these messages
        value, duplicates = (parts, False) if parts is not None else _decoded(data)
        _refuse_thread(value)
        problems = []
        is_message = self.endpoint == "messages" and isinstance(value, dict)
        if is_message and value.get("max_tokens") is None:
            problems.append("max_tokens: Field required")
        try:
            request = structure(value)
            broken = validation.problems(request, betas, parts_checked=parts is not None)
            problems += islice(broken, _MAX_COUNTED)
        except (BaseValidationError, ValueError) as error:
            problems += spell(error)
        if problems:
            more = len(problems) - _MAX_PROBLEMS
            shown = problems[:_MAX_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
            quoted = [quote for problem in shown for quote in _QUOTED.findall(problem)]
            raise InvalidRequestError("; ".join(shown), quoted=quoted)
        if duplicates:
            names = (*request.unknown_fields, "duplicate_keys")
            return evolve(request, unknown_fields=names)
        return request


def _decoded(data: bytes) -> tuple[Any, bool]:
    """The JSON of a body, and whether an object had a key twice; the last value counts."""
    try:
        try:
            return json_codec.decode(data), False
        except json_codec.DuplicateKeyError:
            return json_codec.decode(data, duplicate_keys=True), True
    except json_codec.TooManyError as error:
        raise InvalidRequestError(f"the body has {error}: shorten the conversation") from error
    except ValueError as error:
        if not data.strip():
            raise InvalidRequestError("the body is empty: send a JSON object") from error
        message = f"the body is not valid JSON: {error}"
        raise InvalidRequestError(message, quoted=[str(error)]) from error


def _check_headers(request: HttpRequest) -> None:
    encoding = request.headers.get("content-encoding", "").lower() or "identity"
    if encoding not in ("identity", *GZIP_ENCODINGS):
        raise InvalidRequestError(
            f"content-encoding `{encoding[:40]}` is not supported: send gzip, or no encoding",
            details={"error_code": "request_body_encoding_unsupported"},
        )
    version = request.headers.get("anthropic-version", _VERSIONS[0])
    if version not in _VERSIONS:
        raise InvalidRequestError(f'anthropic-version: "{version[:40]}" is not a valid version')


def _refuse_thread(value: Any) -> None:
    """Refuse a request for a thread: this server does not store the history.

    The official SDKs know this error, and then send the whole conversation.
    """
    if isinstance(value, dict) and value.get("thread") is not None:
        raise InvalidRequestError(
            "thread: this server keeps no conversations; send all messages with each request",
            details={"error_code": "thread_unsupported_request"},
        )
