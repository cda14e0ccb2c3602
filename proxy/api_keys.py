"""Which API keys the pipelines accept, for paths that no pipeline serves."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from pipeline.config.schema import Config
from stages.authenticate import Authenticate
from stages.events import Authenticated, HttpRequest
from stages.messages_api.errors import AuthenticationError


def is_open(config: Config) -> bool:
    """Whether a pipeline requires no key.

    A custom stage may require a key, but this cannot be known: without an `authenticate` that has
    keys, a pipeline counts as open.
    """
    return any(
        not any(isinstance(stage, Authenticate) and not stage.is_open for stage in pipeline.stages)
        for pipeline in config.pipelines
    )


async def may_use(config: Config, scope: Scope) -> bool:
    """Whether the request has a key of some pipeline; always true if no pipeline has keys."""
    stages = [
        stage
        for pipeline in config.pipelines
        for stage in pipeline.stages
        if isinstance(stage, Authenticate)
    ]
    request = HttpRequest(scope["method"], scope["path"], dict(Headers(scope=scope)))
    for stage in [stage for stage in stages if not stage.is_open] or stages:
        try:
            await stage.handle(request, _discard)
        except AuthenticationError:
            continue
        return True
    return False


async def _discard(event: Authenticated) -> None: ...
