"""What neighbouring lines of like size change in a channel: ``python -m benchmarks.channel_order``.

The channel stage draws line sizes from a histogram in seeded order. Here the bundled real samples, coded with
``huffman``, are placed in their true order and in `SEEDS` shuffled ones: the same sizes, so only order differs.
Capacity and sequential gain per packing; the spread over the seeds says which differences mean anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.sources import LineStream, Selection, open_source
from linepress.sources.staging import staged
from linepress.stages.channel.case import ChannelCase
from linepress.stages.channel.row import configuration, subject
from linepress.stages.measure.lines import code_lines
from linepress_codecs.layout import extent
from linepress_codecs.packing import Classes, parse_packing, stored_bytes
from linepress_codecs.variant import Variant
from linepress_hardware.channel.compaction import CompressedStore
from linepress_hardware.channel.config import LINE_BYTES, default_config
from linepress_hardware.channel.evaluate import Study
from linepress_hardware.channel.memory import Memory

SAMPLE = Path(__file__).parents[1] / "suites" / "linepress_suites" / "data"
DATA = {
    "weights": (SAMPLE / "whisper-tiny-bf16.safetensors", "row"),
    "kv": (SAMPLE / "smollm2-135m-instruct-kv-handbook-512.safetensors", "channel"),
}
PACKINGS = ("stream", "pairs", "spill", "classes:set=auto", "slots:slot=auto", "groups:lines=48:size=33")
MEMORIES = ("hbm3", "ddr5")
SEEDS = range(1, 9)
PAGE_LINES = 64
WHOLE_LINES = 192
"""Pages of 64 lines and groups of 48 both end here, so that no order pays for a cut one."""


def true_order(path: Path, layout: str) -> NDArray[np.uint16]:
    """Coded bits of every line of a source, tensor after tensor, uint16[n]; n a multiple of `WHOLE_LINES`."""
    variant = Variant.of("huffman", {"layout": layout})
    found = []
    for tensor in Selection().of(open_source(str(path)).tensors()):
        local = staged(tensor).tensor
        lines = extent(local.shape, variant.layout, local.format, variant.line_bytes).n_lines
        stream = LineStream(local, 1 << 20, variant.layout, variant.line_bytes, variant.line_bytes)
        found.append(code_lines(stream, lines, variant.line_codec, repeats=0, seed=0, verify=False).unit_bits)
    bits = np.concatenate(found).astype(np.uint16)
    return bits[: bits.shape[0] // WHOLE_LINES * WHOLE_LINES]


def shuffled(bits: NDArray[np.uint16], seed: int) -> NDArray[np.uint16]:
    """The same sizes in seeded order."""
    return np.random.Generator(np.random.PCG64(seed)).permutation(bits)


def page_spread(bits: NDArray[np.uint16]) -> float:
    """Standard deviation over mean of the coded bytes of a 4 KiB page."""
    pages = stored_bytes(bits, LINE_BYTES).reshape(-1, PAGE_LINES).sum(axis=1)
    return float(pages.std() / pages.mean())


def capacity(bits: NDArray[np.uint16], packing: str) -> float:
    """Raw over packed bytes, the codec's tables aside: they do not depend on order."""
    return float(LINE_BYTES * bits.shape[0] / parse_packing(packing).cost(bits, 0).packed_bytes)


def chunked_capacity(bits: NDArray[np.uint16]) -> float:
    """Raw bytes over chunks taken in the inline store: pages of classes in 512 B chunks, a page raw at eight."""
    config, classes = default_config(), Classes(set=())
    store = CompressedStore(
        stored_bytes(bits, LINE_BYTES).astype(np.int32),
        classes.sizes_for(bits),
        LINE_BYTES * bits.shape[0],
        config,
        Memory.load("hbm3").atom_bytes,
        0,
        rule_bytes=classes.atom,
    )
    return float(LINE_BYTES * bits.shape[0] / (int(store.n_chunks.sum()) * config.chunk_bytes))


def sequential_gain(bits: NDArray[np.uint16], packing: str, memory: str, data: str) -> float:
    """Bandwidth of a saturated sequential read over the plain channel's, lines compressed offline."""
    config = default_config()
    case = ChannelCase(
        memory=memory,
        packing=packing,
        workload="sequential",
        codec="huffman",
        data=data,
        bits_histogram=tuple(np.bincount(bits).tolist()),
        decode_latency_ns=config.decode_latency_ns,
        encode_latency_ns=config.encode_latency_ns,
        decode_interval_ns=config.decode_interval_ns,
        mode="offline",
    )
    part = Memory.load(memory)
    placed = subject(case, bits, parse_packing(packing), case.mode)
    study = Study(part, configuration(case, part), placed, case.n_requests, case.seed)
    return study.compressed("sequential").bandwidth_GBps / study.plain("sequential").bandwidth_GBps


def order_rows() -> list[dict[str, Any]]:
    """One row a kind of data, packing and quantity: true order, and every shuffled one."""
    rows = []
    for data, (path, layout) in DATA.items():
        bits = true_order(path, layout)
        orders = [bits, *(shuffled(bits, seed) for seed in SEEDS)]

        def row(packing: str, quantity: str, values: list[float], data: str = data) -> None:
            rows.append(
                {"data": data, "packing": packing, "quantity": quantity, "true": values[0], "shuffled": values[1:]}
            )

        row("", "page_spread", [page_spread(order) for order in orders])
        row("", "neighbour_correlation", [float(np.corrcoef(order[:-1], order[1:])[0, 1]) for order in orders])
        row("inline pages", "capacity", [chunked_capacity(order) for order in orders])
        for packing in PACKINGS:
            row(packing, "capacity", [capacity(order, packing) for order in orders])
            for memory in MEMORIES:
                gains = [sequential_gain(order, packing, memory, data) for order in orders]
                row(packing, f"gain_sequential {memory}", gains)
    return rows


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """True order beside mean, least and largest of the shuffled ones."""
    for r in rows:
        low, mean, high = min(r["shuffled"]), float(np.mean(r["shuffled"])), max(r["shuffled"])
        print(
            f"order {r['data']:8s}{r['packing']:24s} {r['quantity']:24s} true {r['true']:7.4f}   "
            f"shuffled {mean:7.4f} ({low:.4f} … {high:.4f})"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; ``benchmarks.channel`` keeps its raw samples."""
    if argv:
        raise SystemExit("benchmarks.channel_order takes no arguments; run it without any")
    print_rows(order_rows())
    return 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
