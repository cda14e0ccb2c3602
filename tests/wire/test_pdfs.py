"""PDFs on a real socket, for a backend that takes none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pdfs import encrypted, pdf
from tests.support import body
from tests.wire.chat import completion, whole
from tests.wire.client import Answer, Client
from tests.wire.proxy import Lasting, declaration, lasting_proxy


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    folder: Path = tmp_path_factory.mktemp("pdfs")
    limits = "translate-in: {pdf_max_pages: 2}"
    with lasting_proxy(folder, lambda url: declaration(url).replace("translate-in", limits)) as it:
        yield it


def asked(*data: str) -> dict[str, Any]:
    sources = [{"type": "base64", "media_type": "application/pdf", "data": each} for each in data]
    blocks = [{"type": "document", "source": source} for source in sources]
    return body(messages=[{"role": "user", "content": blocks}])


def post(lasting: Lasting, *data: str) -> Answer:
    client = Client(lasting.url)
    answer = client.post(asked(*data))
    client.leave()
    return answer


def test_row_a6_a_pdf_that_cannot_be_read_is_a_400_and_the_next_one_is_read(
    lasting: Lasting,
) -> None:
    refused = post(lasting, encrypted("x", "secret"))
    assert refused.error == (400, "invalid_request_error")
    assert "one of the PDFs needs a password" in refused.json["error"]["message"]

    lasting.backend.says(whole(200, completion()))
    assert post(lasting, encrypted("Invoice 42", "")).status == 200
    assert "Invoice 42" in lasting.backend.request().body["messages"][0]["content"]


def test_row_a5_the_limits_are_for_all_pdfs_of_a_request(lasting: Lasting) -> None:
    answer = post(lasting, pdf("a", "b"), pdf("c"))
    assert answer.error == (400, "invalid_request_error")
    assert answer.json["error"]["message"] == (
        "document: the PDFs have more than 2 pages: send their text, or fewer or shorter PDFs"
    )
