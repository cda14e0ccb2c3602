"""The JSON schema of `output_config.format`, as an option or as an instruction to the model."""

from __future__ import annotations

from typing import Any

from attrs import Factory, frozen

from stages.messages_api.request import MessagesRequest, OutputFormat
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies
from stages.translation.json_schema import fit_schema, is_closed
from stages.wire.json_codec import encode

_FIELD = "output_config.format"
_INSTRUCTION = (
    "Answer with one JSON document that is valid against this JSON schema, and with nothing "
    "else: no words around it, no code fence.\n"
)


@frozen
class StructuredOutput:
    """How a request asks the backend for structured output."""

    options: dict[str, Any] = Factory(dict)
    instruction: str = ""
    """Text for the system prompt, if the backend takes no schema."""


_NO_FORMAT = StructuredOutput()


def structured_output(
    request: MessagesRequest, profile: Profile, fields: FieldPolicies
) -> StructuredOutput:
    """Translate the output format. A backend takes a schema, or only that the output is JSON."""
    if request.form is None or not fields.allows(_FIELD):
        return _NO_FORMAT
    if fields.policy(_FIELD) == "map":
        return StructuredOutput(_response_format(request.form, profile, fields))
    return StructuredOutput(
        {"response_format": {"type": "json_object"}} if profile.json_object else {},
        _INSTRUCTION + encode(request.form.schema).decode(),
    )


def _response_format(form: OutputFormat, profile: Profile, fields: FieldPolicies) -> dict[str, Any]:
    fitted = fit_schema(form.schema, profile)
    strict = not fitted.loosened and (
        is_closed(fitted.schema) or not profile.strict_needs_closed_schema
    )
    if not strict:
        fields.report(_FIELD, "not-strict")
    schema = {"name": "response", "schema": fitted.schema, "strict": strict}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
