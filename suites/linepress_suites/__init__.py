"""Suites, hardware choices and claims as YAML, and a few megabytes of real sample tensors."""
