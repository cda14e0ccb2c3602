"""What of a request was dropped or changed, collected while translating."""

from __future__ import annotations

from attrs import Factory, define


@define
class Notes:
    """Short names, each once, in the order they came up: `top_k:dropped`."""

    names: dict[str, None] = Factory(dict)

    def add(self, name: str) -> None:
        """Note something; a second time is no news."""
        self.names[name] = None

    def listed(self) -> tuple[str, ...]:
        """All notes."""
        return tuple(self.names)
