"""What a client reads when its request is not valid HTTP/1.1."""

from __future__ import annotations

import httptools

from stages.messages_api.errors import InvalidRequestError

_NOT_HTTP = "not an HTTP/1.1 request (is this a TLS client on a plain-text port?)"
_ONE_LENGTH = "the request has both Transfer-Encoding and Content-Length: send only one of them"
#: By the parser's message.
_CONFLICTS = {
    "Transfer-Encoding can't be present with Content-Length": _ONE_LENGTH,
    "Content-Length can't be present with Transfer-Encoding": _ONE_LENGTH,
    "Duplicate Content-Length": "the request has more than one Content-Length: send only one",
}


def invalid_request(error: httptools.HttpParserError) -> InvalidRequestError:
    """Return the error for the client. The parser's own message may quote the request."""
    return InvalidRequestError(_CONFLICTS.get(str(error), _NOT_HTTP))
