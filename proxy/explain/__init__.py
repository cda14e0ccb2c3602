"""`llm-proxy explain`: one request through a chain, stage by stage.

command   the chain, the backends
request   the request, from a file
trace     the observer of the run: events, times and errors by arrow
views     events as JSON, without secrets
changes   the differences of two views
report    the result as text or JSON
"""
