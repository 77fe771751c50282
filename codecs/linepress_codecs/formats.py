"""Element formats: how the bits of one stored value divide into sign, exponent and mantissa.

Values are handled as unsigned integers of the stored width; nothing here converts a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from linepress_codecs.errors import UnsupportedFormatError


@dataclass(frozen=True, slots=True)
class Format:
    """One element format.

    Attributes
    ----------
    name : str
        Name as used in suites and records, for instance ``bf16``.
    bits : int
        Width of a stored element in bits; 4 for packed four-bit formats (two to a byte, low nibble first).
    sign_bits, exponent_bits, mantissa_bits : int
        The fields from the top bit down; integers and opaque bytes have only ``mantissa_bits``.
    title : str
        What the format is and where it is defined.
    """

    name: str
    bits: int
    sign_bits: int
    exponent_bits: int
    mantissa_bits: int
    title: str

    @property
    def storage(self) -> np.dtype[np.unsignedinteger]:
        """Little-endian unsigned type that holds one element (``uint8`` for packed four-bit formats)."""
        return np.dtype({4: "u1", 8: "u1", 16: "<u2", 32: "<u4"}[self.bits])

    @property
    def is_float(self) -> bool:
        return self.exponent_bits > 0

    def elements_in(self, n_bytes: int) -> int:
        """Number of elements in ``n_bytes`` bytes."""
        return n_bytes * 8 // self.bits


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("bf16", 16, 1, 8, 7, "bfloat16: the upper half of IEEE binary32"),
        Format("fp16", 16, 1, 5, 10, "IEEE 754 binary16"),
        Format("fp32", 32, 1, 8, 23, "IEEE 754 binary32"),
        Format("e4m3", 8, 1, 4, 3, "OCP OFP8 E4M3 (no infinities), OCP 8-bit floating point specification 1.0"),
        Format("e5m2", 8, 1, 5, 2, "OCP OFP8 E5M2, OCP 8-bit floating point specification 1.0"),
        Format("e4m3fnuz", 8, 1, 4, 3, "E4M3 FNUZ (no infinities, no negative zero)"),
        Format("e5m2fnuz", 8, 1, 5, 2, "E5M2 FNUZ (no infinities, no negative zero)"),
        Format("e8m0", 8, 0, 8, 0, "E8M0 power-of-two scale, OCP Microscaling specification 1.0"),
        Format("int8", 8, 0, 0, 8, "8-bit integer, two's complement"),
        Format("uint8", 8, 0, 0, 8, "opaque bytes (block-quantised payloads, packed integers)"),
        Format("int4", 4, 0, 0, 4, "packed 4-bit integers, low nibble first"),
        Format(
            "e2m1",
            4,
            1,
            2,
            1,
            "packed FP4 E2M1 payload of MXFP4 and NVFP4, OCP Microscaling specification 1.0",
        ),
        Format("int16", 16, 0, 0, 16, "16-bit integer"),
        Format("int32", 32, 0, 0, 32, "32-bit integer"),
    )
}


def format_named(name: str) -> Format:
    """The format called ``name``; raises `UnsupportedFormatError` naming the known ones otherwise."""
    try:
        return FORMATS[name]
    except KeyError:
        known = ", ".join(FORMATS)
        raise UnsupportedFormatError(f"unknown element format {name!r}: use one of {known}") from None
