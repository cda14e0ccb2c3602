"""Repair tool calls of weak models: find them in text, and fit their arguments to the schema."""
