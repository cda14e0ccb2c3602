"""The Messages API: requests, stream events and errors. Nothing here knows Chat Completions."""
