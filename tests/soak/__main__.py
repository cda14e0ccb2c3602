"""See `tests.soak`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.soak import __doc__ as about
from tests.soak import soak


def main() -> None:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--requests", type=int, default=100_000)
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(soak(parser.parse_args().requests, Path(folder)))
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
