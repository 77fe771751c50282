"""What a check finds: a figure with its bound, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure in the unit of the claim.

    Attributes
    ----------
    value : float
        NaN when there is none; ``reason`` then says why.
    bound : float
        The most (or least) that any codec or device of the class could reach; NaN without one.
    bound_text, detail, checked_by : str
        What bounds it; what else belongs to the figure; how it was found.
    judged : bool
        False when the figure only illustrates and cannot decide the claim.
    """

    value: float = math.nan
    bound: float = math.nan
    bound_text: str = ""
    detail: str = ""
    reason: str = ""
    checked_by: str = ""
    judged: bool = True


def missing(reason: str, checked_by: str = "") -> Finding:
    """No figure, and why."""
    return Finding(reason=reason, checked_by=checked_by, judged=False)
