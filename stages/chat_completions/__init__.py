"""Chat Completions: what a backend's response holds. Nothing here knows the Messages API."""
