"""Decoders, a file each."""
