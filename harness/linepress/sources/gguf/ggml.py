"""ggml's tensor types: block sizes, and which bytes of a block are scales (``ggml-common.h``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GgmlType:
    """One ggml tensor type: elements and bytes of a block, and which byte ranges of it are scales."""

    name: str
    block_elements: int
    block_bytes: int
    format: str = "uint8"
    scales: tuple[tuple[int, int], ...] = ()
    scales_format: str = "uint8"
    quants_format: str = "uint8"


# id -> type; scale ranges are byte offsets in a block (d, dmin, packed sub-block scales), the rest are quants
TYPES: dict[int, GgmlType] = {
    0: GgmlType("F32", 1, 4, "fp32"),
    1: GgmlType("F16", 1, 2, "fp16"),
    2: GgmlType("Q4_0", 32, 18, scales=((0, 2),), scales_format="fp16", quants_format="int4"),
    3: GgmlType("Q4_1", 32, 20, scales=((0, 4),), scales_format="fp16", quants_format="int4"),
    6: GgmlType("Q5_0", 32, 22, scales=((0, 2),), scales_format="fp16"),
    7: GgmlType("Q5_1", 32, 24, scales=((0, 4),), scales_format="fp16"),
    8: GgmlType("Q8_0", 32, 34, scales=((0, 2),), scales_format="fp16", quants_format="int8"),
    9: GgmlType("Q8_1", 32, 40, scales=((0, 8),), scales_format="fp32", quants_format="int8"),
    10: GgmlType("Q2_K", 256, 84, scales=((0, 16), (80, 84))),
    11: GgmlType("Q3_K", 256, 110, scales=((96, 110),)),
    12: GgmlType("Q4_K", 256, 144, scales=((0, 16),), quants_format="int4"),
    13: GgmlType("Q5_K", 256, 176, scales=((0, 16),)),
    14: GgmlType("Q6_K", 256, 210, scales=((192, 210),)),
    15: GgmlType("Q8_K", 256, 292, scales=((0, 4), (260, 292)), quants_format="int8"),
    16: GgmlType("IQ2_XXS", 256, 66, scales=((0, 2),), scales_format="fp16"),
    17: GgmlType("IQ2_XS", 256, 74, scales=((0, 2), (66, 74))),
    18: GgmlType("IQ3_XXS", 256, 98, scales=((0, 2),), scales_format="fp16"),
    19: GgmlType("IQ1_S", 256, 50, scales=((0, 2),), scales_format="fp16"),
    20: GgmlType("IQ4_NL", 32, 18, scales=((0, 2),), scales_format="fp16", quants_format="int4"),
    21: GgmlType("IQ3_S", 256, 110, scales=((0, 2), (106, 110))),
    22: GgmlType("IQ2_S", 256, 82, scales=((0, 2), (74, 82))),
    23: GgmlType("IQ4_XS", 256, 136, scales=((0, 8),), quants_format="int4"),
    24: GgmlType("I8", 1, 1, "int8"),
    25: GgmlType("I16", 1, 2, "int16"),
    26: GgmlType("I32", 1, 4, "int32"),
    29: GgmlType("IQ1_M", 256, 56, scales=((48, 56),)),
    30: GgmlType("BF16", 1, 2, "bf16"),
    34: GgmlType("TQ1_0", 256, 54, scales=((52, 54),), scales_format="fp16"),
    35: GgmlType("TQ2_0", 256, 66, scales=((64, 66),), scales_format="fp16"),
    39: GgmlType("MXFP4", 32, 17, scales=((0, 1),), scales_format="e8m0", quants_format="e2m1"),
    40: GgmlType("NVFP4", 64, 36, scales=((0, 4),), scales_format="e4m3", quants_format="e2m1"),
    41: GgmlType("Q1_0", 128, 18, scales=((0, 2),), scales_format="fp16"),
    42: GgmlType("Q2_0", 64, 18, scales=((0, 2),), scales_format="fp16"),
}
# Types whose number another branch uses with another block; the bytes up to the next tensor tell which it is.
# Q2_0: 128 values in 34 bytes before ggml took the type in with 64 in 18.
OTHERWISE: dict[int, GgmlType] = {42: GgmlType("Q2_0", 128, 34, scales=((0, 2),), scales_format="fp16")}
UNMEASURED = {27: "I64", 28: "F64"}
_BY_NAME = {kind.name: kind for kind in TYPES.values()}


def ggml_type(name: str) -> GgmlType:
    """The type called ``name``; it must be one of `TYPES`."""
    return _BY_NAME[name]
