"""Stages of a run: pure functions from a case to rows."""
