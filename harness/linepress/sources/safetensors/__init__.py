"""Safetensors files: header and tensors, read in ranges."""
