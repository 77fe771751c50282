"""ggml's block-quantised types as binary32 values, for the recorded cast ``dequant:bf16``.

Blocks are laid out as in ggml's ``ggml-common.h`` and unpacked as by ``dequantize_row_*`` in ``ggml-quants.c``; every
step is in binary32 and in that code's order, so values are the same bits as the reference's. Types that look their
values up in large grids (IQ1, IQ2, IQ3) and ternary ones are not unpacked here: they are measured as stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.uint8]
Values = NDArray[np.float32]

# kvalues_iq4nl and kvalues_mxfp4 (E2M1 doubled) of ggml-common.h
_IQ4: NDArray[np.float32] = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)
_E2M1_DOUBLED: NDArray[np.float32] = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


def _half(blocks: Blocks, at: int) -> Values:
    """The binary16 at byte ``at`` of every block, float32[n, 1]."""
    halves: Values = np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)
    return halves


def _fields(packed: Blocks, bits: int, run: int) -> Blocks:
    """Fields of ``bits`` bits of runs of ``run`` bytes, the lowest field of a whole run first, uint8[n, values]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    mask = np.uint8((1 << bits) - 1)
    fields = (packed.reshape(len(packed), -1, 1, run) >> shifts) & mask
    return fields.reshape(len(packed), -1)


def _fifth_bits(blocks: Blocks, at: int) -> Blocks:
    """The 32 high bits of a Q5_0 or Q5_1 block, already in the place of bit 4, uint8[n, 32]."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << np.uint8(4)


def _q4_0(b: Blocks) -> Values:
    return _half(b, 0) * (_fields(b[:, 2:], 4, 16).astype(np.float32) - 8)


def _q4_1(b: Blocks) -> Values:
    return _half(b, 0) * _fields(b[:, 4:], 4, 16).astype(np.float32) + _half(b, 2)


def _q5_0(b: Blocks) -> Values:
    quants = _fields(b[:, 6:], 4, 16) | _fifth_bits(b, 2)
    return _half(b, 0) * (quants.astype(np.float32) - 16)


def _q5_1(b: Blocks) -> Values:
    quants = _fields(b[:, 8:], 4, 16) | _fifth_bits(b, 4)
    return _half(b, 0) * quants.astype(np.float32) + _half(b, 2)


def _q8_0(b: Blocks) -> Values:
    return np.ascontiguousarray(b[:, 2:]).view(np.int8).astype(np.float32) * _half(b, 0)


def _q2_k(b: Blocks) -> Values:
    scales = (_half(b, 80) * (b[:, :16] & 15).astype(np.float32))[:, :, None]
    least = (_half(b, 82) * (b[:, :16] >> 4).astype(np.float32))[:, :, None]
    quants = _fields(b[:, 16:80], 2, 32).reshape(len(b), 16, 16).astype(np.float32)
    return (scales * quants - least).reshape(len(b), 256)


def _q3_k(b: Blocks) -> Values:
    low, high = _fields(b[:, 96:104], 4, 8), _fields(b[:, 104:108], 2, 4)
    scales = _half(b, 108) * ((low | (high << np.uint8(4))).astype(np.float32) - 32)
    third = _fields(b[:, :32], 1, 32) << np.uint8(2)  # a set bit means that nothing is taken off
    quants = (_fields(b[:, 32:96], 2, 32) | third).reshape(len(b), 16, 16).astype(np.float32) - 4
    return (scales[:, :, None] * quants).reshape(len(b), 256)


def _k_scales(packed: Blocks) -> tuple[Values, Values]:
    """The eight 6-bit scales and minima that Q4_K and Q5_K pack into 12 bytes, float32[n, 8] each."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (third & 15) | ((first >> 2) & 48)], axis=1)
    least = np.concatenate([second & 63, (third >> 4) | ((second >> 2) & 48)], axis=1)
    return scales.astype(np.float32), least.astype(np.float32)


def _affine(b: Blocks, quants: Blocks) -> Values:
    """Q4_K and Q5_K: eight runs of 32 values, each with its scale and minimum."""
    scales, least = _k_scales(b[:, 4:16])
    grown = (_half(b, 0) * scales)[:, :, None] * quants.reshape(len(b), 8, 32).astype(np.float32)
    return (grown - (_half(b, 2) * least)[:, :, None]).reshape(len(b), 256)


def _q4_k(b: Blocks) -> Values:
    return _affine(b, _fields(b[:, 16:], 4, 32))


def _q5_k(b: Blocks) -> Values:
    return _affine(b, _fields(b[:, 48:], 4, 32) | (_fields(b[:, 16:48], 1, 32) << np.uint8(4)))


def _q6_k(b: Blocks) -> Values:
    scales = _half(b, 208) * np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float32)
    quants = _fields(b[:, :128], 4, 64) | (_fields(b[:, 128:192], 2, 32) << np.uint8(4))
    centred = quants.reshape(len(b), 16, 16).astype(np.float32) - 32
    return (scales[:, :, None] * centred).reshape(len(b), 256)


def _iq4_nl(b: Blocks) -> Values:
    values: Values = _half(b, 0) * _IQ4[_fields(b[:, 2:], 4, 16)]
    return values


def _iq4_xs(b: Blocks) -> Values:
    low = _fields(b[:, 4:8].reshape(len(b), 4, 1), 4, 1)
    high = (np.ascontiguousarray(b[:, 2:4]).view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16)) & 3
    scales = _half(b, 0) * ((low | (high.astype(np.uint8) << np.uint8(4))).astype(np.float32) - 32)
    values: Values = scales[:, :, None] * _IQ4[_fields(b[:, 8:], 4, 16)].reshape(len(b), 8, 32)
    return values.reshape(len(b), 256)


def _mxfp4(b: Blocks) -> Values:
    # half of 2^(e - 127), for the values are doubled; e of 0 and 1 gives subnormals (GGML_E8M0_TO_FP32_HALF)
    e = b[:, :1].astype(np.uint32)
    scale = np.where(e < 2, np.uint32(0x200000) << e, (np.maximum(e, 1) - 1) << np.uint32(23))
    values: Values = scale.astype(np.uint32).view(np.float32) * _E2M1_DOUBLED[_fields(b[:, 1:], 4, 16)]
    return values


DEQUANTISERS: Mapping[str, Callable[[Blocks], Values]] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0, "Q2_K": _q2_k, "Q3_K": _q3_k,
    "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4,
}  # fmt: skip
"""By ggml type: uint8[n, block_bytes] -> float32[n, block_elements]."""
