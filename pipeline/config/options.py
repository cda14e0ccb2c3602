"""Options of stages and sections: attrs fields that YAML sets, and the errors of their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from pipeline.config.redaction import SecretPart

Check = TypeVar("Check", bound=Callable[..., None])


def option(
    default: Any = attrs.NOTHING,
    *,
    help: str = "",
    variable: str = "",
    renamed_from: str = "",
    secret: bool | SecretPart = False,
    **field: Any,
) -> Any:
    """Make a field that YAML sets. `llm-proxy stages` shows `help`.

    `variable` names an environment variable. If YAML does not set the option, its value is a list
    with the value of that variable. `renamed_from` is an old name that still works, with a warning.
    No message shows a `secret` value, or those parts of it whose spans the function `secret` gives.
    """
    validators = field.pop("validator", None) or []
    validators = validators if isinstance(validators, (list, tuple)) else [validators]
    metadata = {
        "help": help,
        "variable": variable,
        "renamed_from": renamed_from,
        "secret": secret,
        "validators": validators,
    }
    field["validator"] = [_naming_the_option(validator) for validator in validators]
    return attrs.field(default=default, metadata=metadata, **field)


def _naming_the_option(validator: Callable[..., None]) -> Callable[..., None]:
    """Make `validator` raise OptionError, which names the option."""

    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        try:
            validator(instance, attribute, value)
        except OptionError:
            raise
        except (TypeError, ValueError) as error:
            text = str(error.args[0] if error.args else error)
            name = attribute.name
            raise OptionError(name, text.replace(f"'{name}'", f"`{name}`", 1)) from error

    return validate


def text_pattern(pattern: str) -> Callable[[Check], Check]:
    """Mark a validator: each text that it accepts matches `pattern` as a whole.

    The JSON Schema of a config has the pattern, so it is one of ECMAScript. Of a list or mapping it
    is for the values.
    """

    def mark(validator: Check) -> Check:
        validator.text_pattern = pattern  # type: ignore[attr-defined]
        return validator

    return mark


def reference(to: str, default: Any = attrs.NOTHING, *, help: str = "") -> Any:
    """Make an option whose value names an entry of the section `to`."""
    return attrs.field(default=default, metadata={"reference": to, "help": help})


def section(name: str, default: Any = attrs.NOTHING) -> Any:
    """Make a field that gets the whole section `name` of the config; YAML cannot set it.

    `default` is for stages that code makes.
    """
    return attrs.field(default=default, metadata={"section": name})


class OptionError(ValueError):
    """Raised by a validator: the value of `option` is wrong. The message says why."""

    def __init__(self, option: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.option = option
        self.hint = hint


class UnavailableError(ValueError):
    """Raised while an entry of a section is built: it is valid, but cannot work on this machine.

    It is an error of the config only if something refers to the entry.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
