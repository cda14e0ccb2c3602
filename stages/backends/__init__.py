"""Backends: what is known of each (profiles, as data), and the way to them through LangChain."""
