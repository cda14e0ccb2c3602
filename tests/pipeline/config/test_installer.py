"""Hints have the command that works in this environment."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from pipeline.config import installer


def test_the_line_is_for_the_installer_of_the_environment(tmp_path: Path) -> None:
    python = shlex.quote(sys.executable)
    assert installer._command(pip=True) == f"{python} -m pip install"
    assert installer._command(pip=False) == f"uv pip install --python {python}"
    command = [sys.executable, "-c", "import pip"]
    has_pip = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode
    assert installer._with_pip() == (has_pip == 0)
