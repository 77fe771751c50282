"""Canonical Huffman codes: lengths, tables, kernels."""
