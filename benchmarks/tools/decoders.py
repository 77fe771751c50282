"""docs/images/decoders.svg: ratio on the bundled weights against decode latency and area by the hardware cards.

python -m benchmarks.tools.decoders
"""

from __future__ import annotations

import sys
from pathlib import Path

from linepress.report.plots.decoders import Mark, decoders
from linepress.report.plots.style import standalone_svg
from linepress.report.sections.decoders import published
from linepress.sources import open_source
from linepress.sources.base import LineStream
from linepress_codecs.contracts import LineCodec
from linepress_codecs.registry import make, parse_spec

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "suites/linepress_suites/data/whisper-tiny-bf16.safetensors"
PICTURE = ROOT / "docs/images/decoders.svg"
SPECS = (
    "window", "huffman:substreams=8", "huffman:substreams=4", "tans:streams=8", "tans:streams=4",
    "adaptive:streams=8",
    "adaptive", "context:streams=8", "bpc", "bdi", "cpack", "fpc",
)  # fmt: skip


def mark_of(spec: str) -> Mark:
    """Payload ratio over all bundled tensors, tables fitted a tensor, and the card for bf16."""
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    raw = coded = 0
    for tensor in open_source(str(SAMPLE)).tensors():
        stream = LineStream(tensor, 16 << 20)
        tables = codec.fit(stream)
        for lines in stream:
            raw += 512 * len(lines)
            coded += int(codec.measure(lines, tables).sum())
        form = tensor.format
    card = codec.card(form)
    assert card is not None
    area = None if card.area_um2 is None else card.area_um2.value
    return Mark(spec, raw / coded, card.decode_latency_ns, area, card.decode_latency_cycles.status)


def main() -> int:
    standalone_svg(decoders([mark_of(spec) for spec in SPECS], [published()]), PICTURE)
    sys.stdout.write(f"{PICTURE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
