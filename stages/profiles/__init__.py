"""Facts about each backend, as data. Nothing here opens a connection."""
