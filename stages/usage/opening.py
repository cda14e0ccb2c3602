"""Opens the file of a usage record, and checks that it is one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

#: Marks the file as a usage record, so that another program's file is not written to.
APPLICATION_ID = 0x6C6C6D55
VERSION = 1


class NotAUsageRecordError(sqlite3.DatabaseError):
    """The file is another program's, or a newer llm-proxy's."""


def open_existing(file: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open a file that exists, for reading too if it is write-protected. Raises sqlite3.Error."""
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=busy_timeout)


def check_version(connection: sqlite3.Connection) -> int:
    """Return the version of the schema; 0: the file is empty. Raises NotAUsageRecordError."""
    # One statement, because another process may create the tables meanwhile.
    application, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) "
        "FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise NotAUsageRecordError("it is another program's database")
    if version > VERSION:
        raise NotAUsageRecordError("a newer version of llm-proxy wrote it")
    return int(version)
