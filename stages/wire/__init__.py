"""The two protocols: the Messages API, as classes; Chat Completions, as JSON; SSE and errors."""
