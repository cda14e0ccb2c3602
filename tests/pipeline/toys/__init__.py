"""Stages by their names in YAML, for the rule that leads from one to the other."""
