"""Hosted providers and local servers as scripted backends, each with its own words and shapes."""
