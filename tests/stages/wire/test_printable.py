"""Text that is safe for a log, a terminal or a page."""

from stages.wire.printable import printable


def test_a_printable_text_is_one_line() -> None:
    assert printable("a\nreq_1 POST\r\x1b[0m é") == "a\\nreq_1 POST\\r\\x1b[0m é"
