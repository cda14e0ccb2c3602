"""What lists of models report: names and context windows."""

from __future__ import annotations

from typing import Any

from proxy.probe.endpoints import models, window
from proxy.probe.reply import Reply
from tests.cases import for_each


def body(**members: Any) -> Reply:
    return Reply(200, "", (members,))


@for_each(
    ("reply", "expected"),
    [
        (body(data=[{"id": "m", "max_model_len": 40960}]), ("max_model_len", 40960)),
        (body(data=[{"id": "m", "context_length": 128}]), ("context_length", 128)),
        (
            body(data=[{"id": "m", "max_context_length": 9, "loaded_context_length": 4}]),
            ("loaded_context_length", 4),
        ),
        (body(models=[{"name": "m:latest", "context_length": 4096}]), ("context_length", 4096)),
        (body(default_generation_settings={"n_ctx": 512}), ("n_ctx", 512)),
        (body(data=[{"id": "another", "max_model_len": 40960}]), ("", 0)),
        (body(data=[{"id": "m", "meta": {"n_ctx_train": 8192}}]), ("", 0)),
        (body(data=[{"id": "m", "max_model_len": "many"}]), ("", 0)),
        (body(data="none"), ("", 0)),
        (Reply(400, "400: unknown field"), ("", 0)),
    ],
)
def test_the_window_of_each_server_is_found(reply: Reply, expected: tuple[str, int]) -> None:
    assert window(reply, "m") == expected


def test_models_are_those_with_an_id() -> None:
    assert models(body(data=[{"id": "a"}, {}, "b", {"id": 3}, {"id": "c"}])) == ("a", "c")
