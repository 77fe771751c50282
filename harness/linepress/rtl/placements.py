"""Vectors of address units and aligner: metadata or bytes in, addresses or lines as the Python packing has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES, LineCodec, Lines
from linepress_codecs.packing import parse_packing
from linepress_codecs.packing.base import PAGE_BYTES, Packing
from linepress_codecs.packing.pairs import Pairs
from linepress_codecs.packing.spill import Spill
from linepress_codecs.registry import make, parse_spec
from linepress_hardware.rtl.catalog import Design
from linepress_hardware.rtl.placement.align import LONGEST_BYTES
from linepress_hardware.rtl.placement.pairs import FULL, pairs_config
from linepress_hardware.rtl.placement.spill import LINES, spill_config
from linepress_hardware.rtl.simulate.vectors import Vectors, words_of

CODECS = ("window", "tans:streams=8", "huffman", "bdi")
"""Whose line sizes are packed: most are coded, all of a narrow range, and nearly all raw."""
SHORT_TENSORS = 60
"""Tensors of fewer lines than a group of ``spill`` has, down to one."""
LENGTH_BITS, ADDRESS_BITS, LONGEST_BITS = 8, 32, 808


def placement_vectors(design: Design, lines: Lines, rng: np.random.Generator) -> list[Vectors]:
    """A set for the line sizes of each of `CODECS` and for sizes by chance, every line asked for once; then sets of
    `SHORT_TENSORS` tensors cut from them.

    Sizes by chance are a little over half a line, so that many rests share an atom and ``spill`` fills atom by atom.
    """
    packing = parse_packing(design.packing)
    sizes = []
    for spec in CODECS:
        codec = make(*parse_spec(spec))
        assert isinstance(codec, LineCodec)
        sizes.append(codec.measure(lines, codec.fit([lines])))
    sizes.append(rng.integers(290, 330, max(len(lines) // 50, 150)).astype(np.uint16))
    for i in range(SHORT_TENSORS):
        bits = sizes[i % (len(CODECS) + 1)]
        n = int(rng.integers(1, min(LINES, len(bits))))
        at = int(rng.integers(len(bits) - n + 1))
        sizes.append(bits[at : at + n])
    if isinstance(packing, Pairs):
        sets = [_pairs(packing, bits, rng) for bits in sizes]
    elif isinstance(packing, Spill):
        sets = [_spill(packing, bits, rng) for bits in sizes]
    else:
        sets = [_aligned(packing, bits, rng) for bits in sizes]
    return [each.taken(rng.permutation(len(each))) for each in sets]


def _pairs(packing: Pairs, bits: NDArray[np.uint16], rng: np.random.Generator) -> Vectors:
    code, entries = packing.metadata(bits)
    place = packing.place(bits)
    n, each = len(bits), PAGE_BYTES // LINE_BYTES
    run = np.diff(np.append(place.start_bytes[::2], place.total_bytes)).repeat(2)[:n]
    second = np.arange(n) % 2 == 1
    address = place.start_bytes + np.where(second & (run < FULL), place.length_bytes - 1, 0)
    return _vectors(pairs_config(code.base, code.bits), entries, each, run, address, rng)


def _spill(packing: Spill, bits: NDArray[np.uint16], rng: np.random.Generator) -> Vectors:
    code, way, entries = packing.metadata(bits)
    place = packing.place(bits)
    assert place.rest_start_bytes is not None
    rest = np.maximum(place.length_bytes.astype(np.int64) - place.home_bytes, 0)
    config = spill_config(code.base, code.bits, way)
    found = _vectors(config, entries, packing.lines, rest, place.rest_start_bytes, rng)
    group = np.arange(len(rest)) // packing.lines
    found.given.view(np.uint8)[:, LONGEST_BITS // 8 - 1] = np.bincount(group)[group]  # how many lines it has
    return found


def _aligned(packing: Packing, bits: NDArray[np.uint16], rng: np.random.Generator) -> Vectors:
    """What begins where ``packing`` has a line, which may be at any byte, out of two beats: as many bytes as fit."""
    place = packing.place(bits)
    n = len(bits)
    memory = rng.integers(0, 256, place.total_bytes + 4 * LINE_BYTES, dtype=np.uint8)
    start = place.start_bytes[:, None]
    beats = memory[start // LINE_BYTES * LINE_BYTES + np.arange(2 * LINE_BYTES)]
    wanted = memory[start + np.arange(4 * words_of(8 * LONGEST_BYTES))]
    at, wanted_bits = (start[:, 0] % LINE_BYTES).astype(np.uint32), np.full(n, 8 * LONGEST_BYTES, np.uint32)
    return Vectors([], beats.view("<u4"), at, wanted.view("<u4"), wanted_bits, np.zeros(n, np.bool_))


def _vectors(
    config: list[tuple[int, int]],
    entries: NDArray[np.uint8],
    each: int,
    length: NDArray[np.int64],
    address: NDArray[np.int64],
    rng: np.random.Generator,
) -> Vectors:
    """``each``: lines of an entry; the address is compared where there is a length."""
    n = len(length)
    index = np.arange(n)
    given = rng.integers(0, 256, (n, 4 * words_of(LONGEST_BITS)), dtype=np.uint8)  # random behind the entry
    given[:, : entries.shape[1]] = entries[index // each]
    wanted = (
        (length.astype(np.uint64) | address.astype(np.uint64) << np.uint64(LENGTH_BITS)).view("<u4").reshape(n, 2)
    )
    bits = np.where(length > 0, LENGTH_BITS + ADDRESS_BITS, LENGTH_BITS).astype(np.uint32)
    return Vectors(config, given.view("<u4"), (index % each).astype(np.uint32), wanted, bits, np.zeros(n, np.bool_))
