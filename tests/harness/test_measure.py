"""The measure stage: sizes, verdict, bounds and costs of one tensor under one variant."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from linepress.records.schema import MEASURE
from linepress.records.summary import frame_of, headline
from linepress.sources import TensorRef, open_source
from linepress.sources.staging import staged
from linepress.stages.measure import case as stage
from linepress.stages.measure.case import measure_case
from linepress.stages.measure.coded import TIMED_BYTES, MeasureError, timed_range
from linepress.submission.fixtures import build
from linepress_codecs.bounds import BoundAccumulator
from linepress_codecs.contracts import Figure, HardwareCard, LineCodec, Lines, NoTables, Packed, Tables
from linepress_codecs.errors import SpecError
from linepress_codecs.formats import FORMATS, Format
from linepress_codecs.variant import Variant

RNG = np.random.Generator(np.random.PCG64(11))
SAMPLE = Path(__file__).parents[2] / "suites" / "linepress_suites" / "data"


def tensor(tmp_path: Path, array: NDArray[Any], dtype: str = "BF16", name: str = "w") -> TensorRef:
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(build({name: (dtype, list(array.shape), np.ascontiguousarray(array).tobytes())}))
    return open_source(str(path)).tensors()[0]


def gauss(shape: tuple[int, ...]) -> NDArray[Any]:
    return (RNG.standard_normal(shape) * 0.02).astype(ml_dtypes.bfloat16).view(np.uint16)


@pytest.mark.parametrize("spec", ["raw", "huffman", "huffman:layout=channel", "zstd:level=3:block=64KiB"])
def test_row_has_every_column_of_the_record_and_no_other(tmp_path: Path, spec: str) -> None:
    row = measure_case(tensor(tmp_path, gauss((128, 96))), Variant.parse(spec), packings=["classes", "slots"])
    added_by_the_run = {"status", "run_id"}
    assert set(row) - added_by_the_run == {field.name for field in MEASURE}
    assert row["lossless"] is True
    assert row["mismatch_line"] is None


def test_raw_is_one_to_one_and_its_packing_only_adds(tmp_path: Path) -> None:
    row = measure_case(tensor(tmp_path, gauss((128, 96))), Variant.parse("raw"))
    assert row["payload_bits"] == 8 * row["raw_bytes"] == 8 * 128 * 96 * 2
    assert row["payload_ratio"] == 1.0
    assert row["packed_bytes"] == row["raw_bytes"] + row["metadata_bytes"] + row["packings"][0]["table_bytes"]
    assert sum(row["bits_histogram"]) == row["lines"] == row["bits_histogram"][512]


def test_bound_is_the_closed_form_of_the_exponent_entropy(tmp_path: Path) -> None:
    bits = gauss((256, 128))
    row = measure_case(tensor(tmp_path, bits), Variant.parse("huffman"))
    _, counts = np.unique(bits.reshape(-1) >> 7, return_counts=True)  # sign and exponent
    p = counts / counts.sum()
    entropy = float(-(p * np.log2(p)).sum()) + 7  # mantissa raw
    assert row["bound_name"] == "field_order0"
    assert row["bound_bits_per_value"] == pytest.approx(entropy, rel=1e-12)
    assert row["bound_ratio"] == pytest.approx(16 / entropy, rel=1e-12)
    assert row["above_bound_bits_per_value"] == pytest.approx(row["payload_bits"] / bits.size - entropy, rel=1e-9)
    assert 0 < row["above_bound_pct"] < 1.5


def test_histogram_and_percentiles_are_those_of_the_line_sizes(tmp_path: Path) -> None:
    row = measure_case(tensor(tmp_path, gauss((256, 128))), Variant.parse("huffman"))
    histogram = np.array(row["bits_histogram"])
    sizes = np.repeat(np.arange(len(histogram)), histogram)
    assert len(sizes) == row["lines"]
    assert sizes.sum() == row["payload_bits"]
    assert row["bits_max"] == sizes.max()
    for key, share in (("bits_p01", 0.01), ("bits_p50", 0.5), ("bits_p99", 0.99)):
        assert row[key] == np.quantile(sizes, share, method="inverted_cdf")


@pytest.mark.parametrize("spec", ["huffman", "huffman:tables=2", "huffman:layout=channel", "zstd:level=1:block=4KiB"])
def test_sizes_do_not_depend_on_the_chunk(tmp_path: Path, spec: str) -> None:
    ref = tensor(tmp_path, gauss((3, 256, 32)))
    exact = ("payload_bits", "table_bytes", "packed_bytes", "bits_histogram", "bound_ratio", "lines", "lossless")
    rows = [
        {k: measure_case(ref, Variant.parse(spec), repeats=0, chunk_bytes=n)[k] for k in exact}
        for n in (4096, 50_000, 1 << 24)
    ]
    assert rows[0] == rows[1] == rows[2]


def test_chunk_that_is_no_multiple_of_the_block_leaves_blocks_whole(tmp_path: Path) -> None:
    """A layout whose parts do not divide into blocks: the rest of a part goes before the next one."""
    ref = tensor(tmp_path, gauss((3, 1000, 40)))
    spec = Variant.parse("zstd:level=1:block=8KiB:layout=channel")
    small, large = (measure_case(ref, spec, repeats=0, chunk_bytes=n) for n in (10_000, 1 << 24))
    assert small["payload_bits"] == large["payload_bits"]
    assert small["lossless"]


def test_small_blocks_are_sampled_with_a_seed_and_say_so(tmp_path: Path) -> None:
    ref = tensor(tmp_path, gauss((1024, 512)))  # 16,384 lines
    first, again, other = (measure_case(ref, Variant.parse("lz4:block=64B"), repeats=1, seed=s) for s in (1, 1, 2))
    assert first["sampled"] is True
    assert first["sampled_lines"] == 8192
    assert first["payload_bits"] == again["payload_bits"]
    assert sum(first["bits_histogram"]) == 8192
    assert first["payload_ratio"] == pytest.approx(other["payload_ratio"], rel=0.01)
    whole = measure_case(ref, Variant.parse("lz4:block=4KiB"), repeats=1)
    assert whole["sampled"] is False
    assert whole["sampled_lines"] is None


def test_special_values_and_tails_come_back(tmp_path: Path) -> None:
    special = np.array([0x7F80, 0xFF80, 0x7FC1, 0xFFFF, 0x0000, 0x8000, 0x0001, 0x807F], np.uint16)
    for n in (1, 7, 31, 32, 33, 1000):
        row = measure_case(tensor(tmp_path, np.resize(special, n)), Variant.parse("huffman"), repeats=0)
        assert row["lossless"] is True
        assert row["pad_bytes"] == -2 * n % 64
        assert row["elements"] == n


@pytest.mark.parametrize("fmt", sorted(FORMATS))
def test_every_format_is_measured_as_stored(fmt: str) -> None:
    ref = open_source(f"synthetic:random?shape=64x64&dtype={fmt}").tensors()[0]
    row = measure_case(ref, Variant.parse("raw"), repeats=0)
    assert (row["format"], row["lossless"], row["payload_ratio"]) == (fmt, True, 1.0)
    assert row["elements"] == 64 * 64 * 8 // FORMATS[fmt].bits * FORMATS[fmt].storage.itemsize


def test_cast_is_recorded_with_the_hash_of_the_stored_bytes(tmp_path: Path) -> None:
    ref = tensor(tmp_path, gauss((64, 64)))
    row = measure_case(ref.with_cast("e4m3:scale=tensor"), Variant.parse("huffman"))
    assert (row["format"], row["cast"]) == ("e4m3", "e4m3:scale=tensor")
    assert row["raw_bytes"] == 64 * 64
    assert row["content_sha256"] == ref.content_sha256()
    assert row["lossless"] is True


def test_packings_are_listed_once_each_the_variants_own_first(tmp_path: Path) -> None:
    ref = tensor(tmp_path, gauss((64, 64)))
    row = measure_case(
        ref, Variant.parse("huffman:packing=classes"), packings=["stream", "classes", "classes:set=0/44/64"]
    )
    assert [p["packing"] for p in row["packings"]] == ["classes", "stream", "classes:set=0/44/64"]
    assert row["packed_bytes"] == row["packings"][0]["packed_bytes"]
    for p in row["packings"]:
        assert p["packed_bytes"] == p["data_bytes"] + p["metadata_bytes"] + p["table_bytes"]
        assert p["packed_ratio"] == row["raw_bytes"] / p["packed_bytes"]


@pytest.mark.parametrize("packing", ["stream", "classes", "classes:set=auto", "slots", "groups:lines=48:size=33"])
def test_segments_of_a_large_tensor_cost_what_the_whole_does(
    tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for each segment's parameters and the rounding of its last page or group."""
    ref = tensor(tmp_path, gauss((480, 256)))  # 7,680 lines
    variant = Variant.parse("huffman")
    whole = measure_case(ref, variant, packings=[packing], repeats=0)["packings"][-1]
    monkeypatch.setattr(stage, "COST_LINES", 64 * 48)
    parts = measure_case(ref, variant, packings=[packing], repeats=0)["packings"][-1]
    assert parts["table_bytes"] - whole["table_bytes"] <= 2 * 32
    assert parts["packed_bytes"] == pytest.approx(whole["packed_bytes"], abs=3 * 128)


