"""What is known of each backend, as data. Nothing here opens a connection."""
