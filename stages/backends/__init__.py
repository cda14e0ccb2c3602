"""Backends: one is opened on first use, called through LangChain, and queued for."""
