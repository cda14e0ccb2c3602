"""Recordings of exchanges: JSONL files that `llm-proxy replay` and `llm-proxy explain` read.

section     the section `recordings`
writer      writes lines in a thread, and deletes the oldest files
lines       one line: an exchange with its request and response
redaction   removes secrets from a line
"""
