"""Encoders, a file each."""
