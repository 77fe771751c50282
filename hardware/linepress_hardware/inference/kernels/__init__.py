"""Kernels of a serving engine on a GPU: measured tables, compact forms by shape with a band, the bound."""
