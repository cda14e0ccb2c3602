"""PDFs made by hand, as base64: plain ones, and ones that cost much to read."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence

from pypdf import PdfReader, PdfWriter

_FONT = "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"


def pdf(*texts: str) -> str:
    """A page for each text."""
    pages = [page_content(text) for text in texts]
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [_CATALOG, f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()]
    for n, content in enumerate(pages):
        objects += [page(f"{4 + 2 * n} 0 R"), stream(content)]
    return assembled(objects)


def encrypted(text: str, password: str, algorithm: str = "AES-256") -> str:
    """One page, which `password` opens."""
    writer = PdfWriter(PdfReader(io.BytesIO(base64.b64decode(pdf(text)))))
    writer.encrypt(password, "owner", algorithm=algorithm)
    data = io.BytesIO()
    writer.write(data)
    return base64.b64encode(data.getvalue()).decode()


def with_filter(name: str) -> str:
    """One page, with a filter that pypdf may not have."""
    content = stream(page_content("x"), f"/Filter /{name}")
    return assembled([_CATALOG, _ONE_PAGE, page("4 0 R"), content])


def repeated_page(count: int) -> str:
    """A page tree that names one page `count` times."""
    kids = "3 0 R " * count
    tree = f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode()
    return assembled([_CATALOG, tree, page("4 0 R"), stream(page_content("x"))])


def nested_forms(levels: int, item: int) -> str:
    """Forms that show the next one `each` times, `levels` deep."""
    objects = [
        _CATALOG,
        _ONE_PAGE,
        page("4 0 R", "/XObject << /X 5 0 R >>"),
        stream(b"/X Do " * item),
    ]
    for n in range(levels):
        inner = f"/Resources << /XObject << /X {6 + n} 0 R >> >>"
        form = f"/Type /XObject /Subtype /Form /BBox [0 0 9 9] {inner}"
        objects.append(stream(b"/X Do " * item, form))
    objects.append(stream(b"", "/Type /XObject /Subtype /Form /BBox [0 0 9 9]"))
    return assembled(objects)


def inflating(size: int) -> str:
    """One page whose `size` bytes of text are compressed to a thousandth."""
    content = b"BT /F1 12 Tf " + b"(xxxxxxxxxxxxxxxx) Tj " * (size // 22) + b"ET"
    packed = stream(zlib.compress(content, 9), "/Filter /FlateDecode")
    return assembled([_CATALOG, _ONE_PAGE, page("4 0 R"), packed])


_CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
_ONE_PAGE = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"


def page_content(text: str) -> bytes:
    """The content of a page."""
    return f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET".encode() if text else b""


def page(content: str, resources: str = "") -> bytes:
    """A page of the tree in object 2."""
    buffered = f"<< {resources} {_FONT[3:]}"
    return (
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents {content} "
        f"/Resources {buffered} >>"
    ).encode()


def stream(data: bytes, entries: str = "") -> bytes:
    """A stream object."""
    return f"<< /Length {len(data)} {entries} >>\nstream\n".encode() + data + b"\nendstream"


def assembled(objects: Sequence[bytes]) -> str:
    """The file, numbered from 1; the first object is the catalog."""
    body, places = b"%PDF-1.4\n", []
    for number, object in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, object)
    count = len(objects) + 1
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, len(body))
    whole = body + b"xref\n0 %d\n0000000000 65535 f \n" % count + table + end
    return base64.b64encode(whole).decode()
