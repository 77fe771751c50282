"""Capturing KV caches of a live model as snapshots (``linepress capture``, extra ``capture``)."""
