"""Makes checked chains of stages from a YAML config, or a list of problems with their places."""
