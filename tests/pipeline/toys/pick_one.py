from __future__ import annotations

from attrs import frozen

from pipeline import Send, Stage, option, reference, section
from tests.pipeline.support import Middle, Start, Thing


@frozen
class PickOne(Stage[Start, Middle]):
    """Has every kind of field."""

    things: dict[str, Thing] = section("things")
    default: str | None = reference("things", None)
    others: tuple[str, ...] = reference("things", ())
    limit: int = option(5)
    keys: tuple[str, ...] = option((), variable="SOME_KEY")

    async def handle(self, event: Start, forward: Send[Middle]) -> None:
        await forward(Middle(f"{event.text} {self.default}"))
