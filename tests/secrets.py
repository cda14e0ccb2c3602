"""A check that the suite prints no secrets.

Keys are these in all tests; prompts have this word in them, where a test does not say otherwise.
What is looked at, after each test, in whichever process of pytest-xdist it runs:

- records of the log from INFO on, with their tracebacks, as a person would read them (`DEBUG` is
  documented to hold prompts)
- what was written to stdout and stderr, also by the processes that tests start (`printed`)
- the bodies that clients of the wire tests got (`check_client_text`): they have no keys. Text of a
  client or a backend may be in an error for that client (`ApiError.quoted`), but not in metrics.

It is a plugin of pytest; a test with a secret in any of it fails. It sees nothing of what a test
takes for itself (`capsys`, a runner of commands), and with `-s` no stdout.
"""

from __future__ import annotations

import logging
from collections.abc import Generator

import pytest

KEYS = ("client-key", "backend-key", "another-key", "s3cret")
PROMPT = "Psst!"

_WHAT_TO_DO = (
    "a secret was printed, as tests/secrets.py has it. If it is the test itself that prints it, "
    "and has to, use another word there:"
)
_CLIENTS = ("anthropic", "httpx2")
_found: list[str] = []


def printed(text: str) -> None:
    """Check public output: neither a key nor a prompt may be in it."""
    _look(text, (*KEYS, PROMPT))


def check_client_text(text: str) -> None:
    """Look at what a client alone reads: there may be words of its own in it, but no key."""
    _look(text, KEYS)


def secret_lines() -> list[str]:
    """The lines with secrets since it was asked last."""
    lines = list(_found)
    _found.clear()
    return lines


def _look(text: str, secrets: tuple[str, ...]) -> None:
    if any(secret in text for secret in secrets):
        _found.extend(
            line for line in text.splitlines() if any(secret in line for secret in secrets)
        )


class _Reader(logging.Handler):
    """Reads what a process of the proxy would log: all but what clients in the tests do."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in _CLIENTS:
            printed(self.format(record))


def pytest_configure(config: pytest.Config) -> None:
    root = logging.getLogger()
    root.addHandler(_Reader(logging.INFO))
    root.setLevel(logging.INFO)  # once: pytest's `log_level` does it six times per test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that printed a secret."""
    report = yield
    if report.when == "teardown":
        printed(report.capstdout + report.capstderr)
        if lines := secret_lines():
            report.outcome = "failed"
            report.longrepr = "\n".join([_WHAT_TO_DO, *lines])
    return report
