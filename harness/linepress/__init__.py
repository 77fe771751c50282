"""linepress: from the bytes of a tensor to tokens per second per rack, in one run."""

from linepress.environment import prepare_kernel_cache

__version__ = "0.1.0"

prepare_kernel_cache()  # before any module with compiled kernels is imported
