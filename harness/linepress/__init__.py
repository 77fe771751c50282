"""linepress: from the bytes of a tensor to tokens per second per rack, in one run."""

__version__ = "0.1.0"
