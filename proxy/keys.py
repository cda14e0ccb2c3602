"""Which keys the pipelines ask for, for what is answered outside of them."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from pipeline.config.schema import Config
from stages.authenticate import Authenticate
from stages.events import Authenticated, HttpRequest
from stages.messages_api.errors import AuthenticationError


def is_open(declaration: Config) -> bool:
    """Whether there is a pipeline that asks for no key.

    What a stage of one's own asks for is not known, so a pipeline with only such a stage counts.
    """
    return any(
        not any(isinstance(stage, Authenticate) and stage.keys for stage in pipeline.stages)
        for pipeline in declaration.pipelines
    )


async def may_use(declaration: Config, scope: Scope) -> bool:
    """Whether a pipeline with keys would let this request pass; if none has keys, any pipeline."""
    stages = [
        stage
        for pipeline in declaration.pipelines
        for stage in pipeline.stages
        if isinstance(stage, Authenticate)
    ]
    request = HttpRequest(scope["method"], scope["path"], dict(Headers(scope=scope)))
    for stage in [stage for stage in stages if stage.keys] or stages:
        try:
            await stage.handle(request, _nothing)
        except AuthenticationError:
            continue
        return True
    return False


async def _nothing(event: Authenticated) -> None: ...
