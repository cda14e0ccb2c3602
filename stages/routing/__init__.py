"""Selects the target of a request, and classifies the errors of targets."""
