"""One request on its way to a backend, which may have to be sent more than once.

    the backend refuses                   the request is sent again
    -----------------------------------   ----------------------------------------------------
    the output limit (OutputLimitError)   once, with the limit that fits
    an option it can do without           without it; if it says the same again, with it, and
                                          without the next option that its words may be about;
                                          at most `_MOST` times
    anything else                         not: the refusal is the response

A refusal is learned only when the request without the option was accepted. Nothing has been
forwarded when a request is sent again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import Factory, define, evolve

from stages.backends.call import BackendCall
from stages.backends.refused_options import RefusedOption, find_refused_options
from stages.chat_completions.overflow import OutputLimitError, PromptTooLongError
from stages.events import ChatRequest, LoweredBy, Target
from stages.messages_api.errors import InvalidRequestError, drop_traceback
from stages.profiles.profile import Profile, merge_overrides

_MAX_DROPPED = 4
_DIGIT = re.compile(r"\d")


@define
class AdjustedRequest:
    """The request and the call as they are sent now. `profile_for` gives the request's profile."""

    request: ChatRequest
    call: BackendCall
    profile_for: Callable[[Target], Profile]
    dropped_options: list[RefusedOption] = Factory(list)
    """What is left out now."""
    limit_error: OutputLimitError | None = None
    _profile: Profile | None = None
    """The profile without what was given up, but for the last of it."""
    _last_message: str = ""
    """The backend's last words: the same again show that what was left out did not help."""
    _other_candidates: list[RefusedOption] = Factory(list)
    """What else those may be about."""
    _attempts: int = 0

    def adjust(self, error: InvalidRequestError) -> bool:
        """Change the request after `error`; False where the error is the end of it.

        Raises UnsupportedError where the client forbids what would be left out.
        """
        if isinstance(error, OutputLimitError):
            if self.limit_error is not None:
                return False
            self.limit_error = error
        elif not self._drop_option(error):
            return False
        drop_traceback(error)
        options = self.request.options
        options = self.limit_error.lower_limit(options) if self.limit_error else options
        self.call = evolve(self.call, messages=self.request.messages, options=options)
        return True

    @property
    def limit_lowered(self) -> LoweredBy:
        """By what the output limit is lower than translated."""
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
        said = error.quoted[0] if error.quoted else ""
        if self.dropped_options and _words_without_numbers(said) == _words_without_numbers(
            self._last_message
        ):
            self.dropped_options.pop()
        else:
            if self.dropped_options:
                profile = merge_overrides(profile, self.dropped_options[-1].overrides)
            found = find_refused_options(said, self.call.options, profile)
            self._other_candidates = [each for each in found if each not in self.dropped_options]
        if not self._other_candidates:
            return False
        self._last_message, self._profile, self._attempts = said, profile, self._attempts + 1
        self.dropped_options.append(self._other_candidates.pop(0))
        self.request = retranslate(merge_overrides(profile, self.dropped_options[-1].overrides))
        return True


def _words_without_numbers(said: str) -> list[str]:
    """The words of an error, without ids, numbers and times, which differ in the same error."""
    return [word for word in said.split() if not _DIGIT.search(word)]
