"""The steps of a split case that leave a trace of where they ran, or go wrong on purpose: for tests on real workers.

Named as ``linepress.cluster.tasks.Split.module``; the case's options also carry ``folder`` (where the traces go) and
``fault``: ``kill once`` and ``kill always`` take the worker of `VICTIM` down, ``raise`` raises there.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from linepress.sources import TensorRef
from linepress.stages.measure import split
from linepress_codecs.variant import Variant

VICTIM = 2
"""First chunk of the part that goes wrong."""
PAUSE_S = 0.2
"""A part takes so long at least, so that one worker cannot take all of them before another is there."""

fit = split.fit
merge = split.merge


def part(
    tensor: TensorRef,
    variant: Variant,
    start: bytes,
    where: split.Part,
    *,
    folder: str,
    fault: str = "",
    **options: Any,
) -> bytes:
    """`split.part` with a trace ``<first chunk>-<process id>``."""
    here = Path(folder)
    if where[0] == VICTIM:
        first_time = not any(here.glob(f"{VICTIM}-*"))
        if fault == "raise":
            raise ValueError("this part is no good")
        if fault == "kill always" or (fault == "kill once" and first_time):
            (here / f"{VICTIM}-killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    (here / f"{where[0]}-{os.getpid()}").touch()
    time.sleep(PAUSE_S)
    return split.part(tensor, variant, start, where, **options)
