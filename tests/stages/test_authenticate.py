"""The stage `authenticate`."""

from __future__ import annotations

import base64

import pytest

from pipeline.testing import check_stage, run_stage
from stages.authenticate import Authenticate
from stages.events import Authenticated, HttpRequest
from stages.messages_api.errors import AuthenticationError
from tests.cases import for_each
from tests.support import ON_BOTH, http

ONE = Authenticate(keys=("s3cret-key",))
TWO = Authenticate(keys=("first-key", "second-key"))


@pytest.fixture
def anyio_backend() -> str:
    """The stage awaits nothing; its contract is tested on trio too."""
    return "asyncio"


def asking(**headers: str) -> HttpRequest:
    """A request with headers, written with underscores."""
    return http(headers={name.replace("_", "-"): value for name, value in headers.items()})


async def client(stage: Authenticate, **headers: str) -> str:
    """Whom the stage takes the sender for."""
    event = asking(**headers)
    [out] = await run_stage(stage, [event])
    assert isinstance(out, Authenticated)
    assert out.http is event
    return out.exchange.client


async def refusal(stage: Authenticate, **headers: str) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as raised:
        await run_stage(stage, [asking(**headers)])
    return raised.value


@ON_BOTH
async def test_it_keeps_to_the_contract() -> None:
    await check_stage(ONE, [asking(x_api_key="s3cret-key")])
    await check_stage(Authenticate(), [asking()])


@for_each(
    "headers",
    [
        {"x_api_key": "s3cret-key"},
        {"x_api_key": "s3cret-key \t"},
        {"authorization": "Bearer s3cret-key"},
        {"authorization": "bearer s3cret-key"},
        {"authorization": "BEARER s3cret-key"},
        {"authorization": "Bearer   s3cret-key "},
        {"x_api_key": "", "authorization": "Bearer s3cret-key"},
        {"x_api_key": "s3cret-key", "authorization": "Bearer somebody-elses"},
        {"x_api_key": "s3cret-key", "authorization": "Basic eA=="},
        {"x_api_key": "somebody-elses", "authorization": "Bearer s3cret-key"},
        {"x_api_key": "somebody-elses, s3cret-key"},
        {"authorization": "Bearer somebody-elses, bearer s3cret-key"},
        {"authorization": "Basic eA==, Bearer s3cret-key"},
        {"x_api_key": " , ", "authorization": "Bearer s3cret-key"},
    ],
    ids=[
        "x-api-key",
        "white space after it",
        "Bearer",
        "bearer",
        "BEARER",
        "spaces",
        "an empty x-api-key",
        "both",
        "Basic too",
        "another's as x-api-key",
        "x-api-key twice",
        "Bearer twice",
        "Basic before Bearer",
        "an empty x-api-key twice",
    ],
)
async def test_row_c2_a_right_key_passes_wherever_it_is(headers: dict[str, str]) -> None:
    assert await client(ONE, **headers) == "key-1"


@for_each(
    "headers",
    [
        {"x_api_key": "wrong"},
        {"x_api_key": "s3cret-key2"},
        {"x_api_key": "s3cret-ke"},
        {"x_api_key": "S3CRET-KEY"},
        {"x_api_key": "wrong, s3cret-key2"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer s3cret-key s3cret-key"},
        {"x_api_key": "wrong", "authorization": "Bearer wrong-too"},
        {"x_api_key": "wrong", "authorization": "Basic s3cret-key"},
        {"x_api_key": "," * 10_000 + "s3cret-key"},
        {"x_api_key": "\x00"},
        {"x_api_key": "ÿ" * 10_000},
    ],
    ids=[
        "another",
        "longer",
        "shorter",
        "in capitals",
        "twice",
        "as Bearer",
        "twice as Bearer",
        "in both",
        "in x-api-key, and Basic is no Bearer",
        "after ten thousand commas",
        "NUL",
        "long and not ASCII",
    ],
)
async def test_a_wrong_key_is_refused(headers: dict[str, str]) -> None:
    assert (await refusal(ONE, **headers)).message == "invalid x-api-key"


@for_each(
    "headers",
    [
        {},
        {"x_api_key": ""},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "s3cret-key"},
        {"authorization": "Basic s3cret-key"},
        {"api_key": "s3cret-key"},
    ],
    ids=[
        "no header",
        "an empty key",
        "an empty header",
        "Bearer alone",
        "Bearer and a space",
        "no scheme",
        "another scheme",
        "another header",
    ],
)
async def test_without_a_key_the_way_to_send_one_is_reported(headers: dict[str, str]) -> None:
    error = await refusal(ONE, **headers)
    assert error.message == (
        "no API key was given: send it as x-api-key or as Authorization: Bearer"
    )
    assert (error.status, error.type) == (401, "authentication_error")


async def test_row_c2_of_two_right_keys_x_api_key_names_the_client() -> None:
    assert await client(TWO, x_api_key="second-key", authorization="Bearer first-key") == "key-2"


