"""Chat Completions, the protocol of the backends: read what any backend sends.

Of the Messages API this package knows the errors and the usage, which it makes of a backend's.
It does not know requests, content blocks or stream events, and imports neither the HTTP client
nor `translation/`, `backends/` or `tool_repair/`.
"""
