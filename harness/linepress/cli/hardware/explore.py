"""``linepress explore INPUT``: a search over the compressed memory channel's design space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from linepress.cli.common import BYTES, json_option, print_json, stderr, stdout
from linepress.errors import EXIT_NOTHING_MEASURED, EXIT_OK, LinepressError

if TYPE_CHECKING:
    from linepress.explore.search import Measure
    from linepress.stages.channel.case import ChannelCase

EPILOG = """\b
Examples:
  linepress explore runs/smoke-1a2b3c4d
  linepress explore model.safetensors -c huffman -c window --memory hbm3 --trials 80
  linepress explore sizes.json --memory hbm3 --memory ddr5 --packing pairs --packing spill --decoders 1
  linepress explore kv.safetensors -c huffman --mode inline --workload decode --mlflow
  linepress explore sizes.json --trials 400 --within 2 --workers 8 --json

\b
INPUT          as for `linepress channel`: a histogram of coded line sizes, a run folder, or tensors with --codec
front          trials that no other on the same memory beats or equals in all of capacity, sequential and random gain,
               p99 latency and area while beating it in one; gains are over the plain channel at its best
look           the configurations that an architect should look at, with the reason below the table
record         RUN/explore/ID for a run folder, else runs/explore-ID: trials.jsonl, explore.json, front.md, front.svg;
               the same options and sizes give the same ID and the same trials, whatever the number of workers

