"""linepress: from the bytes of a tensor to tokens per second per rack, in one run.

>>> import linepress as lp
>>> lp.measure("synthetic:gauss?shape=64x64&sigma=0.02&seed=1&dtype=bf16", "huffman", repeats=0)  # doctest: +SKIP

What stands in ``__all__`` is public; everything else is private and may move. Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linepress.environment import prepare_kernel_cache as _prepare_kernel_cache

__version__ = "0.1.0"

if TYPE_CHECKING:
    from linepress.api.coding import ArrayCodec, codec
    from linepress.api.hardware import channel, dram, fabric, roofline
    from linepress.api.measured import Measured, measure
    from linepress.api.runs import OpenRun, open_run
    from linepress.errors import LinepressError

_HOME = {
    "measure": "linepress.api.measured",
    "Measured": "linepress.api.measured",
    "codec": "linepress.api.coding",
    "ArrayCodec": "linepress.api.coding",
    "open_run": "linepress.api.runs",
    "OpenRun": "linepress.api.runs",
    **dict.fromkeys(("dram", "channel", "roofline", "fabric"), "linepress.api.hardware"),
    "LinepressError": "linepress.errors",
}

__all__ = [
    "ArrayCodec",
    "LinepressError",
    "Measured",
    "OpenRun",
    "__version__",
    "channel",
    "codec",
    "dram",
    "fabric",
    "measure",
    "open_run",
    "roofline",
]


def __getattr__(name: str) -> Any:
    import importlib

    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'linepress' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_prepare_kernel_cache()  # before any module with compiled kernels is imported
