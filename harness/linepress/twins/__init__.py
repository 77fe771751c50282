"""Synthetic twins: tensors drawn from a fitted generator whose lines compress as the real ones do.

For partners who may not share weights or caches. A twin keeps names, shapes, formats and header; its values are new.
"""