Exit codes: 0 ok, 3 no point could be measured, 4 usage, 130 interrupted.
"""


@click.command(name="explore", epilog=EPILOG)
@click.argument("source", metavar="INPUT")
@click.option("-c", "--codec", "codecs", multiple=True, metavar="SPEC", help="Code the tensors of INPUT with it.")
@click.option("--layout", metavar="L", help="How tensors become lines (row, channel, …).")
@click.option("--max-bytes", type=BYTES, metavar="SIZE", help="Take whole tensors of INPUT up to this size.")
@click.option(
    "--data", type=click.Choice(["weights", "kv"]), default=None, help="Which lines of INPUT; decides the mode."
)
@click.option("--memory", "memories", multiple=True, metavar="PART", help="Memory part (default hbm3); a front each.")
@click.option("--packing", "packings", multiple=True, metavar="P", help="Packings to search (default: by mode).")
@click.option("--metadata-cache", "caches", multiple=True, type=BYTES, metavar="SIZE", help="Metadata caches.")
@click.option(
    "--queue",
    "queues",
    multiple=True,
    type=click.IntRange(0, 4096),
    metavar="N",
    help="Queue entries, in atoms; 0: plain's best.",
)
@click.option(
    "--decoders",
    "decoders",
    multiple=True,
    type=click.IntRange(0, 4096),
    metavar="N",
    help="Decoders; 0: as many as keep up.",
)
@click.option("--workload", default="random", show_default=True, metavar="W", help="Pattern whose p99 counts.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "offline", "inline"]),
    default="auto",
    show_default=True,
    help="Compressed once and read-only, or both ways.",
)
@click.option(
    "--trials",
    type=click.IntRange(1, 100_000),
    default=60,
    show_default=True,
    help="Trials on each memory; all points where that is enough.",
)
@click.option(
    "--requests",
    type=click.IntRange(100, 10_000_000),
    default=10_000,
    show_default=True,
    help="Accesses of the latency run, and the least of a saturated one.",
)
@click.option(
    "--within",
    type=click.FloatRange(0, 50, min_open=True),
    default=2.0,
    show_default=True,
    metavar="PCT",
    help="Largest half-width of a gain's 95 % interval, in %.",
)
@click.option(
    "--load-pct",
    type=click.FloatRange(0, 1000, min_open=True),
    default=10.0,
    show_default=True,
    help="Offered load of the latency run, % of pin peak.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of search, line order and workload."
)
@click.option(
    "--workers", type=click.IntRange(1, 4096), help="Cores of a Ray to measure on (default: this process alone)."
)
@click.option("--ray-address", metavar="ADDRESS", help="A Ray cluster (auto, host:port) to measure on.")
@click.option(
    "--mlflow", "to_mlflow", is_flag=True, help="Mirror search and trials to MLFLOW_TRACKING_URI or mlflow.db."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the record.")
@json_option
def command(
    source: str,
    codecs: tuple[str, ...],
    layout: str | None,
    max_bytes: int | None,
    data: str | None,
    memories: tuple[str, ...],
    packings: tuple[str, ...],
    caches: tuple[int, ...],
    queues: tuple[int, ...],
    decoders: tuple[int, ...],
    workload: str,
    mode: str,
    trials: int,
    requests: int,
    within: float,
    load_pct: float,
    seed: int,
    workers: int | None,
    ray_address: str | None,
    to_mlflow: bool,
    out: Path | None,
    as_json: bool,
) -> int:
    """Search codec, packing, metadata cache, queues and decoders of a compressed memory channel for its best trades.

    Ends in a Pareto front over capacity, sequential and random bandwidth, p99 latency and area on each memory, with
    the two or three configurations to look at. Every trial is recorded.
    """
    from linepress import environment

    environment.prepare()
    from linepress.explore import record
    from linepress.explore.search import search
    from linepress.explore.space import Space
    from linepress.explore.trial import Trial
    from linepress.report.plots.explore import draw
    from linepress.tables.explore import front_table
    from linepress.tables.markdown import as_markdown
    from linepress.tables.text import show

    cases = _cases(source, codecs, layout, max_bytes, data)
    cases = [
        replace(
            c, workload=workload, mode=mode, seed=seed, n_requests=requests, within_pct=within, load_pct_peak=load_pct
        )
        for c in cases
    ]
    parts = _checked(memories or ("hbm3",), packings, workload)
    inline = mode == "inline" or (mode == "auto" and cases[0].data.startswith("kv"))
    space = Space.of(
        [c.codec for c in cases],
        inline=inline,
        packings=packings,
        metadata_cache_bytes=caches,
        queue=queues,
        decoders=decoders,
    )
    found: list[Trial] = []
    with _measuring(cases, workers, ray_address) as measure:
        for trial in search(space, parts, trials, seed, measure):
            found.append(trial)
            what = trial.error or f"capacity {trial.capacity_ratio:.3f}, random {trial.gain_random:.3f}"
            stderr().print(f"{trial.number + 1}: {trial.point.memory}, {trial.point}: {what}", markup=False)
    if all(t.error for t in found):
        stderr().print(f"{source}: no point could be measured; the first says: {found[0].error}", markup=False)
        return EXIT_NOTHING_MEASURED
    description = record.described(space, parts, trials, cases)
    folder = out or _folder(source, record.search_id(description))
    summary = record.write(folder, description, found)
    picked = [p["trial"] for memory in summary["memories"] for p in memory["picks"]]
    table = front_table(found, picked)
    said = [f"{m['memory']} trial {p['trial']}: {p['why']}" for m in summary["memories"] for p in m["picks"]]
    (folder / "front.md").write_text("\n".join([*as_markdown(table), "", *(f"- {s}" for s in said), ""]), "utf-8")
    draw(found, picked, folder / "front.svg")
    if to_mlflow:
        from linepress.tracking.mirror import tracking_uri

        summary["mlflow_run"] = record.mirror(folder, summary, found, tracking_uri())
    if as_json:
        print_json({**summary, "folder": str(folder), "rows": [t.record() for t in found]})
        return EXIT_OK
    show(table, stdout())
    for sentence in said:
        stdout().print(sentence, markup=False, highlight=False)
    stdout().print(
        f"{len(found)} trials, {summary['refused']} refused; record in {folder}", markup=False, highlight=False
    )
    return EXIT_OK


def _cases(
    source: str, codecs: tuple[str, ...], layout: str | None, max_bytes: int | None, data: str | None
) -> list[ChannelCase]:
    """One case a codec, on lines of one kind of data and format."""
    from linepress.cli.hardware.channel import line_sizes
    from linepress.stages.channel.case import ChannelCase
    from linepress.stages.channel.inputs import case_of

    histogram_file = not codecs and Path(source).suffix.lower() in (".json", ".csv")
    sizes = line_sizes(source, codecs, layout, max_bytes, data if histogram_file else None)
    kinds = list(dict.fromkeys(s.data for s in sizes))
    wanted = data or kinds[0]
    mine = [s for s in sizes if s.data == wanted]
    if not mine:
        raise LinepressError(f"{source}: holds no lines of {wanted}, only {', '.join(kinds)}; leave out --data")
    if len(kinds) > 1:
        stderr().print(f"searching {wanted}; --data chooses among {', '.join(kinds)}", markup=False)
    # A run may hold one codec on several formats; the pool of most lines speaks for it.
    largest = {s.codec: s for s in sorted(mine, key=lambda s: s.lines)}
    base = ChannelCase("", "", "random", "", "", ())
    return [case_of(base, largest[codec], None) for codec in dict.fromkeys(s.codec for s in mine)]


def _checked(memories: Sequence[str], packings: Sequence[str], workload: str) -> list[str]:
    """Memories under the names that rows carry; packings and workload exist, so that no search starts in vain."""
    from linepress_codecs.packing import parse_packing
    from linepress_hardware.channel.evaluate import WORKLOADS
    from linepress_hardware.channel.memory import Memory

    for packing in packings:
        parse_packing(packing)
    if workload not in WORKLOADS:
        raise LinepressError(f"unknown workload {workload!r}: known are {', '.join(WORKLOADS)}")
    return list(dict.fromkeys(Memory.load(memory).name for memory in memories))


@contextmanager
def _measuring(cases: Sequence[ChannelCase], workers: int | None, address: str | None) -> Iterator[Measure]:
    """Measures a batch in this process, or on Ray; the trials are the same."""
    from linepress.explore.trial import measure

    by_codec = {case.codec: case for case in cases}
    if workers is None and address is None:
        yield lambda batch: [measure(number, point, by_codec[point.codec]) for number, point in batch]
        return
    from linepress.cluster.join import Cluster

    with Cluster(address, workers):
        import ray

        remote = ray.remote(measure)
        yield lambda batch: ray.get([remote.remote(n, point, by_codec[point.codec]) for n, point in batch])


def _folder(source: str, search_id: str) -> Path:
    run = Path(source)
    if (run / "manifest.json").is_file():
        return run / "explore" / search_id
    return Path("runs") / f"explore-{search_id}"
