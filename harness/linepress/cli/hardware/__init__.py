"""The verbs of the hardware models."""
