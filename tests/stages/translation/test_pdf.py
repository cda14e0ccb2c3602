"""PDFs for backends that take no files."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api.errors import InvalidRequestError
from stages.translation.field_policies import PdfTexts
from stages.translation.request import chat_request
from tests.support import profile, resolved


def sent(data: str, policy: str = "emulate", pdfs: PdfTexts | None = None) -> Any:
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    block = {"type": "document", "source": source, "title": "a.pdf"}
    messages = [{"role": "user", "content": [block, {"type": "text", "text": "What is it?"}]}]
    event, value = resolved(messages=messages), profile(fields={"document.pdf": policy})
    return chat_request(event, value, pdfs=pdfs).messages[0]["content"]


def test_pitfall_29_the_text_of_a_pdf_is_in_its_place() -> None:
    text = "[page 1]\nInvoice 42"
    assert sent("AAAA", pdfs={"AAAA": text}) == f"a.pdf\n\n{text}\n\nWhat is it?"


def test_a_pdf_that_has_to_be_read_is_named() -> None:
    pdfs: PdfTexts = {}
    sent("AAAA", pdfs=pdfs)
    assert pdfs == {"AAAA": None}


@pytest.mark.parametrize("policy", ["map", "warn"])
def test_a_pdf_is_not_read_where_its_text_is_not_used(policy: str) -> None:
    pdfs: PdfTexts = {}
    sent("AAAA", policy, pdfs)
    assert pdfs == {}


def test_a_backend_that_takes_files_gets_the_file() -> None:
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}

    assert sent("AAAA", "map")[0] == {"type": "file", "file": file}


def test_a_pdf_without_text_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="has no text"):
        sent("AAAA", pdfs={"AAAA": ""})


def test_a_pdf_can_be_refused() -> None:
    with pytest.raises(InvalidRequestError, match="takes no PDF"):
        sent("AAAA", "reject")
