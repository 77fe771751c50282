"""Kernels of the codec `window`."""
