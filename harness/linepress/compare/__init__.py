"""Two runs side by side: what may be compared, what changed exactly, what changed measurably, and a gate over it."""

from __future__ import annotations

from linepress.compare.options import CompareOptions
from linepress.compare.verdict import Comparison, compare_runs

__all__ = ["CompareOptions", "Comparison", "compare_runs"]
