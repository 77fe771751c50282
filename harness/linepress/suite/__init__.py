"""Suites: strict YAML 1.2 and the model it is read into."""
