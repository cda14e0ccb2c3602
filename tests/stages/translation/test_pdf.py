"""PDFs for backends that take no files."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stages.translation.request import chat_request
from stages.wire.errors import InvalidRequestError
from tests.support import profile, resolved


def pdf(text: str) -> str:
    """A PDF of one page, as base64."""
    stream = f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET" if text else ""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R"
            " /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, places = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return base64.b64encode(f"{body}xref\n0 6\n0000000000 65535 f \n{table}{end}".encode()).decode()


def sent(data: str, policy: str = "emulate") -> Any:
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    block = {"type": "document", "source": source, "title": "a.pdf"}
    messages = [{"role": "user", "content": [block, {"type": "text", "text": "What is it?"}]}]
    given = profile(fields={"document.pdf": policy})
    return chat_request(resolved(messages=messages), given).messages[0]["content"]


def test_pitfall_29_the_text_of_a_pdf_is_read_by_the_proxy() -> None:
    assert sent(pdf("Invoice 42")) == "a.pdf\n\n[page 1]\nInvoice 42\n\nWhat is it?"


def test_a_backend_that_takes_files_gets_the_file() -> None:
    data = pdf("Invoice 42")
    file = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}

    assert sent(data, "map")[0] == {"type": "file", "file": file}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pdf(""), "has no text"),
        (base64.b64encode(b"%PDF-1.4 broken").decode(), "cannot be read"),
        (base64.b64encode(b"").decode() or "AAAA", "cannot be read"),
    ],
)
def test_a_pdf_without_text_is_refused_rather_than_made_up(data: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        sent(data)


def test_a_pdf_can_be_refused() -> None:
    with pytest.raises(InvalidRequestError, match="takes no PDF"):
        sent(pdf("x"), "reject")
