"""Accelerators and racks as data: every figure with its source, every derived number recomputed."""
