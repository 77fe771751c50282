"""Sequences laid out as Hugging Face Transformers keeps them: one tensor a layer, padded to the longest.

`DynamicCache` and `StaticCache` hold ``[sequences, kv_heads, tokens, head_dim]``. A dynamic cache is as long as its
longest sequence and padded where the tokenizer pads (``left`` for generation); a static one is allocated to a
maximum and unwritten on the right. Padding slots of a left-padded batch hold what the model computed for the padding
token, so they are part of the memory and not of the data: the snapshot marks them by ``sequence_tokens``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.sources.snapshot.pages import Bits


def to_batch(sequences: Sequence[Bits], *, slots: int | None = None, padding: str = "left") -> Bits:
    """One layer's keys or values of several sequences as one padded batch.

    Parameters
    ----------
    sequences : unsigned[kv_heads, tokens, head_dim] each
        Stored bits.
    slots : int | None
        Tokens allocated for each sequence (a static cache); the longest sequence's if None.
    padding : str
        ``left`` or ``right``; padding is zero.

    Returns unsigned[sequences, kv_heads, slots, head_dim]. Raises `SourceError` for a sequence that does not fit.
    """
    if not sequences or padding not in ("left", "right"):
        raise SourceError("a batch needs at least one sequence and padding left or right")
    heads, _, dim = sequences[0].shape
    held = max(s.shape[1] for s in sequences) if slots is None else slots
    out: NDArray[np.unsignedinteger] = np.zeros((len(sequences), heads, held, dim), sequences[0].dtype)
    for row, sequence in enumerate(sequences):
        n = sequence.shape[1]
        if sequence.shape != (heads, n, dim) or n > held:
            raise SourceError(f"sequence {row} of shape {list(sequence.shape)} does not fit {[heads, held, dim]}")
        out[row, :, held - n if padding == "left" else 0 : held if padding == "left" else n] = sequence
    return out
