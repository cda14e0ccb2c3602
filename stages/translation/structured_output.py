"""The form of the answer, a JSON schema: as an option, or as an instruction to the model."""

from __future__ import annotations

from typing import Any

from stages.messages_api.request import MessagesRequest
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies
from stages.translation.json_schema import fit_schema, is_closed
from stages.wire.json_codec import encode

_FIELD = "output_config.format"
_INSTRUCTION = (
    "Answer with one JSON document that is valid against this JSON schema, and with nothing "
    "else: no words around it, no code fence.\n"
)


def form_options(
    request: MessagesRequest, profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """`response_format`, of which the backend takes a schema or only that it is to be JSON."""
    if request.form is None or not fields.allows(_FIELD):
        return {}
    if fields.policy(_FIELD) == "map":
        made = fit_schema(request.form.schema, profile)
        schema = made.schema
        strict = not made.loosened and (is_closed(schema) or not profile.strict_needs_closed_schema)
        if not strict:
            fields.report(_FIELD, "not-strict")
        held = {"name": "response", "schema": schema, "strict": strict}
        return {"response_format": {"type": "json_schema", "json_schema": held}}
    return {"response_format": {"type": "json_object"}} if profile.json_object else {}


def form_instruction(request: MessagesRequest, fields: FieldPolicies) -> str:
    """What the system prompt says of the form; empty where the backend is given the schema."""
    if request.form is None or fields.policy(_FIELD) != "emulate":
        return ""
    return _INSTRUCTION + encode(request.form.schema).decode()
