"""The usage record: a row for each attempt at a backend, and daily sums, in SQLite."""
