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
from stages.backends.refusals import Refusal, refusals
from stages.chat_completions.overflow import lower_limit
from stages.events import ChatRequest, LoweredBy
from stages.exchange import Target
from stages.messages_api.errors import (
    InvalidRequestError,
    OutputLimitError,
    PromptTooLongError,
    drop_traceback,
)
from stages.profiles.profile import Profile, merged

_MOST = 4
_DIGIT = re.compile(r"\d")


@define
class Resend:
    """The request and the call as they are sent now. `profile_for` gives the request's profile."""

    request: ChatRequest
    call: BackendCall
    profile_for: Callable[[Target], Profile]
    given_up: list[Refusal] = Factory(list)
    """What is left out now."""
    limit: OutputLimitError | None = None
    _profile: Profile | None = None
    """The profile without what was given up, but for the last of it."""
    _said: str = ""
    """The backend's last words: the same again show that what was left out did not help."""
    _others: list[Refusal] = Factory(list)
    """What else those may be about."""
    _times: int = 0

    def after(self, error: InvalidRequestError) -> bool:
        """Change the request after `error`; False where the error is the end of it.

        Raises UnsupportedError where the client forbids what would be left out.
        """
        if isinstance(error, OutputLimitError):
            if self.limit is not None:
                return False
            self.limit = error
        elif not self._gives_up(error):
            return False
        drop_traceback(error)
        options = self.request.options
        options = lower_limit(options, self.limit) if self.limit else options
        self.call = evolve(self.call, messages=self.request.messages, options=options)
        return True

    @property
    def lowered(self) -> LoweredBy:
        """By what the output limit is lower than translated."""
        if self.limit is None:
            return None
        return "window" if self.limit.by_window else "model"

    def _gives_up(self, error: InvalidRequestError) -> bool:
        retranslate = self.request.retranslate
        if retranslate is None or isinstance(error, PromptTooLongError) or self._times == _MOST:
            return False
        profile = self._profile or self.profile_for(self.request.resolved.target)
        if not profile.remember_refusals:
            return False
        said = error.quoted[0] if error.quoted else ""
        if self.given_up and _words(said) == _words(self._said):
            self.given_up.pop()
        else:
            if self.given_up:
                profile = merged(profile, self.given_up[-1].overrides)
            found = refusals(said, self.call.options, profile)
            self._others = [each for each in found if each not in self.given_up]
        if not self._others:
            return False
        self._said, self._profile, self._times = said, profile, self._times + 1
        self.given_up.append(self._others.pop(0))
        self.request = retranslate(merged(profile, self.given_up[-1].overrides))
        return True


def _words(said: str) -> list[str]:
    """The words of an error, without ids, numbers and times, which differ in the same error."""
    return [word for word in said.split() if not _DIGIT.search(word)]
