"""Renders the page's templates, and has its static files and headers."""

from __future__ import annotations

import hashlib
import mimetypes
import time
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from stages.messages_api.usage import Usage
from stages.page.packing import unpack
from stages.wire.printable import printable

if TYPE_CHECKING:
    import jinja2

#: Headers of each response. No script or style is inline, no other server is called.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
PAGE_HEADERS = {**HEADERS, "cache-control": "no-store", "content-type": "text/html; charset=utf-8"}
JSON_HEADERS = {**HEADERS, "cache-control": "no-store", "content-type": "application/json"}
#: The URL of a static file has its digest, so it never changes.
_STATIC_CACHE = "private, max-age=31536000, immutable"


@cache
def static_files() -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return the contents and headers of each static file, by its name."""
    static = {}
    for file in (files("stages.page") / "static").iterdir():
        kind = mimetypes.guess_type(file.name)[0] or "text/plain"
        kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        headers = {**HEADERS, "cache-control": _STATIC_CACHE, "content-type": kind}
        static[file.name] = file.read_bytes(), headers
    return static


@cache
def _version() -> str:
    """Return a digest of all static files."""
    digest = hashlib.sha256()
    for _, (data, _) in sorted(static_files().items()):
        digest.update(data)
    return digest.hexdigest()[:12]


def render(template: str, **values: Any) -> bytes:
    """Render a template. All values are escaped."""
    text = _templates().get_template(f"{template}.html").render(version=_version(), **values)
    return text.encode("utf-8", "replace")


async def load_templates() -> None:
    """Compile all templates in a thread, once: it takes 0.1 s, in which the event loop goes on."""
    if not _compiled.cache_info().currsize:
        await to_thread.run_sync(_compiled)


@cache
def _compiled() -> tuple[jinja2.Template, ...]:
    templates = _templates()
    return tuple(map(templates.get_template, templates.list_templates()))


@lru_cache(maxsize=256)
def ended_row(data: bytes, base: str) -> str:
    """Render the row of a packed exchange in the list, as safe HTML. It never changes."""
    exchange = unpack(data)
    return _parts().row(exchange, base, exchange.ended or exchange.received)  # type: ignore[attr-defined, no-any-return]


@cache
def _parts() -> object:
    """Return the macros of `parts.html`."""
    return _templates().get_template("parts.html").module


@cache
def _templates() -> jinja2.Environment:
    # Imported here: only the page needs it.
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("stages.page"),
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Any] = {
        "cached": cached,
        "count": count,
        "percent": percent,
        "rate": rate,
        "seconds": seconds,
        "size": size,
        "clock": clock,
        "money": money,
        "name": name,
    }
    templates.filters.update(filters)
    return templates


NONE = "\u2013"
_MAX_NAME = 200


def seconds(value: float | None) -> str:
    """A duration: `0.4 ms`, `43 ms`, `1.25 s`, `12.5 s`, `3:05 min`."""
    if value is None:
        return NONE
    if value < 0.00005:
        return "0 ms"
    if value < 0.9995:
        return f"{value * 1000:.1f} ms" if value < 0.00995 else f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    return f"{int(value) // 60}:{int(value) % 60:02d} min"


def count(value: float | None) -> str:
    """A number with commas."""
    return NONE if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """A number of requests in a second, otherwise in a minute."""
    if not value:
        return NONE
    return f"{value:,.1f}/s" if value >= 1 else f"{value * 60:.0f}/min"


def percent(value: float | None) -> str:
    """A share."""
    return NONE if value is None else f"{value:.0%}"


def cached(usage: Usage | None) -> float | None:
    """The share of the prompt that the backend had in its cache; None if it is not known."""
    if usage is None or not usage.prompt_tokens:
        return None
    known = usage.cache_read_input_tokens or not usage.estimated
    return usage.cache_read_input_tokens / usage.prompt_tokens if known else None


def name(text: str) -> str:
    """A name that a client chose: at most 200 characters of it, all of them printable."""
    return printable(text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}\u2026")


def size(value: float) -> str:
    """A number of bytes."""
    return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.0f} KB"


def money(value: float | None) -> str:
    """A cost."""
    if value is not None and 0 < value < 0.0001:
        return "<0.0001"
    return NONE if value is None else f"{value:,.4f}" if abs(value) < 1 else f"{value:,.2f}"


def clock(value: float) -> str:
    """The local time of day of a time of `time.monotonic`."""
    unix = value - time.monotonic() + time.time()
    return time.strftime("%H:%M:%S", time.localtime(unix))
