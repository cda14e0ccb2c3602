"""That a secret which is printed anywhere makes a test fail (tests/secrets.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests import secrets

ROOT = Path(__file__).parent.parent

LEAKING = """
import logging, subprocess, sys, threading

import pytest

from tests import secrets

log = logging.getLogger("llm_proxy")


def test_leaks_by_print():
    print("the key is client-key")


def test_leaks_by_stderr():
    print("Psst!", file=sys.stderr)


def test_leaks_by_log():
    log.info("%s", "Bearer backend-key")


def test_leaks_by_traceback():
    try:
        raise ValueError("Psst!")
    except ValueError:
        log.exception("it failed")


def test_leaks_by_thread():
    thread = threading.Thread(target=log.warning, args=["another-key"])
    thread.start()
    thread.join()


def test_leaks_by_process():
    subprocess.run([sys.executable, "-c", "print('s3cret')"])


def test_leaks_and_fails():
    print("client-key")
    assert False


@pytest.fixture
def teardown():
    yield
    print("client-key")


def test_leaks_by_teardown(teardown):
    pass


def test_leaks_by_answer():
    secrets.check_client_text("client-key")


def test_is_clean():
    print("client-keys are x-api-key, or Psst, or nothing".replace("client-key", "key"))
    log.debug("Psst!")
    logging.getLogger("anthropic.x").warning("Psst!")
    secrets.check_client_text("you said: Psst!")
"""


def test_a_printed_secret_fails_the_test_in_any_process(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LEAKING)
    (tmp_path / "pytest.ini").write_text("[pytest]\nlog_level = INFO\npythonpath = " + str(ROOT))
    plugins = ("-p", "tests.secrets", "-p", "xdist", "-p", "no:cacheprovider", "-n", "1")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-rEFp", str(tmp_path)],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],  # alone: with CI set, pytest would print each error twice
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # it takes seconds
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ends = re.findall(r"^(ERROR|FAILED|PASSED) \S+::(\w+)", done.stdout, re.MULTILINE)
    leaking = set(re.findall(r"def (test_leaks\w+)", LEAKING))
    assert {name for end, name in ends if end == "ERROR"} == leaking
    assert [name for end, name in ends if end == "FAILED"] == ["test_leaks_and_fails"]
    assert ("PASSED", "test_is_clean") in ends
    assert done.stdout.count("has to, use another word there:\n") == len(leaking)


def test_a_secret_is_shown_once_with_its_line() -> None:
    secrets.printed("one\nthe key is client-key\nthree")
    secrets.check_client_text("Psst!")
    assert secrets.secret_lines() == ["the key is client-key"]
    assert secrets.secret_lines() == []
