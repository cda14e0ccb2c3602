"""Traces of requests, if OpenTelemetry's variables switch them on. Without, nothing is imported."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from pipeline.config.installer import install_command
from stages.backends.backend import Backend
from stages.events import HttpRequest

log = logging.getLogger("llm_proxy")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: The packages of the extra `otel`.
_PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"


class Tracing(Protocol):
    """Makes the spans of requests. proxy/opentelemetry_spans.py has the only implementation."""

    stage_spans: bool
    """Whether to make a span of each stage."""

    def start(self, route: str, backends: Mapping[str, Backend], request: HttpRequest) -> None:
        """Start the span of a request. It ends with the exchange, and so do those of attempts."""

    def close(self) -> None:
        """Send the last spans. Blocks for some seconds at most."""


def tracing_from(environ: Mapping[str, str]) -> Tracing | None:
    """Return the tracing that the OTEL_* variables configure; None if they configure none.

    They switch it on by OTEL_TRACES_EXPORTER, or by an endpoint of OTLP.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    configured = exporter or any(environ.get(name) for name in _ENDPOINTS)
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not configured or exporter == "none" or disabled:
        return None
    try:
        from proxy.opentelemetry_spans import OpenTelemetrySpans
    except ModuleNotFoundError as error:
        command = f"{install_command()} {_PACKAGES}"
        log.warning("no traces, because %s is missing: type `%s`", error.name, command)
        return None
    return OpenTelemetrySpans.of(environ)
