"""Machine operations that Numba has no name for: unaligned loads and stores, and bits gathered and scattered.

Addresses are uint64, from ``array.ctypes.data``; nothing is checked. Whoever calls a load or a store has proved that
it stays inside its array. Little-endian, as everything in linepress.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

operation: Any = intrinsic
"""`numba.extending.intrinsic`, whose own hints would have callers pass the typing context."""


def _load(bits: int, result: Any) -> Any:
    @intrinsic
    def load(typing_context, address):  # type: ignore[no-untyped-def]
        del typing_context, address

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del context, signature
            return builder.load(builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()), align=1)

        return result(types.uint64), generate

    return load


def _store(bits: int, value: Any) -> Any:
    @intrinsic
    def store(typing_context, address, number):  # type: ignore[no-untyped-def]
        del typing_context, address, number

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del signature
            builder.store(arguments[1], builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.uint64, value), generate

    return store


load8, load16 = _load(8, types.uint8), _load(16, types.uint16)
load32, load64 = _load(32, types.uint32), _load(64, types.uint64)
store8, store16 = _store(8, types.uint8), _store(16, types.uint16)
store32, store64 = _store(32, types.uint32), _store(64, types.uint64)


@intrinsic
def _copy32(typing_context, source, target):  # type: ignore[no-untyped-def]
    """32 bytes from one address to another."""
    del typing_context, source, target

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del signature
        bytes_ = Lanes(builder, 32, 8)
        bytes_.store(bytes_.load(arguments[0]), arguments[1])
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), generate


copy32: Any = _copy32


def _bmi2(name: str) -> Any:
    @intrinsic
    def operation(typing_context, value, mask):  # type: ignore[no-untyped-def]
        del typing_context, value, mask

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del context, signature
            word = ir.IntType(64)
            function = builder.module.declare_intrinsic(name, (), ir.FunctionType(word, [word, word]))
            return builder.call(function, arguments)

        return types.uint64(types.uint64, types.uint64), generate

    return operation


deposit = _bmi2("llvm.x86.bmi.pdep.64")
"""Bits of ``value``, lowest first, into the places of ``mask``; only where the target has BMI2."""
extract = _bmi2("llvm.x86.bmi.pext.64")
"""Bits of ``value`` at the places of ``mask``, side by side; only where the target has BMI2."""


@intrinsic
def _count_ones(typing_context, value):  # type: ignore[no-untyped-def]
    """Bits set in a uint64."""
    del typing_context, value

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del context, signature
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def _trailing_zeros(typing_context, value):  # type: ignore[no-untyped-def]
    """Zeros below the lowest bit set of a uint64, 64 for zero."""
    del typing_context, value

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del context, signature
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


count_ones: Any = _count_ones
trailing_zeros: Any = _trailing_zeros
# Numba's helpers of code generation have no types.
variable: Any = cgutils.alloca_once_value
loop_over: Any = cgutils.for_range


class Lanes:
    """Builder of LLVM vector code over ``n`` lanes of ``bits`` bits; the target decides on registers and gathers."""

    def __init__(self, builder: Any, n: int, bits: int) -> None:
        self.builder = builder
        self.n = n
        self.bits = bits
        self.vector = ir.VectorType(ir.IntType(bits), n)

    def constant(self, value: int) -> Any:
        return ir.Constant(self.vector, [value & ((1 << self.bits) - 1)] * self.n)

    def splat(self, scalar: Any) -> Any:
        """The scalar, uint64 or of the lanes' type, in every lane."""
        index, undefined = ir.IntType(32), ir.Constant(self.vector, ir.Undefined)
        if scalar.type.width > self.bits:
            scalar = self.builder.trunc(scalar, ir.IntType(self.bits))
        one = self.builder.insert_element(undefined, scalar, ir.Constant(index, 0))
        zeros = ir.Constant(ir.VectorType(index, self.n), [0] * self.n)
        return self.builder.shuffle_vector(one, undefined, zeros)

    def _at(self, address: Any, row: Any, size: int) -> Any:
        word = ir.IntType(64)
        offset = row if not isinstance(row, int) else ir.Constant(word, row)
        bytes_in = self.builder.mul(offset, ir.Constant(word, size * self.bits // 8))
        return self.builder.inttoptr(self.builder.add(address, bytes_in), ir.PointerType())

    def load(self, address: Any, row: Any = 0) -> Any:
        """Row ``row`` of an array [rows, n]."""
        return self.builder.load(self._at(address, row, self.n), align=self.bits // 8, typ=self.vector)

    def load_one(self, address: Any, index: Any) -> Any:
        """Number ``index`` of an array, in every lane."""
        return self.splat(
            self.builder.load(self._at(address, index, 1), align=self.bits // 8, typ=ir.IntType(self.bits))
        )

    def store(self, value: Any, address: Any, row: Any = 0) -> None:
        self.builder.store(value, self._at(address, row, self.n), align=self.bits // 8)

    def gather(self, address: Any, index: Any, size: int, align: int) -> Any:
        """The lanes' bits at ``address`` + ``size`` * index of each lane; ``size`` and ``align`` in bytes."""
        builder = self.builder
        pointers = ir.VectorType(ir.PointerType(), self.n)
        mask = ir.VectorType(ir.IntType(1), self.n)
        name = f"llvm.masked.gather.v{self.n}i{self.bits}.v{self.n}p0"
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(self.vector, [pointers, ir.IntType(32), mask, self.vector]), name
        )
        base = builder.inttoptr(address, ir.PointerType())
        # A base with an index in each lane is what a gather instruction takes; llvmlite gives it the type of one.
        where = builder.gep(base, [index], source_etype=ir.IntType(8 * size))
        where.type = pointers
        everywhere = ir.Constant(mask, [1] * self.n)
        undefined = ir.Constant(self.vector, ir.Undefined)
        return builder.call(function, [where, ir.Constant(ir.IntType(32), align), everywhere, undefined])

    def window(self, address: Any, at: Any) -> Any:
        """All but the last seven bits of a lane from bit ``at`` of each lane on, of the bytes at ``address``."""
        bits = self.gather(address, self.builder.lshr(at, self.constant(3)), 1, 1)
        return self.builder.lshr(bits, self.builder.and_(at, self.constant(7)))

    def low_bits(self, value: Any, count: Any) -> Any:
        """The low ``count`` bits of each lane."""
        ones = self.builder.shl(self.constant(-1), count)
        return self.builder.and_(value, self.builder.xor(ones, self.constant(-1)))
