"""The policy for each field of a request, and the report of fields that were dropped or changed.

The policies are those of the backend's profile; see `stages.profiles.policies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import Factory, define

from stages.exchange import Degradation
from stages.messages_api.errors import UnsupportedError

_MAX_NAME = 40  # characters of a field's name: the client may have chosen it
_REASONS = {
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


#: The text of each PDF, by its base64, for a backend that takes no files. The translation adds the
#: missing PDFs with None. The caller reads them and repeats the translation.
PdfTexts = dict[str, str | None]


@define
class FieldPolicies:
    """The policies for one request, and the degradations of its translation."""

    policies: Mapping[str, str]
    strict: bool = False
    pdfs: PdfTexts = Factory(dict)
    _degradations: dict[str, Degradation] = Factory(dict)

    def policy(self, name: str) -> str:
        """Return the policy for the field `name`."""
        return self.policies[name]

    def allows(self, name: str, label: str = "") -> bool:
        """Whether to translate the field `name`. Errors and reports name it `label`.

        Reports a field that the policy drops. Raises UnsupportedError if the policy is to reject.
        """
        policy = self.policies[name]
        if policy in ("map", "emulate"):
            return True
        if policy == "reject":
            reason = _REASONS.get(name, "this backend cannot do it, and would answer as if it had")
            raise UnsupportedError(f"{(label or name)[:_MAX_NAME]}: {reason}")
        if policy == "warn":
            self.report(label or name, "dropped", name)
        return False

    def report(self, name: str, action: str, policy: str = "") -> None:
        """Report that a field was dropped or changed. Raises UnsupportedError if `strict`.

        `policy` is the name to count it by, if the client may have chosen `name`.
        """
        if self.strict:
            raise UnsupportedError(
                f"{name[:_MAX_NAME]}: would be {action} for this backend (strict)"
            )
        degradation = Degradation(name[:_MAX_NAME], action, policy or name)
        self._degradations[str(degradation)] = degradation

    def without_degradations(self) -> FieldPolicies:
        """Return the same policies, with an empty report."""
        return FieldPolicies(self.policies, self.strict, self.pdfs)

    def repeat(self, degradations: Iterable[Degradation]) -> None:
        """Report what an earlier translation of the same turns reported."""
        self._degradations.update((str(each), each) for each in degradations)

    def degradations(self) -> tuple[Degradation, ...]:
        """Return the degradations, each once, in the order of the reports."""
        return tuple(self._degradations.values())
