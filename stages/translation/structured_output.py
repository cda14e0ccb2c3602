"""The form of the answer, a JSON schema: as an option, or as an instruction to the model."""

from __future__ import annotations

from typing import Any

from stages.messages_api.request import MessagesRequest
from stages.profiles.profile import Profile
from stages.translation.field_policies import Fields
from stages.translation.json_schema import fitted, is_closed
from stages.wire.json_codec import encode

_FIELD = "output_config.format"
_INSTRUCTION = (
    "Answer with one JSON document that is valid against this JSON schema, and with nothing "
    "else: no words around it, no code fence.\n"
)


def form_options(request: MessagesRequest, profile: Profile, fields: Fields) -> dict[str, Any]:
    """`response_format`, of which the backend takes a schema or only that it is to be JSON."""
    if request.form is None or not fields.keep(_FIELD):
        return {}
    if fields.how(_FIELD) == "map":
        made = fitted(request.form.schema, profile)
        schema = made.schema
        strict = not made.loosened and (is_closed(schema) or not profile.strict_needs_all)
        if not strict:
            fields.note(_FIELD, "not-strict")
        held = {"name": "response", "schema": schema, "strict": strict}
        return {"response_format": {"type": "json_schema", "json_schema": held}}
    return {"response_format": {"type": "json_object"}} if profile.json_object else {}


def form_instruction(request: MessagesRequest, fields: Fields) -> str:
    """What the system prompt says of the form; empty where the backend is given the schema."""
    if request.form is None or fields.how(_FIELD) != "emulate":
        return ""
    return _INSTRUCTION + encode(request.form.schema).decode()
