"""Shares limits, slots and circuit breakers among the workers of one machine."""
