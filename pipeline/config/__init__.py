"""A YAML config becomes checked chains of stages, or a list of problems, each with its place."""