async def test_row_c2_a_key_with_a_comma_passes() -> None:
    stage = Authenticate(keys=("one, two",))
    assert await client(stage, x_api_key="one, two") == "key-1"
    assert await client(stage, authorization="Bearer one, two") == "key-1"
    await refusal(stage, x_api_key="one", authorization="Bearer two")


async def test_each_of_several_keys_passes_under_its_own_name() -> None:
    assert await client(TWO, x_api_key="first-key") == "key-1"
    assert await client(TWO, authorization="Bearer second-key") == "key-2"
    assert (await refusal(TWO, x_api_key="third-key")).message == "invalid x-api-key"


async def test_empty_keys_are_none() -> None:
    stage = Authenticate(keys=("", "s3cret-key", ""))
    assert stage.keys == ("s3cret-key",)
    assert await client(stage, x_api_key="s3cret-key") == "key-1"
    await refusal(stage, x_api_key="")


@pytest.mark.parametrize("keys", [(), ("",), ("", "")], ids=str)
async def test_with_no_key_everybody_is_let_in(keys: tuple[str, ...]) -> None:
    stage = Authenticate(keys=keys)
    assert stage.is_open
    assert await client(stage) == "anonymous"
    assert await client(stage, x_api_key="anything") == "anonymous"


async def test_with_a_key_allow_anonymous_has_no_effect() -> None:
    stage = Authenticate(keys=("s3cret-key",), allow_anonymous=True)
    assert not stage.is_open
    await refusal(stage)


async def test_a_key_of_white_space_is_refused() -> None:
    stage = Authenticate(keys=(" ",))
    assert not stage.is_open
    await refusal(stage)
    await refusal(stage, authorization="Bearer  ")


@pytest.mark.parametrize("key", ["schlüssel-1", "voilà", "ключ-ключ", "鍵🔑"])
async def test_a_key_that_is_not_ascii_passes_as_it_arrives_in_utf8(key: str) -> None:
    # The bytes of a header are read as Latin-1, whatever the client meant.
    arriving = key.encode().decode("latin-1")
    stage = Authenticate(keys=(key,))
    assert await client(stage, x_api_key=arriving) == "key-1"
    assert await client(stage, authorization=f"Bearer {arriving}") == "key-1"
    await refusal(stage, x_api_key=arriving[:-1])


async def test_a_key_that_is_not_ascii_passes_as_it_arrives_in_latin_1() -> None:
    assert await client(Authenticate(keys=("schlüssel-1",)), x_api_key="schlüssel-1") == "key-1"


async def test_a_key_of_bytes_that_are_no_text_passes() -> None:
    from_environment = b"\xff\xfe-key".decode("utf-8", "surrogateescape")
    stage = Authenticate(keys=(from_environment,))
    assert await client(stage, x_api_key=b"\xff\xfe-key".decode("latin-1")) == "key-1"


async def test_no_text_shows_a_key() -> None:
    value = asking(x_api_key="s3cret-wrong", authorization="Bearer s3cret-token")
    error = await refusal(ONE, x_api_key="s3cret-wrong", authorization="Bearer s3cret-token")
    [passed] = await run_stage(ONE, [asking(x_api_key="s3cret-key")])
    for output in (ONE, value, passed, error, error.body("req_1"), str(error), error.headers):
        assert "s3cret" not in repr(output)


async def test_the_body_is_not_read() -> None:
    async def read(limit: int) -> bytes:
        raise AssertionError("the body was read")

    request = HttpRequest("POST", "/v1/messages", {"x-api-key": "s3cret-key"}, read_body=read)
    [out] = await run_stage(ONE, [request])
    assert out == Authenticated(request)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


BASIC = Authenticate(keys=("s3cret:kéy",), basic=True)


@for_each(
    "authorization",
    [basic("", "s3cret:kéy"), basic("anybody", "s3cret:kéy").replace("Basic", "bAsIc")],
    ids=["no user", "any user"],
)
async def test_with_basic_a_key_may_be_a_password(authorization: str) -> None:
    assert await client(BASIC, authorization=authorization) == "key-1"
    assert await client(BASIC, x_api_key="s3cret:kéy") == "key-1"


@for_each(
    "headers",
    [
        {},
        {"authorization": basic("s3cret:kéy", "")},
        {"authorization": basic("x", "wrong")},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic eA=="},
        {"x_api_key": "wrong"},
    ],
    ids=["nothing", "key as user", "wrong", "not base64", "no password", "a wrong x-api-key"],
)
async def test_with_basic_a_refusal_makes_a_browser_ask(headers: dict[str, str]) -> None:
    error = await refusal(BASIC, **headers)

    assert error.headers == {"www-authenticate": 'Basic realm="llm-proxy", charset="UTF-8"'}


async def test_with_basic_a_person_reads_where_to_type_the_key() -> None:
    assert (await refusal(BASIC)).message.endswith("Bearer, or type it as the password")


async def test_without_basic_a_password_is_no_key() -> None:
    error = await refusal(ONE, authorization=basic("", "s3cret-key"))

    assert error.headers == {}
