"""The channel stage: measured line sizes of one codec in one memory, as one row of numbers.

`channel_case` is a pure function of its `ChannelCase`. It spreads the histogram of coded bits over lines by a
recorded seed, lets `linepress_codecs.packing` place them, and hands plain arrays to `linepress_hardware.channel`.
"""

from __future__ import annotations

from typing import Any

from linepress.stages.channel_run import evaluate
from linepress.stages.channel_types import ChannelCase


def channel_case(case: ChannelCase) -> list[dict[str, Any]]:
    """Rows of the ``channel`` table for one case; columns as in `CHANNEL_COLUMNS`.

    Raises `HardwareError`, `CodecError` or `LinepressError` with one sentence for a case that means nothing.
    """
    return [evaluate(case)]
