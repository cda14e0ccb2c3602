"""What becomes of each field of a request, and what was said of it to the client.

The policies are those of the backend's profile; see `stages.profiles.policies`.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define

from stages.exchange import Degradation
from stages.messages_api.errors import UnsupportedError

_SHOWN = 40
_WHY = {
    "image.file": "there is no Files API here: send the image as base64 or URL",
    "image.base64": "this model takes no images; choose one with vision",
    "image.url": "this backend fetches no URLs: send the image as base64",
    "document.file": "there is no Files API here: send the document itself",
    "document.url": "this backend fetches no documents: send the document itself",
    "document.pdf": "this backend takes no PDF: send the document as text",
    "server_tools": "only Anthropic's servers can run it: leave it out",
    "server_tools.alone": "only Anthropic's servers can run it: give the model another tool for it",
    "container.skills": "skills run on Anthropic's servers only: leave them out",
    "prefill": (
        "This model does not support assistant message prefill. "
        "The conversation must end with a user message."
    ),
}


#: The text of each PDF, by its base64, for a backend that takes no files. The translation adds
#: those it needs and does not find, with None. They are to be read; then it is to be made again.
PdfTexts = dict[str, str | None]


@define
class FieldPolicies:
    """The policies for one request, and the degradations made while it is translated."""

    policies: Mapping[str, str]
    strict: bool = False
    pdfs: PdfTexts = Factory(dict)
    _degradations: dict[str, Degradation] = Factory(dict)

    def policy(self, name: str) -> str:
        """The policy for the field `name`."""
        return self.policies[name]

    def allows(self, name: str, shown: str = "") -> bool:
        """Whether to translate the field `name` (called `shown` to the client).

        Raises UnsupportedError where the policy is to reject.
        """
        policy = self.policies[name]
        if policy in ("map", "emulate"):
            return True
        if policy == "reject":
            why = _WHY.get(name, "this backend cannot do it, and would answer as if it had")
            raise UnsupportedError(f"{(shown or name)[:_SHOWN]}: {why}")
        if policy == "warn":
            self.report(shown or name, "dropped", name)
        return False

    def report(self, name: str, what: str, policy: str = "") -> None:
        """Tell the client. Raises UnsupportedError if it wants nothing dropped or changed.

        `policy` is the name to count it by, where `name` may be one that the client chose.
        """
        if self.strict:
            raise UnsupportedError(f"{name[:_SHOWN]}: would be {what} for this backend (strict)")
        degradation = Degradation(name[:_SHOWN], what, policy or name)
        self._degradations[str(degradation)] = degradation

    def degradations(self) -> tuple[Degradation, ...]:
        """What was dropped or changed, each once, in the order it came up."""
        return tuple(self._degradations.values())
