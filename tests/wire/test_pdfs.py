"""PDFs on a real socket, for a backend that takes none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pdfs import encrypted, pdf
from tests.support import body
from tests.wire.chat import completion, whole
from tests.wire.client import Client, Response
from tests.wire.proxy import SharedProxy, config_text, proxy_with_backend


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    folder: Path = tmp_path_factory.mktemp("pdfs")
    limits = "translate-in: {pdf_max_pages: 2}"
    with proxy_with_backend(
        folder, lambda url: config_text(url).replace("translate-in", limits)
    ) as it:
        yield it


def asked(*data: str) -> dict[str, Any]:
    sources = [{"type": "base64", "media_type": "application/pdf", "data": each} for each in data]
    blocks = [{"type": "document", "source": source} for source in sources]
    return body(messages=[{"role": "user", "content": blocks}])


def post(shared_proxy: SharedProxy, *data: str) -> Response:
    client = Client(shared_proxy.url)
    answer = client.post(asked(*data))
    client.close()
    return answer


def test_row_a6_an_unreadable_pdf_is_a_400_and_the_next_is_read(
    shared_proxy: SharedProxy,
) -> None:
    refused = post(shared_proxy, encrypted("x", "secret"))
    assert refused.error == (400, "invalid_request_error")
    assert "one of the PDFs needs a password" in refused.json["error"]["message"]

    shared_proxy.backend.says(whole(200, completion()))
    assert post(shared_proxy, encrypted("Invoice 42", "")).status == 200
    assert "Invoice 42" in shared_proxy.backend.request().body["messages"][0]["content"]


def test_row_a5_the_limits_are_for_all_pdfs_of_a_request(shared_proxy: SharedProxy) -> None:
    answer = post(shared_proxy, pdf("a", "b"), pdf("c"))
    assert answer.error == (400, "invalid_request_error")
    assert answer.json["error"]["message"] == (
        "document: the PDFs have more than 2 pages: send their text, or fewer or shorter PDFs"
    )
