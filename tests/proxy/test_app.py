"""The application around the pipelines: its routes, and the life of its backends."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, evolve, field

from pipeline.config.schema import Config
from proxy.app import App
from proxy.config import read
from stages.messages_api.errors import InternalError
from stages.profiles.profile import Profile
from tests.proxy.support import Server

CONFIG = """
backends:
  one: {base_url: "http://one.invalid/v1"}
  two: {base_url: "http://two.invalid/v1"}
  idle: {base_url: "http://idle.invalid/v1"}
models:
  "maker/model": {backend: one}
  special: {backend: two}
  other: {backend: one}
pipelines:
  one-model:
    route: "GET /v1/models/{id:path}"
    stages: [authenticate: &key {keys: [right]}, list-models]
  models:
    route: [GET /v1/models, "GET /v1/models/~all", "GET /{any}/models/~all/{rest}"]
    stages: [authenticate: *key, list-models]
  rest:
    route: "GET /v2/{all:path}"
    stages: [authenticate: {keys: [other]}, list-models]
  asked-for-by-post:
    route: POST /v1/models
    stages: [authenticate: {keys: [other]}, list-models]
"""


@define(eq=False)
class FakeBackend:
    """Opens as soon as `ready` is set, or fails with `failure`."""

    failure: Exception | None = None
    closing: Exception | None = None
    ready: anyio.Event = field(factory=anyio.Event)
    opened: anyio.Event = field(factory=anyio.Event)
    opens: int = 0
    closed: bool = False
    profile: Profile = Profile("http://fake.invalid/v1")

    async def open(self) -> None:
        self.opens += 1
        if self.failure:
            self.opened.set()
            raise self.failure
        await self.ready.wait()
        self.opened.set()

    async def aclose(self) -> None:
        self.closed = True
        if self.closing:
            raise self.closing


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "pipelines.yaml"
    file.write_text(CONFIG)
    return read(str(file), {})


async def ask(config: Config, method: str, path: str, key: str = "right") -> Server:
    """One request to the application."""
    server = Server()
    app = App(config)
    asked = server.scope([("x-api-key", key)], method=method, path=path)
    await app.route(asked, server.receive, server.send)
    return server


def living(config: Config, **backends: FakeBackend) -> AbstractAsyncContextManager[None]:
    """The life of the application with other backends."""
    return App(with_backends(config, **backends)).lifespan()


def with_backends(config: Config, **backends: FakeBackend) -> Config:
    """The config with other backends."""
    return evolve(config, sections={**config.sections, "backends": backends})


class TestRoutes:
    async def test_a_fixed_path_wins_over_an_earlier_pattern(self, config: Config) -> None:
        listed = await ask(config, "GET", "/v1/models/~all")
        assert len(json.loads(listed.body)["data"]) == 3

    async def test_a_longer_pattern_wins_over_a_shorter(self, config: Config) -> None:
        assert (await ask(config, "GET", "/v2/models/~all/x")).status == 200
        assert (await ask(config, "GET", "/v2/models")).status == 401

    async def test_a_pattern_gives_its_parameter(self, config: Config) -> None:
        one = await ask(config, "GET", "/v1/models/maker/model")
        assert json.loads(one.body)["id"] == "maker/model"

    async def test_each_method_of_a_path_has_its_pipeline(self, config: Config) -> None:
        for method, key, status in [
            ("GET", "right", 200),
            ("POST", "other", 200),
            ("POST", "right", 401),
        ]:
            assert (await ask(config, method, "/v1/models", key)).status == status

    async def test_other_methods_get_the_allowed_ones(self, config: Config) -> None:
        refused = await ask(config, "PATCH", "/v1/models")
        assert refused.status == 405
        assert refused.headers["allow"] == "GET, HEAD, POST"
        assert json.loads(refused.body)["error"]["type"] == "invalid_request_error"

    @pytest.mark.parametrize("path", ["/v1/model", "/v1/messages", "/health/", "/v1"])
    async def test_nothing_is_redirected(self, path: str, config: Config) -> None:
        missing = await ask(config, "GET", path)
        assert missing.status == 404
        reported = json.loads(missing.body)
        assert reported["error"]["type"] == "not_found_error"
        assert reported["request_id"] == missing.headers["request-id"]

    @pytest.mark.parametrize("path", ["/", "/health"])
    async def test_health_checks_need_no_pipeline(self, path: str, config: Config) -> None:
        assert (await ask(config, "GET", path, key="")).status == 200


class TestLife:
    async def test_it_begins_before_the_backends_are_open(self, config: Config) -> None:
        one, two = FakeBackend(), FakeBackend()
        with anyio.fail_after(30):
            async with living(config, one=one, two=two):
                assert not one.opened.is_set()
                for backend in (two, one):
                    backend.ready.set()
                    await backend.opened.wait()
        assert (one.opens, two.opens) == (1, 1)

    async def test_it_ends_while_a_backend_is_still_opening(self, config: Config) -> None:
        one = FakeBackend()
        with anyio.fail_after(30):
            async with living(config, one=one, two=FakeBackend()):
                await anyio.wait_all_tasks_blocked()
        assert one.opens == 1
        assert one.closed

    async def test_only_backends_referenced_by_models_are_opened(self, config: Config) -> None:
        one, two, idle = FakeBackend(), FakeBackend(), FakeBackend()
        async with living(config, one=one, two=two, idle=idle):
            await anyio.wait_all_tasks_blocked()
        assert (one.opens, two.opens, idle.opens) == (1, 1, 0)

    async def test_a_backend_that_cannot_be_opened_is_reported(
        self, config: Config, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken, fine = FakeBackend(failure=InternalError("no memory")), FakeBackend()
        async with living(config, one=broken, two=fine):
            await broken.opened.wait()
            fine.ready.set()
            await fine.opened.wait()
        assert "backend `one` cannot be opened: no memory" in caplog.text
        assert fine.closed

    async def test_all_are_closed_even_if_one_cannot_be(
        self, config: Config, caplog: pytest.LogCaptureFixture
    ) -> None:
        one, two = FakeBackend(closing=OSError("stuck")), FakeBackend(closing=OSError("stuck"))
        async with living(config, one=one, two=two):
            pass
        assert one.closed
        assert two.closed
        assert "backend `one` cannot be closed: stuck" in caplog.text
        assert "backend `two` cannot be closed: stuck" in caplog.text


async def readiness(app: App, key: str = "right") -> tuple[int, dict[str, Any]]:
    """What /health/ready answers."""
    server = Server()
    scope = server.scope([("x-api-key", key)], method="GET", path="/health/ready")
    await app.route(scope, server.receive, server.send)
    reported: dict[str, Any] = json.loads(server.body)
    return server.status, reported


class TestReadiness:
    async def test_it_is_ready_when_the_backends_of_models_are_open(self, config: Config) -> None:
        one, two = FakeBackend(), FakeBackend()
        app = App(with_backends(config, one=one, two=two, idle=FakeBackend()))
        assert (await readiness(app))[0] == 503  # its life has not begun
        async with app.lifespan():
            one.ready.set()
            await one.opened.wait()
            await anyio.wait_all_tasks_blocked()
            assert await readiness(app) == (
                503,
                {
                    "status": "not ready",
                    "digest": config.public_digest,
                    "backends": {"one": {"state": "ready"}, "two": {"state": "it is being opened"}},
                    "targets": {},
                },
            )
            two.ready.set()
            await two.opened.wait()
            await anyio.wait_all_tasks_blocked()
            status, reported = await readiness(app)
            assert (status, reported["status"]) == (200, "ready")
            app.drain()
            status, reported = await readiness(app)
            assert (status, reported["status"]) == (503, "stopping")

    @pytest.mark.parametrize("key", ["", "wrong"])
    async def test_row_d4_names_are_only_for_clients_that_may_use_the_proxy(
        self, key: str, config: Config
    ) -> None:
        app = App(with_backends(config, one=FakeBackend(), two=FakeBackend()))
        assert await readiness(app, key) == (503, {"status": "not ready"})
        assert (await readiness(app, "other"))[1].keys() == {
            "status",
            "digest",
            "backends",
            "targets",
        }

    async def test_row_d4_a_single_pipeline_without_keys_shows_no_names(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "open.yaml"
        file.write_text(CONFIG.replace("[authenticate: *key, ", "[authenticate, "))
        assert (await readiness(App(read(str(file), {})), ""))[1].keys() == {"status"}

    async def test_row_d4_a_proxy_without_keys_shows_names(self, tmp_path: Path) -> None:
        file = tmp_path / "open.yaml"
        file.write_text(CONFIG.replace("right", "").replace("other]", "]"))
        assert "backends" in (await readiness(App(read(str(file), {})), ""))[1]

    async def test_readiness_does_not_give_the_reason_of_a_failure(self, config: Config) -> None:
        broken = FakeBackend(failure=InternalError("no memory at /secret"))
        app = App(with_backends(config, one=broken))
        async with app.lifespan():
            await broken.opened.wait()
            await anyio.wait_all_tasks_blocked()
            status, reported = await readiness(app)
        assert (status, reported["backends"]) == (503, {"one": {"state": "it cannot be opened"}})

    async def test_readiness_has_the_state_of_targets(self, config: Config) -> None:
        one = FakeBackend()
        one.ready.set()
        app = App(with_backends(config, one=one))
        breakers = config.sections["circuit_breaker"]
        for label in ("one/a", "one/b"):
            for _ in range(breakers.failures):
                now = anyio.current_time()
                breakers.get(label).attempt(now).failed(now)
        async with app.lifespan():
            await one.opened.wait()
            await anyio.wait_all_tasks_blocked()
            status, reported = await readiness(app)
        assert reported["targets"] == {"one/a": {"state": "open"}, "one/b": {"state": "open"}}
        assert (status, reported["status"]) == (200, "ready")