def test_cost_of_blocks_is_its_closed_form(tmp_path: Path) -> None:
    row = measure_case(tensor(tmp_path, gauss((512, 256))), Variant.parse("zstd:level=1:block=16KiB"))
    blocks = 512 * 256 * 2 // (16 << 10)
    assert row["metadata_bytes"] == 4 * blocks
    assert row["packed_bytes"] == row["payload_bytes"] + 4 * blocks
    small = measure_case(tensor(tmp_path, gauss((512, 256))), Variant.parse("zstd:level=1:block=1KiB"))
    pages = 512 * 256 * 2 // 4096
    assert small["metadata_bytes"] == pages * (4 + math.ceil(4 * 11 / 8)), "pointer and four 11-bit lengths a page"


def test_timing_keeps_raw_samples_and_their_median(tmp_path: Path) -> None:
    row = measure_case(tensor(tmp_path, gauss((256, 256))), Variant.parse("huffman"), repeats=5)
    for work in ("encode", "decode", "measure"):
        samples = row[f"{work}_s"]
        assert len(samples) == 5
        assert all(s > 0 for s in samples)
        assert row[f"{work}_GBps"] == pytest.approx(256 * 256 * 2 / np.median(samples) / 1e9)
    none = measure_case(tensor(tmp_path, gauss((256, 256))), Variant.parse("huffman"), repeats=0)
    assert none["encode_s"] == []
    assert none["encode_GBps"] is None


