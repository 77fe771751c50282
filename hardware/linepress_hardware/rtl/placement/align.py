"""Byte aligner: a line of up to 514 bits out of two 64-byte beats, from any byte on."""

from __future__ import annotations

from amaranth.hdl import Module

from linepress_hardware.rtl.blocks import Pipe, shift_out
from linepress_hardware.rtl.line import RAW_BITS, LineEngine

LONGEST_BYTES = 65


class ByteAligner(LineEngine):
    """``line`` holds the two beats, ``size`` the byte in the first at which the line begins (0 to 63)."""

    line_bits = 2 * RAW_BITS
    data_bits = 8 * LONGEST_BYTES

    def build(self, m: Module) -> None:
        pipe = Pipe(m, self.valid)
        beats, at = pipe.cut(self.line, self.size)
        self.finish(m, pipe, shift_out(m, beats, at[:6], LONGEST_BYTES, 63, "align", unit=8), 0)
