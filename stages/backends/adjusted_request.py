"""Adjust a request after a backend's refusal, and send it again.

    the backend refuses                   the request is sent again
    -----------------------------------   ----------------------------------------------------
    the output limit (OutputLimitError)   once, with the limit that fits
    an option it can do without           without it; after the same error again, with it, and
                                          without the next option that the error may be about;
                                          at most `_MAX_DROPPED` times
    anything else                         not: the refusal goes to the client

A refused option is remembered only after the request without it was accepted. Nothing has been
forwarded when a request is sent again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import Factory, define, evolve

from stages.backends.call import BackendCall
from stages.backends.refused_options import RefusedOption, find_refused_options
from stages.chat_completions.overflow import lower_limit
from stages.events import ChatRequest, LoweredBy
from stages.exchange import Target
from stages.messages_api.errors import (
    InvalidRequestError,
    OutputLimitError,
    PromptTooLongError,
    drop_traceback,
)
from stages.profiles.profile import Profile, merge_overrides

_MAX_DROPPED = 4
_DIGIT = re.compile(r"\d")


@define
class AdjustedRequest:
    """The request and the call in their current form. `profile_for` returns a target's profile."""

    request: ChatRequest
    call: BackendCall
    profile_for: Callable[[Target], Profile]
    dropped_options: list[RefusedOption] = Factory(list)
    """The options that are left out now."""
    limit_error: OutputLimitError | None = None
    _profile: Profile | None = None
    """The profile without the dropped options, except for the last one."""
    _last_message: str = ""
    """The backend's last error. If it repeats, the last dropped option was not the cause."""
    _other_candidates: list[RefusedOption] = Factory(list)
    """Other options that this error may be about."""
    _attempts: int = 0

    def adjust(self, error: InvalidRequestError) -> bool:
        """Change the request after `error`. Return False if `error` is final.

        Raises UnsupportedError if the client forbids to leave out the option.
        """
        if isinstance(error, OutputLimitError):
            if self.limit_error is not None:
                return False
            self.limit_error = error
        elif not self._drop_option(error):
            return False
        drop_traceback(error)
        options = self.request.options
        options = lower_limit(options, self.limit_error) if self.limit_error else options
        request = self.request
        self.call = evolve(
            self.call, messages=request.messages, options=options, encoded=request.encoded
        )
        return True

    @property
    def limit_lowered(self) -> LoweredBy:
        """The reason why the output limit is lower than translated."""
        if self.limit_error is None:
            return None
        return "window" if self.limit_error.by_window else "model"

    def _drop_option(self, error: InvalidRequestError) -> bool:
        retranslate = self.request.retranslate
        if (
            retranslate is None
            or isinstance(error, PromptTooLongError)
            or self._attempts == _MAX_DROPPED
        ):
            return False
        profile = self._profile or self.profile_for(self.request.resolved.target)
        if not profile.remember_refusals:
            return False
        message = error.quoted[0] if error.quoted else ""
        if self.dropped_options and _words_without_numbers(message) == _words_without_numbers(
            self._last_message
        ):
            self.dropped_options.pop()
        else:
            if self.dropped_options:
                profile = merge_overrides(profile, self.dropped_options[-1].overrides)
            candidates = find_refused_options(message, self.call.options, profile)
            self._other_candidates = [
                option for option in candidates if option not in self.dropped_options
            ]
        if not self._other_candidates:
            return False
        self._last_message, self._profile, self._attempts = message, profile, self._attempts + 1
        self.dropped_options.append(self._other_candidates.pop(0))
        self.request = retranslate(merge_overrides(profile, self.dropped_options[-1].overrides))
        return True


def _words_without_numbers(message: str) -> list[str]:
    """The words of an error without digits: ids, numbers and times differ in the same error."""
    return [word for word in message.split() if not _DIGIT.search(word)]
