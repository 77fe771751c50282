"""Executing a suite: plan, keys, stages, gates, the record."""
