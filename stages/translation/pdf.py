"""The text of a PDF, for backends that take no files."""

from __future__ import annotations

import base64
import io

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from stages.translation.fields import UnsupportedError
from stages.wire.errors import InvalidRequestError


def text(data: str) -> str:
    """The text of a PDF given as base64, page by page.

    Raises InvalidRequestError where it is broken, UnsupportedError where it has none.
    Scanned pages have none; that the model must know, or it would make up their content.
    """
    try:
        reader = PdfReader(io.BytesIO(base64.b64decode(data)))
        pages = [page.extract_text().strip() for page in reader.pages]
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"document: this PDF cannot be read: {error}"
        raise InvalidRequestError(message, quoted=[str(error)]) from error
    if not any(pages):
        raise UnsupportedError(
            "document: this PDF has no text (scanned pages?), and this backend takes no files"
        )
    return "\n\n".join(
        f"[page {number}]\n{page or '(no text on this page)'}"
        for number, page in enumerate(pages, 1)
    )
