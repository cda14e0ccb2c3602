"""A small world of events and stages: Start -> Middle -> End."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import Factory, frozen

from pipeline import ConfigError, Send, Stage, reference
from pipeline.chain import AnyStage, Chain
from pipeline.config.load import load
from pipeline.config.options import UnavailableError
from pipeline.config.problems import Location
from pipeline.config.registry import Registry, StageClass
from pipeline.config.schema import Config, Schema
from pipeline.config.type_check import Step

T = TypeVar("T")


@frozen
class Event:
    """The base class of the events."""

    text: str = ""


@frozen
class Start(Event):
    pass


@frozen
class Middle(Event):
    pass


@frozen
class NarrowMiddle(Middle):
    pass


@frozen
class End(Event):
    pass


@frozen
class Begin(Stage[Start, Middle]):
    """Makes the middle of the start."""

    async def handle(self, event: Start, forward: Send[Middle]) -> None:
        await forward(Middle(event.text))


@frozen
class Finish(Stage[Middle, End]):
    """Makes the end of the middle."""

    async def handle(self, event: Middle, forward: Send[End]) -> None:
        await forward(End(event.text))


@frozen
class Tap(Stage[T, T]):
    """Fits anywhere; records each event under its name."""

    name: str = "tap"
    log: list[str] = Factory(list)

    async def handle(self, event: T, forward: Send[T]) -> None:
        self.log.append(f"{self.name} {type(event).__name__}")
        await forward(event)


@frozen
class Traced(Stage[T, T]):
    """Writes down when it is opened and left, and still forwards its name on leaving."""

    name: str
    log: list[str]

    @asynccontextmanager
    async def open(self, forward: Send[T]) -> AsyncIterator[Send[T]]:
        self.log.append(f"open {self.name}")
        send: Send[Any] = forward
        try:
            yield self.receiver(forward)
            await send(Middle(f"last of {self.name}"))
        finally:
            self.log.append(f"left {self.name}")

    async def handle(self, event: T, forward: Send[T]) -> None:
        self.log.append(f"{self.name} gets {getattr(event, 'text', '')}")
        await forward(event)


@frozen
class Cache(Stage[Start, Start | End]):
    """Has some responses cached."""

    known: tuple[str, ...] = ()

    async def handle(self, event: Start, forward: Send[Start | End]) -> None:
        await forward(End("cached") if event.text in self.known else event)


class SomeError(Exception):
    """An error that a stage may raise."""


@frozen
class Failing(Stage[Middle, End]):
    """Raises `error`."""

    error: Exception

    async def handle(self, event: Middle, forward: Send[End]) -> None:
        raise self.error


async def run(*stages: AnyStage, event: Event | None = None) -> list[Any]:
    """The output of `stages` for one event."""
    arrived: list[Any] = []

    async def sink(event: Any) -> None:
        arrived.append(event)

    await Chain.of(stages, Start).run(event or Start("x"), sink)
    return arrived


def step(stage: StageClass, line: int = 1) -> Step:
    """A stage in a list, named after its class."""
    return Step(stage.__name__.lower(), Location(line, 9), stage)


@frozen
class Thing:
    """An entry of the section `things`; one may build on another."""

    size: int = 1
    base: str | None = reference("things", None)
    needs: str = ""

    def __attrs_post_init__(self) -> None:
        if self.needs:
            raise UnavailableError(f"it needs {self.needs}", f"get {self.needs}")


@frozen
class Settings:
    """The section `settings`."""

    name: str = "none"
    port: int = 80


SCHEMA = Schema(
    sections={"settings": Settings, "things": dict[str, Thing]},
    registry=Registry("tests.pipeline.toys", ("begin", "pick-one", "finish", "tap"), "no.group"),
    start=Start,
    end=End,
)


def load_config(folder: Path, text: str, **environ: str) -> Config:
    """Load `text` from a file in `folder`."""
    file = folder / "pipelines.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, SCHEMA, environ)


def problems(folder: Path, text: str, **environ: str) -> list[tuple[int, int, str, str]]:
    """The problems of `text`: line, column, code, message."""
    with pytest.raises(ConfigError) as caught:
        load_config(folder, text, **environ)
    return [(p.location.line, p.location.column, p.code, p.message) for p in caught.value.problems]
