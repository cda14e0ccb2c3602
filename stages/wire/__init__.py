"""Encodings that both protocols share: JSON, server-sent events, ids."""
