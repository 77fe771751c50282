"""Address mapping: every bit of column, pseudo channel, rank, group, bank and row is the parity of some address bits.

A mapping is a square matrix over GF(2), one mask of atom-index bits per field bit, so that any mix of bit fields and
XOR hashes is one thing, and "no two addresses share a place" is one test: full rank.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram.parts import Part
from linepress_hardware.errors import ConfigurationError

FIELDS = ("co", "pc", "rk", "bg", "ba", "ro")
_LONG = {"co": "column", "pc": "pseudo channel", "rk": "rank", "bg": "bank group", "ba": "bank", "ro": "row"}


def field_bits(part: Part) -> dict[str, int]:
    """Address bits of each field; columns are counted in atoms."""
    sizes = {
        "co": part.row_bytes // part.atom_bytes,
        "pc": part.pseudo_channels,
        "rk": part.ranks,
        "bg": part.bank_groups,
        "ba": part.banks_per_group,
        "ro": part.rows,
    }
    return {k: n.bit_length() - 1 for k, n in sizes.items()}


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where an atom lies.

    Attributes
    ----------
    name : str
    masks : dict[str, tuple[int, ...]]
        For each field, least significant bit first: the bits of the atom index (byte address / atom) whose parity
        is that bit.
    """

    name: str
    masks: dict[str, tuple[int, ...]]

    @property
    def bits(self) -> int:
        return sum(len(m) for m in self.masks.values())

    @property
    def run_atoms(self) -> int:
        """Neighbouring atoms, from a multiple of their number on, that lie in one row: as far as the lowest address
        bits reach only columns."""
        others = 0
        for name, masks in self.masks.items():
            for mask in masks if name != "co" else ():
                others |= mask
        return others & -others if others else 1 << self.bits

    def place(self, atom: NDArray[np.uint64]) -> dict[str, NDArray[np.int64]]:
        """Field values of atom indices, by field name: int64[n] each."""
        out = {}
        for name, masks in self.masks.items():
            value = np.zeros(atom.shape, np.int64)
            for i, mask in enumerate(masks):
                value |= (np.bitwise_count(atom & np.uint64(mask)).astype(np.int64) & 1) << i
            out[name] = value
        return out

    def tables(self) -> NDArray[np.uint64]:
        """uint64[8, 256]: XOR of one entry per byte of the atom index gives ``row << bank_bits | flat bank``."""
        flat = [m for name in ("ba", "bg", "rk", "pc", "ro") for m in self.masks[name]]
        table = np.zeros((8, 256), np.uint64)
        byte = np.arange(256, dtype=np.uint64)
        for k in range(8):
            for i, mask in enumerate(flat):
                part_mask = np.uint64((mask >> (8 * k)) & 0xFF)
                parity = np.bitwise_count(byte & part_mask).astype(np.uint64) & np.uint64(1)
                table[k] |= parity << np.uint64(i)
        return table


def check(mapping: Mapping, part: Part) -> None:
    """Raise `ConfigurationError` unless the mapping fits the part and is a bijection."""
    want = field_bits(part)
    for name, bits in want.items():
        have = len(mapping.masks.get(name, ()))
        if have != bits:
            raise ConfigurationError(
                f"mapping {mapping.name}: {have} {_LONG[name]} bits, but part {part.name} has {bits}; give that many"
            )
    rows = [m for masks in mapping.masks.values() for m in masks]
    if any(m >> len(rows) for m in rows):
        raise ConfigurationError(
            f"mapping {mapping.name} uses address bits beyond the part's {len(rows)}; remove them"
        )
    if rank(rows) != len(rows):
        raise ConfigurationError(
            f"mapping {mapping.name} is not bijective: its {len(rows)} field bits have rank {rank(rows)} over GF(2), "
            "so that several addresses share one place; make every XOR triangular"
        )


def rank(rows: list[int]) -> int:
    """Rank over GF(2) of bit-mask rows."""
    basis: dict[int, int] = {}
    for row in rows:
        while row:
            top = row.bit_length() - 1
            if top not in basis:
                basis[top] = row
                break
            row ^= basis[top]
    return len(basis)


def fields_mapping(name: str, part: Part, order: list[tuple[str, int]]) -> Mapping:
    """Plain bit fields, least significant first: ``[("co", 2), ("bg", 2), …]``; a field may come in pieces."""
    masks: dict[str, list[int]] = {f: [] for f in FIELDS}
    bit = 0
    for field, bits in order:
        for _ in range(bits):
            masks[field].append(1 << bit)
            bit += 1
    return Mapping(name, {f: tuple(m) for f, m in masks.items()})


def _robaracoch(part: Part) -> Mapping:
    b = field_bits(part)
    return fields_mapping("RoBaRaCoCh", part, [(f, b[f]) for f in ("co", "pc", "rk", "bg", "ba", "ro")])


def _rocobarach(part: Part) -> Mapping:
    b = field_bits(part)
    return fields_mapping("RoCoBaRaCh", part, [(f, b[f]) for f in ("pc", "rk", "bg", "ba", "co", "ro")])


def _mop4(part: Part) -> list[tuple[str, int]]:
    b = field_bits(part)
    low = min(2, b["co"])
    return [("co", low), *((f, b[f]) for f in ("pc", "rk", "bg", "ba")), ("co", b["co"] - low), ("ro", b["ro"])]


