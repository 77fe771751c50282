"""Packings: worked examples, conservation, no overlap, random access, and the class search against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from linepress_codecs.errors import SpecError
from linepress_codecs.packing import (
    PACKINGS,
    Pairs,
    Spill,
    best_classes,
    best_slot,
    parse_packing,
    stored_bytes,
    stride_bytes,
)
from linepress_codecs.packing.base import SizeCode, best_size_code

SPECS = [
    "stream",
    "stream:granule=bit",
    "stream:granule=4",
    "stream:granule=8",
    "stream:granule=32",
    "classes",
    "classes:set=0/22/44/64",
    "classes:set=auto:k=4",
    "classes:set=auto:k=8:atom=8",
    "classes:set=auto:atom=1",
    "slots",
    "slots:slot=44",
    "slots:slot=auto",
    "groups",
    "groups:lines=48:size=33",
    "groups:lines=3:size=2",
    "groups:granule=4",
    "pairs",
    "spill",
    "spill:lines=64",
]
sizes = st.lists(st.one_of(st.integers(0, 520), st.sampled_from([0, 2, 4, 5, 511, 512, 513, 514])), max_size=300)


def bits_of(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint16)


@settings(max_examples=60, deadline=None)
@given(values=sizes, spec=st.sampled_from(SPECS), line_bytes=st.sampled_from([64, 32]))
def test_every_line_has_room_of_its_own(values: list[int], spec: str, line_bytes: int) -> None:
    """Lines lie inside the total, hold their code, do not overlap (beyond a shared byte of a bit granule)."""
    packing, bits = parse_packing(spec), bits_of(values)
    if spec == "pairs":
        bits = np.minimum(bits, 8 * line_bytes + 16).astype(np.uint16)  # more than that no codec writes
    place, cost = packing.place(bits, line_bytes), packing.cost(bits, 10, line_bytes)
    assert cost.packed_bytes == cost.data_bytes + cost.metadata_bytes + cost.table_bytes
    assert cost.data_bytes == place.total_bytes
    assert cost.raw_bytes == len(bits) * line_bytes
    need = stored_bytes(bits, line_bytes)
    assert (place.length_bytes >= need).all()
    # A bit granule may start inside a byte; a raw line in a pair keeps its header.
    shared, header = ("bit" in spec or spec == "pairs"), {"stream:granule=bit": 1, "pairs": 2}.get(spec, 0)
    assert (place.length_bytes <= line_bytes + header).all()
    if not len(bits):
        assert (cost.packed_bytes, place.total_bytes) == (10, 0)
        return
    start, length = (np.concatenate(parts) for parts in zip(*place.extents(), strict=True))
    start, ends = start[length > 0], (start + length)[length > 0]
    assert start.min(initial=0) >= 0
    assert ends.max(initial=0) <= place.total_bytes
    order = np.lexsort((ends, start))
    assert (start[order][1:] >= ends[order][:-1] - shared).all()
    raw = bits >= 8 * line_bytes
    if not header:
        assert (place.length_bytes[raw] == line_bytes).all()
        assert cost.raw_lines >= raw.sum()


def test_random_access_limits() -> None:
    """Any line alone: 2 atoms of 32 B in classes; 2 of 64 B and 3 of 32 B in groups."""
    rng = np.random.Generator(np.random.PCG64(3))
    bits = rng.integers(0, 520, 20000).astype(np.uint16)
    for spec in ("classes", "classes:set=0/22/44/64", "classes:set=auto", "classes:set=0/5/9/21/33/42/47/64"):
        assert parse_packing(spec).atoms_per_random_line(bits, 32).max <= 2, spec
    for spec in ("groups", "groups:lines=48:size=33", "groups:lines=3:size=2"):
        assert parse_packing(spec).atoms_per_random_line(bits, 64).max <= 2, spec
        assert parse_packing(spec).atoms_per_random_line(bits, 32).max <= 3, spec
    for spec in ("spill", "spill:lines=64", "spill:lines=256"):
        assert parse_packing(spec).atoms_per_random_line(bits, 32).max <= 2, spec


def test_pairs_by_hand() -> None:
    """338 + 346 bits share 86 B: 43 B from the start, 44 B from the end, a byte in both; codes of 1 bit."""
    place = parse_packing("pairs").place(bits_of([338, 346] * 32))
    assert place.start_bytes[:4].tolist() == [0, 42, 86, 128]
    assert place.length_bytes[:4].tolist() == [43, 44, 43, 44]
    cost = parse_packing("pairs").cost(bits_of([338, 346] * 32), table_bytes=7)
    assert (cost.data_bytes, cost.metadata_bytes, cost.table_bytes) == (32 * 86, 4 + 32 // 8, 10)
    # Two zero lines take no byte, two raw ones two lines, the last of an odd number is alone.
    odd = parse_packing("pairs").place(bits_of([4, 4, 513, 514, 513, 346, 300]))
    assert odd.length_bytes.tolist() == [0, 0, 64, 64, 65, 44, 38]
    assert odd.start_bytes.tolist() == [0, 0, 0, 64, 128, 192, 236]
    assert odd.total_bytes == 128 + 108 + 38


def test_metadata_is_what_the_places_follow_from() -> None:
    """Pointer and codes of each entry, read back bit by bit, give every run and every rest its place."""
    rng = np.random.default_rng(4)
    bits = np.where(rng.random(500) < 0.1, 514, rng.integers(200, 420, 500)).astype(np.uint16)
    bits[64:70], bits[20:22] = 2, 514
    pairs = Pairs()
    code, entries = pairs.metadata(bits)
    lengths = _lengths(code, entries, 32, 128)[:250]
    pointers = entries[:, :4].copy().view("<u4")[:, 0]
    place = pairs.place(bits)
    assert entries.shape == (8, place.metadata_bytes_per_page)
    first = np.concatenate([[0], np.cumsum(lengths)])
    assert (first[:-1] == place.start_bytes[::2]).all()
    assert (first[:-1:32] == pointers).all()
    assert {0, 128} < set(lengths.tolist())

    spill = Spill()
    code, way, entries = spill.metadata(bits)
    there = spill.place(bits)
    assert way in (0, 1)
    assert entries.shape == (4, there.metadata_bytes_per_page)
    assert (_lengths(code, entries, 128, 32)[:500] == np.maximum(there.length_bytes - 32, 0)).all()
    pointers = entries[:, :4].copy().view("<u4")[:, 0]
    assert there.rest_start_bytes is not None
    for group, pointer in enumerate(pointers):
        own = slice(128 * group, 128 * group + 128)
        assert there.rest_start_bytes[own][there.length_bytes[own] > 32].min() == pointer


def _lengths(code: SizeCode, entries: NDArray[np.uint8], each: int, full: int) -> NDArray[np.int64]:
    """The lengths that metadata says, read as the format document has it."""
    out = []
    for entry in entries:
        value = int.from_bytes(entry.tobytes(), "little") >> 32
        for i in range(each):
            one = value >> (code.bits * i) & ((1 << code.bits) - 1)
            out.append(full if one == (1 << code.bits) - 1 else code.base + one)
    return np.array(out, np.int64)


def test_spill_by_hand() -> None:
    """Rests of 8, 24, 32 (raw), none and 8 B: three atoms, those of 8 and 24 B sharing the second."""
    place = parse_packing("spill").place(bits_of([320, 448, 513, 256, 320, 4]))
    assert place.start_bytes.tolist() == [0, 32, 64, 96, 128, 160]
    assert place.length_bytes.tolist() == [40, 56, 64, 32, 40, 0]
    assert place.rest_start_bytes is not None
    assert place.rest_start_bytes[[0, 1, 2, 4]].tolist() == [6 * 32 + 56, 6 * 32 + 32, 6 * 32, 6 * 32 + 64]
    assert place.total_bytes == 9 * 32
    assert place.atoms(32).tolist() == [2, 2, 2, 1, 2, 0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 530), max_size=200), st.sampled_from([64, 128, 256]))
def test_rests_lie_whole_in_few_atoms(values: list[int], lines: int) -> None:
    """No rest straddles an atom, and the atoms are at most those of first fit in line order."""
    place = parse_packing(f"spill:lines={lines}").place(bits_of(values))
    assert place.rest_start_bytes is not None
    rest = np.maximum(place.length_bytes.astype(np.int64) - 32, 0)
    there = rest > 0
    inside = place.rest_start_bytes % 32
    assert (inside[there] + rest[there] <= 32).all()
    simple = 0
    for group in range(0, len(rest), lines):
        left: list[int] = []
        for size in rest[group : group + lines][there[group : group + lines]].tolist():
            fits = next((k for k, room in enumerate(left) if room >= size), None)
            if fits is None:
                left.append(32 - size)
            else:
                left[fits] -= size
        simple += len(left)
    assert place.total_bytes <= 32 * (len(values) + simple + max(simple // 8, 1))


def test_atoms_of_one_line() -> None:
    """A line of 43 B in a stream after one of 43 B: bytes 43 to 86 touch 32 B atoms 1 and 2."""
    place = parse_packing("stream").place(bits_of([43 * 8] * 2))
    assert place.start_bytes.tolist() == [0, 43]
    assert place.atoms(32).tolist() == [2, 2]
    assert place.atoms(16).tolist() == [3, 4]
    assert place.atom_stats(64).mean == 1.5


def test_stream_by_hand() -> None:
    """Two pages of lines of 338 or 346 bits: 43 and 44 B; codes of 2 bits suffice, so a page costs 4 + 16 B."""
    bits = bits_of([338, 346] * 64)
    cost = parse_packing("stream").cost(bits, table_bytes=7)
    assert cost.data_bytes == 128 * 43.5
    assert cost.metadata_bytes == 2 * (4 + 64 * 2 // 8)
    assert cost.table_bytes == 7 + 3
    by_bit = parse_packing("stream:granule=bit").cost(bits_of([338] * 64))
    assert by_bit.data_bytes == 338 * 64 // 8
    assert by_bit.metadata_bytes == 4 + 64 // 8


def test_classes_by_hand() -> None:
    """Largest class first: a page of one 64, one 32, one 8 B and one zero line takes 104 B."""
    place = parse_packing("classes").place(bits_of([2, 64, 256, 513]))
    assert place.start_bytes.tolist() == [104, 96, 64, 0]
    assert place.length_bytes.tolist() == [0, 8, 32, 64]
    cost = parse_packing("classes").cost(bits_of([2, 64, 256, 513]))
    assert (cost.data_bytes, cost.metadata_bytes, cost.table_bytes) == (104, 4 + 16, 4)


def test_classes_never_straddle_a_third_atom() -> None:
    """Lines of 42 B in 32 B atoms: three in 128 B, the stride 42.67 B."""
    place = parse_packing("classes:set=42/64").place(bits_of([42 * 8] * 6))
    assert place.start_bytes.tolist() == [0, 42, 84, 128, 170, 212]
    assert stride_bytes(42, 32) == pytest.approx(128 / 3)
    assert stride_bytes(44, 32) == 48
    assert stride_bytes(43, 32) == 48
    assert stride_bytes(32, 32) == 32
    assert stride_bytes(8, 32) == 8
    assert stride_bytes(0, 32) == 0
    assert stride_bytes(44, 1) == 44


def test_slots_by_hand() -> None:
    """facts of iid bf16: a slot of 44 B with 1.8 % exceptions is 64 / (44 + 0.018 * 64) = 1.4174 before tags."""
    bits = bits_of([344] * 982 + [353] * 18)
    cost = parse_packing("slots:slot=44").cost(bits)
    assert cost.data_bytes == 44032 + 18 * 64  # the overflow starts on a line
    assert cost.metadata_bytes == 16 * 8
    assert cost.raw_lines == 18
    place = parse_packing("slots:slot=44").place(bits)
    assert place.start_bytes[7] == 7 * 44
    assert place.start_bytes[-1] == 44032 + 17 * 64


def test_slot_search_is_exhaustive() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    bits = rng.normal(340, 12, 4000).clip(0, 513).astype(np.uint16)
    found = parse_packing("slots:slot=auto").cost(bits).data_bytes
    every = [parse_packing(f"slots:slot={s}").cost(bits).data_bytes for s in range(1, 65)]
    assert found <= min(every)
    assert best_slot(np.bincount(stored_bytes(bits, 64), minlength=65)) == 1 + int(np.argmin(every))


def test_groups_by_hand() -> None:
    """13 lines of 44 B are 572 B and fit 9 * 64 = 576; of 45 B they do not, and stay raw."""
    fits, not_fits = bits_of([44 * 8] * 13), bits_of([45 * 8] * 13)
    assert parse_packing("groups").cost(fits).data_bytes == 9 * 64
    assert parse_packing("groups").cost(not_fits).data_bytes == 13 * 64
    assert parse_packing("groups").cost(not_fits).raw_lines == 13
    mixed = parse_packing("groups").place(np.concatenate([not_fits, fits]))
    assert mixed.start_bytes[:3].tolist() == [0, 64, 128]
    assert mixed.start_bytes[13:16].tolist() == [832, 876, 920]


def test_size_code_is_the_cheapest() -> None:
    rng = np.random.Generator(np.random.PCG64(8))
    for _ in range(20):
        granules = rng.integers(0, 17, 200) if rng.random() < 0.5 else rng.normal(9, 1, 200).astype(np.int64)
        code = best_size_code(granules, 16, 32)
        cost = int(code.lengths(granules, 16).sum()) * 32 + 200 * code.bits
        for base, width in itertools.product(range(16), range(6)):
            other = type(code)(base, width)
            assert cost <= int(other.lengths(granules, 16).sum()) * 32 + 200 * width


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 16), min_size=1, max_size=60), st.integers(1, 4), st.sampled_from([1, 8]))
def test_best_classes_against_brute_force(lengths: list[int], k: int, atom: int) -> None:
    histogram = np.bincount(lengths, minlength=17).astype(np.int64)

    def cost(classes: tuple[int, ...]) -> float:
        return sum(stride_bytes(min(c for c in classes if c >= length), atom) for length in lengths)

    found = best_classes(histogram, k, atom, line_bytes=16)
    assert found[-1] == 16
    assert len(found) <= k
    options = [(*rest, 16) for n in range(k) for rest in itertools.combinations(range(16), n)]
    assert cost(found) == pytest.approx(min(cost(c) for c in options))


def test_a_raw_tensor_costs_little_more() -> None:
    bits = np.full(6400, 513, np.uint16)
    for spec in SPECS:
        assert parse_packing(spec).cost(bits).ratio > 0.978, spec  # groups of 3: a pointer for 192 B


@pytest.mark.parametrize("spec", SPECS)
def test_specs_survive_printing(spec: str) -> None:
    packing = parse_packing(spec)
    assert parse_packing(packing.spec) == packing
    assert parse_packing(spec.replace(":", ",")) == packing
    assert hash(packing) == hash(parse_packing(spec))


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("heap", "known are stream"),
        ("stream:grain=4", "no option 'grain'"),
        ("stream:granule=3", "not one of"),
        ("classes:set=64/32", "ascending"),
        ("classes:set=a/b", "not valid"),
        ("classes:k=0", "out of range"),
        ("slots:slot=200", "out of range"),
        ("groups:lines=9:size=13", "out of range"),
        ("groups:lines", "not key=value"),
        ("slots:slot=4:slot=5", "twice"),
        ("spill:lines=48", "not one of"),
        ("pairs:granule=1", "no option"),
    ],
)
def test_bad_specs_get_one_sentence_with_an_example(spec: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        parse_packing(spec)


def test_every_packing_says_what_it_is() -> None:
    for name, cls in PACKINGS.items():
        assert cls.name == name
        assert cls.summary
        assert cls().spec == name
