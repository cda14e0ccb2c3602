"""The errors of the Messages API."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import anthropic
import httpx2
import pytest

import stages
from stages.messages_api import errors
from tests.cases import for_each

TABLE = {
    errors.InvalidRequestError: (400, "invalid_request_error"),
    errors.UnsupportedError: (400, "invalid_request_error"),
    errors.PromptTooLongError: (400, "invalid_request_error"),
    errors.OutputLimitError: (400, "invalid_request_error"),
    errors.AuthenticationError: (401, "authentication_error"),
    errors.BillingError: (402, "billing_error"),
    errors.PermissionDeniedError: (403, "permission_error"),
    errors.NotFoundError: (404, "not_found_error"),
    errors.MethodNotAllowedError: (405, "invalid_request_error"),
    errors.RequestTimeoutError: (408, "invalid_request_error"),
    errors.ConflictError: (409, "conflict_error"),
    errors.RequestTooLargeError: (413, "request_too_large"),
    errors.UnsupportedMediaTypeError: (415, "invalid_request_error"),
    errors.HeadTooLargeError: (431, "invalid_request_error"),
    errors.RateLimitError: (429, "rate_limit_error"),
    errors.InternalError: (500, "api_error"),
    errors.GatewayTimeoutError: (504, "timeout_error"),
    errors.OverloadedError: (529, "overloaded_error"),
    errors.QueueFullError: (529, "overloaded_error"),
}


def descendants(cls: type[errors.ApiError]) -> Iterator[type[errors.ApiError]]:
    for item in cls.__subclasses__():
        yield item
        yield from descendants(item)


def import_all() -> None:
    for module in pkgutil.walk_packages(stages.__path__, "stages."):
        if module.name != "stages.pdf.worker":  # a program, which needs arguments
            importlib.import_module(module.name)


def test_every_error_of_the_stages_is_in_the_table() -> None:
    import_all()
    ours = {cls for cls in descendants(errors.ApiError) if cls.__module__.startswith("stages.")}

    assert ours == set(TABLE)
    assert {cls.__module__ for cls in ours} == {errors.__name__}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^([│ ]*)[├└]── (\w+) +(\d+)", errors.__doc__ or "", re.MULTILINE)
    parents = [errors.ApiError]
    for indent, name, status in drawn:
        cls = getattr(errors, name)
        depth = len(indent) // 4 + 1

        assert cls.__bases__ == (parents[depth - 1],)
        assert cls.status == int(status)
        parents[depth:] = [cls]

    assert {name for _, name, _ in drawn} == {cls.__name__ for cls in TABLE}


@for_each("cls", TABLE, ids=lambda cls: cls.__name__)
def test_an_error_has_its_status_and_type(cls: type[errors.ApiError]) -> None:
    assert (cls.status, cls.type) == TABLE[cls]


@for_each("cls", TABLE, ids=lambda cls: cls.__name__)
def test_the_official_sdk_knows_an_error_by_status_and_type(cls: type[errors.ApiError]) -> None:
    body = cls("no").body("req_1")

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(cls.status, json=body, headers={"request-id": "req_1"})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with (
        anthropic.Anthropic(api_key="k", http_client=http, max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError) as raised,
    ):
        client.messages.create(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "Hello"}]
        )
    assert raised.value.status_code == cls.status
    assert raised.value.type == cls.type
    assert raised.value.body == body


def test_a_body_has_the_request_id_and_only_what_there_is() -> None:
    assert errors.NotFoundError("model: x").body("req_1") == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model: x"},
        "request_id": "req_1",
    }


def test_details_are_in_the_body_and_headers_are_not() -> None:
    error = errors.InvalidRequestError("no", headers={"retry-after": "1"}, details={"a": 1})
    assert error.headers == {"retry-after": "1"}
    assert error.body("req_1")["error"] == {
        "type": "invalid_request_error",
        "message": "no",
        "details": {"a": 1},
    }


def test_an_error_reads_as_its_message() -> None:
    assert str(errors.InternalError("broken")) == "broken"