def _mop4clxor(part: Part) -> Mapping:
    """Four atoms stay together; then each level is XORed with the next slice of the whole column index.

    The column bits left after the banks go into the row (a quirk of the reference simulator's mapping: where columns
    have more bits than banks, the atoms of one row spread over several rows). Kept, because the published rows
    come from it; `MOP4` with ``xor`` of the row is the same without the quirk.
    """
    plain = fields_mapping("MOP4CLXOR", part, _mop4(part))
    masks = {f: list(m) for f, m in plain.masks.items()}
    column = list(masks["co"])
    shift = 0
    for f in ("pc", "rk", "bg", "ba", "ro"):
        if f == "ro" and shift >= len(column):
            break
        for i in range(min(len(masks[f]), len(column) - shift)):
            masks[f][i] ^= column[shift + i]
        shift += len(masks[f])
    return Mapping("MOP4CLXOR", {f: tuple(m) for f, m in masks.items()})


def _mop4rowxor(part: Part) -> Mapping:
    """Four atoms stay together; group and bank are XORed with low row bits (permutation-based interleaving)."""
    plain = fields_mapping("MOP4RoXOR", part, _mop4(part))
    masks = {f: list(m) for f, m in plain.masks.items()}
    used = 0
    for f in ("bg", "ba"):
        for i in range(min(len(masks[f]), len(masks["ro"]) - used)):
            masks[f][i] ^= masks["ro"][used + i]
        used += len(masks[f])
    return Mapping("MOP4RoXOR", {f: tuple(m) for f, m in masks.items()})


NAMED: dict[str, tuple[Callable[[Part], Mapping], str]] = {
    "RoBaRaCoCh": (
        _robaracoch,
        "column, pseudo channel, rank, group, bank, row (low to high): a row is filled first",
    ),
    "MOP4CLXOR": (_mop4clxor, "four atoms, then pseudo channel to bank, XORed with the column"),
    "RoCoBaRaCh": (_rocobarach, "pseudo channel to bank first: neighbouring atoms in different banks"),
    "MOP4RoXOR": (_mop4rowxor, "four atoms, then pseudo channel to bank, group and bank XORed with the row"),
}


def mapping_for(part: Part, spec: str | Mapping | None = None) -> Mapping:
    """The checked mapping of a part from a name of `NAMED`, a spec, or the part's default (None).

    A spec lists fields from the lowest address bit up, ``co:2,pc,rk,bg,ba,co,ro`` (a number takes that many bits, no
    number takes the rest of the field), then XORs, ``co:2,bg,ba,co,ro/bg0^ro0/ba1^ro3^ro4``: field bit 0 of the group
    also gets the address bit of row bit 0. Raises `ConfigurationError`.
    """
    if isinstance(spec, Mapping):
        found = spec
    else:
        text = spec if spec is not None else part.default_mapping
        by_lower = {k.lower(): make for k, (make, _) in NAMED.items()}
        if text.lower() in by_lower:
            found = by_lower[text.lower()](part)
        elif "," in text or "/" in text:
            found = _parse(text, part)
        else:
            raise ConfigurationError(
                f"unknown mapping {text!r}: known are {', '.join(NAMED)}, or fields: co:2,pc,rk,bg,ba,co,ro/bg0^ro0"
            )
    check(found, part)
    return found


def _parse(text: str, part: Part) -> Mapping:
    head, *xors = text.split("/")
    sizes = field_bits(part)
    left = dict(sizes)
    order: list[tuple[str, int]] = []
    for piece in head.split(","):
        match = re.fullmatch(r"(co|pc|rk|bg|ba|ro)(?::(\d+))?", piece.strip())
        if not match:
            raise ConfigurationError(
                f"mapping {text!r}: {piece!r} is not a field (co, pc, rk, bg, ba, ro, with :bits)"
            )
        field = match[1]
        bits = int(match[2]) if match[2] else left[field]
        if bits > left[field]:
            raise ConfigurationError(
                f"mapping {text!r} gives more {_LONG[field]} bits than the {sizes[field]} of part {part.name}"
            )
        left[field] -= bits
        order.append((field, bits))
    short = [f for f in FIELDS if left[f]]
    if short:
        raise ConfigurationError(
            f"mapping {text!r} leaves out {left[short[0]]} {_LONG[short[0]]} bits; list {short[0]}"
        )
    plain = fields_mapping(text, part, order)
    masks = {f: list(m) for f, m in plain.masks.items()}
    for xor in xors:
        terms = [re.fullmatch(r"(co|pc|rk|bg|ba|ro)(\d+)", t.strip()) for t in xor.split("^")]
        if len(terms) < 2 or not all(terms):
            raise ConfigurationError(f"mapping {text!r}: {xor!r} is not an XOR such as bg0^ro3")
        named = [(m[1], int(m[2])) for m in terms if m]
        for field, i in named:
            if i >= sizes[field]:
                raise ConfigurationError(
                    f"mapping {text!r}: {field}{i} does not exist, {_LONG[field]} has {sizes[field]} bits"
                )
        target, index = named[0]
        for field, i in named[1:]:
            masks[target][index] ^= plain.masks[field][i]
    return Mapping(text, {f: tuple(m) for f, m in masks.items()})


@numba.njit(cache=True)
def place_atoms(
    first_atom: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    tables: NDArray[np.uint64],
    bank_bits: int,
    atoms: NDArray[np.int64],
) -> None:
    """Fill ``atoms[:, 0:3]``: flat bank, row, atom index; request r owns atoms ``offsets[r]:offsets[r + 1]``."""
    low = np.uint64((1 << bank_bits) - 1)
    shift = np.uint64(bank_bits)
    for r in range(first_atom.shape[0]):
        index = first_atom[r]
        for j in range(offsets[r], offsets[r + 1]):
            packed = np.uint64(0)
            rest = index
            for k in range(6):
                packed ^= tables[k, rest & np.uint64(0xFF)]
                rest >>= np.uint64(8)
            atoms[j, 0] = np.int64(packed & low)
            atoms[j, 1] = np.int64(packed >> shift)
            atoms[j, 2] = np.int64(index)
            index += np.uint64(1)
