"""One request on its way to a backend, which may have to be sent more than once.

    the backend refuses                   the request is sent again
    -----------------------------------   ----------------------------------------------------
    the output limit (OutputLimitError)   once, with the limit that fits
    an option it can do without           once per option, at most `_MOST` options
    anything else                         not: the refusal is the response

A refusal is learned only when the request without the option was accepted. Nothing has been
forwarded when a request is sent again.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, define, evolve

from stages.backends.call import BackendCall
from stages.backends.refusals import Refusal, refusal
from stages.chat_completions.overflow import OutputLimitError, PromptTooLongError
from stages.events import ChatRequest, LoweredBy, Target
from stages.messages_api.errors import InvalidRequestError, drop_traceback
from stages.profiles.profile import Profile, merged

_MOST = 4


@define
class Resend:
    """The request and the call as they are sent now. `profile_for` gives the request's profile."""

    request: ChatRequest
    call: BackendCall
    profile_for: Callable[[Target], Profile]
    given_up: list[Refusal] = Factory(list)
    """What the backend has refused so far."""
    limit: OutputLimitError | None = None
    _profile: Profile | None = None
    """The profile without what was given up."""
    _said: str = ""
    """The backend's last words: the same again show that what was left out did not help."""

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
        options = self.limit.lower_limit(options) if self.limit else options
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
        if retranslate is None or isinstance(error, PromptTooLongError):
            return False
        profile = self._profile or self.profile_for(self.request.resolved.target)
        if not profile.remember_refusals:
            return False
        said = error.quoted[0] if error.quoted else ""
        if said == self._said or len(self.given_up) == _MOST:
            return False
        self._said = said
        found = refusal(said, self.call.options, profile)
        if found is None or found in self.given_up:
            return False
        self._profile = merged(profile, found.overrides)
        self.request = retranslate(self._profile)
        self.given_up.append(found)
        return True
