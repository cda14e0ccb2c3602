"""Shares limits, slots, circuit breakers and the page among the workers of one machine."""
