"""Backends: opened on first use, called through LangChain, with a fair queue for their calls."""
