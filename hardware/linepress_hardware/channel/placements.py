"""Where the engine sits: at the memory controller, in front of SRAM, or in the DMA path.

*controller*: every line access of the port goes through translation and decoder; the default of `evaluate`.

*sram*: the same engine between a core and an on-chip SRAM that holds compressed lines; the SRAM's own latency is
a few ns, so that the decoder dominates and capacity is what is bought.

*dma*: weights lie compressed offline; a DMA engine brings tiles of consecutive lines and decompresses them on the way
into a raw scratchpad. Metadata is needed once a tile and decode latency once a transfer, but a single line costs the
tile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from linepress_hardware.channel import workloads
from linepress_hardware.channel.evaluate import Study
from linepress_hardware.channel.simulate import ChannelRun, Timing, run
from linepress_hardware.channel.translation import expand_static
from linepress_hardware.errors import ConfigurationError

PLACEMENTS = ("controller", "sram", "dma")


@dataclass(frozen=True)
class DmaResult:
    """A DMA engine that moves tiles, compressed against plain.

    Attributes
    ----------
    tile_bytes : int
    tiles_GBps, plain_tiles_GBps : float
        Raw bytes delivered by tiles at random places, tiles in flight as the port's outstanding limit allows.
    tile_latency_mean_ns, plain_tile_latency_mean_ns : float
        Descriptor to last line of one tile, one tile at a time.
    closed_form_tile_latency_ns : float
        Idle metadata read + idle data read + code at pin peak + decode latency.
    line_GBps : float
        Useful bytes where only one line of each tile is wanted.
    """

    tile_bytes: int
    tiles_GBps: float
    plain_tiles_GBps: float
    tile_latency_mean_ns: float
    plain_tile_latency_mean_ns: float
    closed_form_tile_latency_ns: float
    line_GBps: float


def dma(study: Study, *, tile_bytes: int = 16384) -> DmaResult:
    """Tiles of ``tile_bytes`` through the engine on the DMA path; offline-compressed subjects only."""
    if study.inline:
        raise ConfigurationError("the DMA placement decompresses on the way in; it needs data compressed offline")
    line_bytes = study.config.line_bytes
    if tile_bytes % line_bytes or tile_bytes < line_bytes:
        raise ConfigurationError(f"a tile of {tile_bytes} B must be whole lines of {line_bytes} B")
    per_tile = tile_bytes // line_bytes
    tiles = max(8, -(-study.n // per_tile))
    config, memory = study.config, study.memory
    busy = workloads.kv_gather(
        tiles * per_tile, study.lines, seed=study.seed, block_lines=per_tile, ids=config.axi_ids
    ).in_bursts(config.burst_lines, config.axi_ids)
    code_bytes = float(study.subject.layout.length_bytes.mean()) * per_tile
    idle_reads = (2 if study.metadata_unit()[0] else 1) * memory.idle_read_ns
    closed = idle_reads + code_bytes / memory.peak_GBps + config.ecc_decode_ns + config.decode_latency_ns
    # One tile at a time: the next descriptor starts long after the one before has ended.
    gap_ns = 8 * (idle_reads + tile_bytes / memory.peak_GBps + config.decode_latency_ns) + 1000.0
    single = replace(busy, arrival_ns=np.repeat(np.arange(tiles) * gap_ns, per_tile))

    def both(stream: workloads.LineStream) -> tuple[ChannelRun, ChannelRun]:
        layout = replace(study.subject.layout, lines=study.lines)
        plan = expand_static(stream, layout, atom_bytes=memory.atom_bytes, config=config)
        flat = study.plain_plan(stream)
        return (
            run(stream, plan, memory, config, study.timing()),
            run(stream, flat, memory, config, Timing.plain(config)),
        )

    compressed, plain = both(busy)
    alone = both(single)

    def per_tile_ns(r: ChannelRun) -> float:
        done = r.done_ns.reshape(tiles, per_tile).max(axis=1)
        return float((done - r.offered_ns.reshape(tiles, per_tile)[:, 0]).mean())

    return DmaResult(
        tile_bytes=tile_bytes,
        tiles_GBps=compressed.bandwidth_GBps,
        plain_tiles_GBps=plain.bandwidth_GBps,
        tile_latency_mean_ns=per_tile_ns(alone[0]),
        plain_tile_latency_mean_ns=per_tile_ns(alone[1]),
        closed_form_tile_latency_ns=closed,
        line_GBps=compressed.bandwidth_GBps / per_tile,
    )