def test_block_codec_has_no_measure_time(tmp_path: Path) -> None:
    row = measure_case(tensor(tmp_path, gauss((256, 256))), Variant.parse("lz4:block=64KiB"), repeats=2)
    assert row["measure_s"] == []
    assert row["measure_GBps"] is None
    assert row["encode_GBps"] > 0


def test_one_dimensional_tensor_has_no_channels(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="layout channel needs"):
        measure_case(tensor(tmp_path, gauss((64,))), Variant.parse("raw:layout=channel"))


# ------------------------------------------------------------------------------- codecs that break their contract


@dataclass(frozen=True)
class Broken(LineCodec):
    """A raw codec that goes wrong in one stated way."""

    codec_id: ClassVar[str] = "broken"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "for tests"
    source: ClassVar[str] = "none"
    how: str = ""

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        for _ in chunks:
            pass
        return NoTables()

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        bits = np.full(len(lines), 512, np.uint16)
        if self.how == "measure":
            bits[len(bits) // 2] -= 1
        return bits

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        n = len(lines)
        starts = np.arange(n, dtype=np.uint64) * np.uint64(512)
        return Packed(lines.data.reshape(-1).copy(), starts, np.full(n, 512, np.uint16), lines.format)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        lines = packed.payload.reshape(-1, 64).copy()
        if self.how == "decode":
            lines[5, 63] ^= 1
        return lines[:-1] if self.how == "count" else lines

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        line = packed.payload.reshape(-1, 64)[i].copy()
        if self.how == "line" and i == 0:
            line[0] ^= 0x80
        return line

    def tables_from_bytes(self, data: bytes) -> Tables:
        return NoTables()

    def card(self, fmt: Format) -> HardwareCard:
        zero = Figure(1.0, "cycles", "estimated", "for tests")
        return HardwareCard(zero, zero, zero, Figure(1.0, "GHz", "estimated", "for tests"), zero)


@pytest.mark.parametrize(("how", "line"), [("decode", 5), ("line", 0)])
def test_one_wrong_bit_is_found_and_its_line_named(tmp_path: Path, how: str, line: int) -> None:
    row = measure_case(tensor(tmp_path, gauss((64, 64))), Variant(Broken(how)), repeats=0)
    assert row["lossless"] is False
    assert row["mismatch_line"] == line


def test_wrong_bit_in_a_later_chunk_is_named_by_its_line_in_the_tensor(tmp_path: Path) -> None:
    class Late(Broken):
        seen: ClassVar[list[int]] = []

        def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
            lines = packed.payload.reshape(-1, 64).copy()
            self.seen.append(len(lines))
            if len(self.seen) == 3:
                lines[2, 0] ^= 1
            return lines

    row = measure_case(tensor(tmp_path, gauss((64, 64))), Variant(Late()), repeats=0, chunk_bytes=640)
    assert row["mismatch_line"] == 22, "chunk of 10 lines, third chunk, its third line"


@pytest.mark.parametrize(
    ("how", "sentence"), [("measure", "measure says 511 bits for line 64"), ("count", "decode gave uint8")]
)
def test_codec_that_contradicts_itself_is_an_error(tmp_path: Path, how: str, sentence: str) -> None:
    with pytest.raises(MeasureError, match=sentence):
        measure_case(tensor(tmp_path, gauss((64, 64))), Variant(Broken(how)), repeats=0)


def test_without_verification_nothing_is_claimed(tmp_path: Path) -> None:
    row = measure_case(tensor(tmp_path, gauss((64, 64))), Variant(Broken("decode")), repeats=0, verify=False)
    assert row["lossless"] is None


@pytest.mark.parametrize("verify", [True, False])
def test_what_a_decoder_builds_once_is_not_timed(tmp_path: Path, verify: bool) -> None:
    """Decoding tables are built on the first use of a set of tables; a tensor of kilobytes decodes in less time."""

    class Built:
        built = False

        def to_bytes(self) -> bytes:
            return b""

    class SlowStart(Broken):
        def fit(self, chunks: Iterable[Lines]) -> Tables:
            super().fit(chunks)
            return Built()

        def tables_from_bytes(self, data: bytes) -> Tables:
            return Built()

        def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
            assert isinstance(tables, Built)
            if not tables.built:
                time.sleep(0.25)
                tables.built = True
            return super().decode(packed, tables)

    row = measure_case(tensor(tmp_path, gauss((64, 64))), Variant(SlowStart()), repeats=3, verify=verify)
    assert max(row["decode_s"]) < 0.2


# ------------------------------------------------------------------------------- bundled sample, totals, memory


def total_of(path: Path, spec: str) -> dict[str, Any]:
    rows = [measure_case(t, Variant.parse(spec), repeats=0) for t in open_source(str(path)).tensors()]
    assert all(row["lossless"] for row in rows)
    return headline(frame_of({**row, "status": "ok"} for row in rows))[0]


FILES = {
    "kv": SAMPLE / "smollm2-135m-instruct-kv-handbook-512.safetensors",
    "whisper": SAMPLE / "whisper-tiny-bf16.safetensors",
    "dequantised": SAMPLE / "smollm2-135m-instruct-mlp-bf16.safetensors",
}


@pytest.mark.parametrize("name", FILES)
def test_bundled_sample_gives_what_the_literature_says(name: str) -> None:
    """LZ4 and Snappy find nothing, Huffman of the exponent comes within 1.5 % of its bound."""
    for spec in ("lz4:block=64KiB", "snappy:block=64KiB"):
        assert 0.999 <= total_of(FILES[name], spec)["payload_ratio"] <= 1.02
    assert 0 < total_of(FILES[name], "huffman")["above_bound_pct"] < 1.5
    assert 1.2 <= total_of(FILES[name], "zstd:level=3:block=64KiB")["payload_ratio"] <= 1.4


@pytest.mark.parametrize("name", ["kv", "whisper"])
def test_deflate_on_values_that_were_bf16_all_along(name: str) -> None:
    assert 1.2 <= total_of(FILES[name], "deflate:level=6:block=64KiB")["payload_ratio"] <= 1.4


def test_dequantised_weights_overstate_and_deflate_shows_it() -> None:
    """Sixteen values a block repeat, mantissa and all; an entropy coder of the exponent alone does not profit."""
    deflate = total_of(FILES["dequantised"], "deflate:level=6:block=64KiB")["payload_ratio"]
    assert deflate > 1.4 > total_of(FILES["whisper"], "deflate:level=6:block=64KiB")["payload_ratio"]


def test_memory_is_bounded_by_the_chunk_not_the_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """No read asks for more than a chunk, whatever the tensor's size."""
    from linepress.sources.bytes import FileBytes

    ref = open_source("synthetic:gauss?shape=1024x4096&seed=4").tensors()[0]
    staged(ref)
    largest = 0
    real = FileBytes.read

    def watched(self: FileBytes, start: int, end: int) -> NDArray[np.uint8]:
        nonlocal largest
        largest = max(largest, end - start)
        return real(self, start, end)

    monkeypatch.setattr(FileBytes, "read", watched)
    measure_case(ref, Variant.parse("huffman"), repeats=1, chunk_bytes=1 << 18)
    assert 0 < largest <= 1 << 18


def test_bounds_are_counted_once_a_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ref = tensor(tmp_path, gauss((640, 64)))
    counted = 0
    real = BoundAccumulator.add

    def watched(self: BoundAccumulator, lines: Lines) -> BoundAccumulator:
        nonlocal counted
        counted += len(lines)
        return real(self, lines)

    monkeypatch.setattr(BoundAccumulator, "add", watched)
    first = measure_case(ref, Variant.parse("huffman"), repeats=0)
    assert counted == first["lines"]
    for spec in ("raw", "zstd:block=4KiB", "huffman:tables=4"):
        assert measure_case(ref, Variant.parse(spec), repeats=0)["bounds"][:2] == first["bounds"][:2]
    assert counted == first["lines"]
    assert measure_case(ref, Variant.parse("huffman:layout=channel"), repeats=0)["lossless"]
    assert counted > first["lines"], "another layout is other lines"
    (kept,) = list((tmp_path / "cache").rglob("*.json"))[:1]
    kept.write_text("[{]")
    again = measure_case(ref, Variant.parse("huffman"), repeats=0)
    assert again["bounds"] == first["bounds"], "a damaged cache costs time only"


@pytest.mark.parametrize("n_chunks", [1, 3, 24, 100])
def test_a_round_goes_through_a_sample_of_a_large_tensor(n_chunks: int) -> None:
    taken = [timed_range(1 << 18, 64, k, n_chunks, 5) for k in range(n_chunks)]
    assert taken == [timed_range(1 << 18, 64, k, n_chunks, 5) for k in range(n_chunks)]
    timed = 64 * sum(map(len, taken))
    assert min(n_chunks << 24, TIMED_BYTES) * 0.7 <= timed <= TIMED_BYTES * 1.3
    assert all(0 <= r.start <= r.stop <= 1 << 18 for r in taken)
