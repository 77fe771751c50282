"""Optional per-page check sums: a ``corrupt`` flag where a coded stream has no redundancy of its own.

A flipped mantissa bit decodes to another valid line. A CRC-32 over the coded bits of each page of 4 KiB raw (64 lines
of 64 B) tells that something in the page is wrong, not which line. It costs 4 B a page, which ``stream:crc=on`` and
``classes:crc=on`` count. CRC-32 as in zlib (ISO 3309 polynomial): every burst of up to 32 bits is found, and all but
one in 2^32 of other damage.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.checks import check_geometry
from linepress_codecs.contracts import Packed
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.packing.base import page_lines


def page_checksums(packed: Packed) -> NDArray[np.uint32]:
    """CRC-32 of each page's sizes and coded bits, uint32[pages]; bits between lines do not count."""
    check_geometry(packed)
    per_page = page_lines(packed.line_bytes)
    sums = np.zeros(-(-len(packed) // per_page), np.uint32)
    for page in range(len(sums)):
        part = slice(page * per_page, (page + 1) * per_page)
        crc = zlib.crc32(packed.bits[part].astype("<u2").tobytes())
        for start, bits in zip(packed.starts[part].tolist(), packed.bits[part].tolist(), strict=True):
            code = int.from_bytes(packed.payload[start // 8 : -(-(start + bits) // 8)].tobytes(), "little")
            code = code >> start % 8 & (1 << bits) - 1
            crc = zlib.crc32(code.to_bytes(-(-bits // 8), "little"), crc)
        sums[page] = crc
    return sums


def corrupt_lines(packed: Packed, checksums: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """The ``corrupt`` flag of each line, bool[n]: True for every line of a page whose sum does not match.

    Raises `CorruptDataError` if there are not as many sums as pages, or lines lie outside the payload.
    """
    now = page_checksums(packed)
    if now.shape != checksums.shape:
        raise CorruptDataError(f"{len(checksums)} check sums do not match {len(now)} pages")
    return np.repeat(now != checksums, page_lines(packed.line_bytes))[: len(packed)]
