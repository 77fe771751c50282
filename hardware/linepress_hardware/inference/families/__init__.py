"""Families of language models: one data file each (``data/families``), and the rules the files name."""
