"""Named keys in the stages `authenticate`, `resolve` and `list-models`."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from pipeline.testing import run_stage
from stages.authenticate import Authenticate
from stages.backends.config import ModelTarget
from stages.events import Authenticated, HttpRequest
from stages.exchange import Exchange
from stages.keys.config import Key, parse_time
from stages.list_models import ListModels
from stages.messages_api.errors import AuthenticationError, NotFoundError
from stages.resolve import Resolve
from stages.routing.allowed_models import AllowedModels
from tests.cases import for_each
from tests.support import backend, http, validated


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the stages await nothing


def named(key: str, **options: Any) -> Key:
    return Key(sha256=hashlib.sha256(key.encode()).hexdigest(), **options)


def end(**difference: int) -> str:
    return (datetime.now(UTC) + timedelta(**difference)).isoformat()


def asking(headers: dict[str, str]) -> HttpRequest:
    """A request with headers, written with underscores."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return http(headers=names, exchange=Exchange())


async def authenticated(stage: Authenticate, **headers: str) -> Exchange:
    """The exchange of a request, also if it is refused."""
    event = asking(headers)
    await run_stage(stage, [event])
    return event.exchange


async def refusal(stage: Authenticate, **headers: str) -> tuple[str, str]:
    """The message of a refusal, and the client in its log line."""
    event = asking(headers)
    with pytest.raises(AuthenticationError) as caught:
        await run_stage(stage, [event])
    return caught.value.message, event.exchange.client


KEYS = {
    "alice": named("key-of-alice"),
    "bob": named("key-of-bob", models=("claude-*",), expires=end(days=1)),
    "old": named("key-of-old", expires=end(seconds=-1)),
    "off": named("key-of-off", disabled=True),
}
STAGE = Authenticate(keys=("plain-key", "key-of-alice", "key-of-off"), named=KEYS)


async def test_a_named_key_gives_the_client_its_name_and_models() -> None:
    assert (await authenticated(STAGE, x_api_key="key-of-alice")).client == "alice"
    bob = await authenticated(STAGE, authorization="Bearer key-of-bob")
    assert (bob.client, bob.allowed_models) == ("bob", AllowedModels(("claude-*",)))


async def test_keys_without_a_name_work_next_to_them() -> None:
    plain = await authenticated(STAGE, x_api_key="plain-key")
    assert (plain.client, plain.allowed_models) == ("key-1", None)


@pytest.mark.parametrize(
    ("key", "message", "client"),
    [
        ("unknown", "invalid x-api-key", ""),
        ("key-of-old", "invalid x-api-key: this key has expired", "old"),
        ("key-of-off", "invalid x-api-key: this key is disabled", "off"),
        (KEYS["alice"].sha256, "invalid x-api-key", ""),
    ],
    ids=["unknown", "expired", "disabled, also as a plain key", "a digest is no key"],
)
async def test_a_key_is_refused_with_its_reason(key: str, message: str, client: str) -> None:
    assert await refusal(STAGE, x_api_key=key) == (message, client)


async def test_a_right_key_passes_next_to_one_that_has_expired() -> None:
    both = await authenticated(STAGE, x_api_key="key-of-old", authorization="Bearer key-of-bob")
    assert both.client == "bob"


@pytest.mark.parametrize("keys", [{}, {"off": KEYS["off"]}], ids=["empty", "only a disabled one"])
async def test_a_section_without_a_usable_key_is_not_open(keys: dict[str, Key]) -> None:
    stage = Authenticate(named=keys)
    assert not stage.is_open
    await refusal(stage)
    await refusal(stage, x_api_key="anything")


async def test_ten_thousand_keys_cost_as_many_calls_as_one() -> None:
    def calls(stage: Authenticate) -> int:
        count = 0

        def profile(_: Any, event: str, __: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        event = http(headers={"x-api-key": "key-of-alice"})

        async def forward(_: Authenticated) -> None: ...

        sys.setprofile(profile)
        try:
            stage.handle(event, forward).close()  # type: ignore[attr-defined]
        finally:
            sys.setprofile(None)
        return count

    many = {f"client-{n}": named(f"key {n}") for n in range(10_000)}
    assert calls(Authenticate(named={**many, **KEYS})) == calls(Authenticate(named=KEYS)) > 0


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2027-01-31", "2027-01-31T00:00:00+00:00"),
        ("2027-01-31T18:00:00Z", "2027-01-31T18:00:00+00:00"),
        ("2027-01-31 18:00", "2027-01-31T18:00:00+00:00"),
        ("2027-01-31T18:00:00+02:00", "2027-01-31T16:00:00+00:00"),
    ],
)
def test_a_time_without_offset_is_in_utc(text: str, utc: str) -> None:
    assert parse_time(text).astimezone(UTC).isoformat() == utc


# ---- the models of a key ----

MODELS = {
    "claude-*": ModelTarget("fake"),
    "small": ModelTarget("fake"),
    "large": ModelTarget("fake"),
    "large[1m]": ModelTarget("fake"),
}


async def resolved(allowed: AllowedModels, model: str) -> str:
    event = validated(model=model)
    event.exchange.allowed_models = allowed
    [out] = await run_stage(Resolve(MODELS, default="small"), [event])
    return str(out.target.model)


@for_each(
    ("names", "model"),
    [
        (("small",), "small"),
        (("small",), "small[1m]"),
        (("claude-*",), "claude-x"),
        (("s*l", "x"), "small"),
        (("*",), "another"),
    ],
)
async def test_an_allowed_model_is_resolved(names: tuple[str, ...], model: str) -> None:
    assert await resolved(AllowedModels(names), model) == model.removesuffix("[1m]")


@for_each(
    ("names", "model"),
    [
        (("small",), "large"),
        (("small",), "another"),
        (("claude-x",), "claude-y"),
        (("large",), "large[1m]"),
        ((), "small"),
    ],
)
async def test_another_model_is_not_found(names: tuple[str, ...], model: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        await resolved(AllowedModels(names), model)
    listed = ": " + ", ".join(names) if names else " no model"
    expected = f"model: {model} is not available; this API key may use{listed}"
    assert caught.value.message == expected


async def test_the_list_has_only_the_models_of_the_key() -> None:
    stage = ListModels(MODELS, {"fake": backend()})

    async def listed(**params: str) -> Any:
        event = Authenticated(http(method="GET", path_params=params))
        event.exchange.allowed_models = AllowedModels(("claude-*", "large"))
        _, body = await run_stage(stage, [event])
        return json.loads(body.data)

    assert [info["id"] for info in (await listed())["data"]] == ["large"]
    assert (await listed(id="claude-x"))["id"] == "claude-x"
    with pytest.raises(NotFoundError, match="this API key may use: claude-\\*, large"):
        await listed(id="small")


def test_the_record_in_json_does_not_have_them() -> None:
    exchange = Exchange(client="bob", allowed_models=AllowedModels(("a",)))
    assert "allowed_models" not in exchange.as_json()
    assert evolve(KEYS["bob"], models=None).allowed_models is None
