"""Limits of keys, models, sessions and agents: requests, tokens, money, requests at once."""
