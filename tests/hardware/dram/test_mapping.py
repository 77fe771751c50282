"""Address mappings: bijective or refused, fields where they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linepress_hardware.dram import Mapping, load_part, mapping_for, part_names
from linepress_hardware.dram.mapping import FIELDS, NAMED, field_bits, place_atoms, rank
from linepress_hardware.errors import ConfigurationError


def _flat(placed: dict[str, np.ndarray], bits: dict[str, int]) -> np.ndarray:
    out = np.zeros(next(iter(placed.values())).shape, np.uint64)
    for field in FIELDS:
        out = (out << np.uint64(bits[field])) | placed[field].astype(np.uint64)
    return out


@pytest.mark.parametrize("part_name", part_names())
@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_mappings_are_bijective(part_name: str, name: str) -> None:
    part = load_part(part_name)
    mapping = mapping_for(part, name)
    assert rank([m for masks in mapping.masks.values() for m in masks]) == mapping.bits
    assert part.atom_bytes << mapping.bits == part.capacity_bytes
    # A window that exercises every low bit, and every high bit once.
    low = np.arange(1 << 14, dtype=np.uint64)
    high = np.uint64(1) << np.arange(14, mapping.bits, dtype=np.uint64)
    atoms = np.concatenate([low, high])
    assert np.unique(_flat(mapping.place(atoms), field_bits(part))).size == atoms.size


@given(st.lists(st.integers(0, (1 << 25) - 1), min_size=2, max_size=50, unique=True), st.sampled_from(sorted(NAMED)))
def test_no_two_addresses_share_a_place(atoms: list[int], name: str) -> None:
    part = load_part("hbm3")
    placed = mapping_for(part, name).place(np.array(atoms, np.uint64))
    assert np.unique(_flat(placed, field_bits(part))).size == len(atoms)


@given(st.data())
def test_random_matrices_are_taken_exactly_when_bijective(data: st.DataObject) -> None:
    part = load_part("gddr6", {"rows": 4, "row_bytes": 64, "bank_groups": 2, "banks_per_group": 2})
    bits = field_bits(part)
    total = sum(bits.values())
    masks = {f: tuple(data.draw(st.integers(1, (1 << total) - 1)) for _ in range(n)) for f, n in bits.items()}
    mapping = Mapping("random", masks)
    everything = np.arange(1 << total, dtype=np.uint64)
    bijective = np.unique(_flat(mapping.place(everything), bits)).size == everything.size
    if bijective:
        assert mapping_for(part, mapping) is mapping
    else:
        with pytest.raises(ConfigurationError, match="not bijective"):
            mapping_for(part, mapping)


def test_fields_stand_in_the_order_of_the_spec() -> None:
    part = load_part("hbm3")
    placed = mapping_for(part, "co:2,pc,rk,bg,ba,co,ro").place(np.array([0b1011], np.uint64))
    assert {f: int(v[0]) for f, v in placed.items()} == {"co": 3, "pc": 0, "rk": 1, "bg": 0, "ba": 0, "ro": 0}


def test_mop4clxor_follows_its_published_steps() -> None:
    """Four atoms together, then each level XORed with the next slice of the column, the rest of it into the row."""
    part = load_part("gddr6")
    bits = field_bits(part)
    atoms = np.arange(0, 1 << 22, 77, dtype=np.uint64)
    rest, fields = atoms.copy(), {}
    take = lambda n: (rest & np.uint64((1 << n) - 1)).astype(np.int64)  # noqa: E731
    column = take(2)
    rest = rest >> np.uint64(2)
    for f in ("pc", "rk", "bg", "ba"):
        fields[f] = take(bits[f])
        rest = rest >> np.uint64(bits[f])
    column |= take(bits["co"] - 2) << 2
    rest = rest >> np.uint64(bits["co"] - 2)
    fields["ro"] = rest.astype(np.int64)
    shift = 0
    for f in ("pc", "rk", "bg", "ba", "ro"):
        fields[f] ^= (column >> shift) & ((1 << bits[f]) - 1)
        shift += bits[f]
    placed = mapping_for(part, "MOP4CLXOR").place(atoms)
    assert all((placed[f] == fields[f]).all() for f in fields)
    assert (placed["co"] == column).all()


def test_the_engines_tables_agree_with_the_masks() -> None:
    part = load_part("hbm3")
    mapping = mapping_for(part, "MOP4CLXOR")
    first = np.arange(0, 1 << 24, 9973, dtype=np.uint64)
    offsets = np.arange(first.size + 1, dtype=np.int64)
    atoms = np.empty((first.size, 3), np.int64)
    place_atoms(first, offsets, mapping.tables(), part.banks.bit_length() - 1, atoms)
    placed = mapping.place(first)
    flat = ((placed["pc"] * part.ranks + placed["rk"]) * part.bank_groups + placed["bg"]) * part.banks_per_group
    assert (atoms[:, 0] == flat + placed["ba"]).all()
    assert (atoms[:, 1] == placed["ro"]).all()
    assert (atoms[:, 2] == first.astype(np.int64)).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nix", "unknown mapping 'nix'"),
        ("co,pc,rk,bg,ba,ro/ro0^bg0/bg0^ro0", "not bijective"),
        ("co,pc,rk,bg,ba", "leaves out"),
        ("co:9,pc,rk,bg,ba,ro", "more column bits"),
        ("co,pc,rk,xx,ba,ro", "'xx' is not a field"),
        ("co,pc,rk,bg,ba,ro/bg7^ro0", "bg7 does not exist"),
        ("co,pc,rk,bg,ba,ro/bg0", "is not an XOR"),
    ],
)
def test_bad_mappings_say_what_is_wrong(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mapping_for(load_part("hbm3"), spec)


def test_a_mapping_of_another_part_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="column bits, but part ddr4"):
        mapping_for(load_part("ddr4"), mapping_for(load_part("hbm3"), "RoBaRaCoCh"))


@pytest.mark.parametrize(
    ("mapping", "atoms"),
    [("RoBaRaCoCh", 32), ("MOP4RoXOR", 4), ("MOP4CLXOR", 1), ("RoCoBaRaCh", 1), ("co:3,pc,rk,bg,ba,co,ro", 8)],
)
def test_atoms_that_a_mapping_keeps_in_one_row(mapping: str, atoms: int) -> None:
    part = load_part("hbm3")
    found = mapping_for(part, mapping)
    assert found.run_atoms == atoms
    place = found.place(np.arange(4096, dtype=np.uint64))
    bank = np.stack([place[name] for name in ("pc", "rk", "bg", "ba", "ro")])
    runs = bank.reshape(5, -1, atoms)
    assert (runs == runs[:, :, :1]).all()
    longer = bank.reshape(5, -1, 2 * atoms)
    assert not (longer == longer[:, :, :1]).all(axis=(0, 2)).all()
