"""``linepress fit PATH``: a synthetic twin whose lines compress as the real ones, with the distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import json_option, print_json, stderr, stdout
from linepress.environment import expanded
from linepress.errors import EXIT_GATE_FAILED, EXIT_NOTHING_MEASURED, EXIT_OK

if TYPE_CHECKING:
    from linepress.sources import TensorRef
    from linepress.twins.distance import Distance

EPILOG = """\b
Examples:
  linepress fit cache.safetensors --out twin.safetensors --params twin.json
  linepress fit MODEL_FOLDER --group down_proj --layers 0,15 --out twin.safetensors
  linepress fit twin.json --seed 7 --out another.safetensors

\b
mean diff  difference of mean coded line sizes, twin against real
distance   Wasserstein-1 distance of the two distributions of line sizes, over the real mean

Exit codes: 0 every mean within the limit, 1 one is not, 3 nothing to fit, 4 usage.
"""


def _layers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    parts = value.split(",") if value else []
    if not all(part.isascii() and part.isdecimal() and len(part) < 7 for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of layers such as 0,15,31", ctx, param)
    return tuple(int(part) for part in parts)


@click.command(name="fit", epilog=EPILOG)
@click.argument("uri", metavar="PATH")
@click.option("--out", required=True, metavar="FILE", help="The twin, a safetensors file.")
@click.option("--params", metavar="FILE", help="The generator's parameters as JSON.")
@click.option("--tensor", "names", multiple=True, metavar="GLOB", help="Only tensors of these names.")
@click.option("--group", "groups", multiple=True, metavar="G", help="Only tensors of these groups.")
@click.option("--layers", callback=_layers, metavar="N,…", help="Only tensors of these layers.")
@click.option("-c", "--codec", "probes", multiple=True, metavar="SPEC", help="Codecs that judge; may be repeated.")
@click.option(
    "--limit-pct", type=click.FloatRange(0, 100), default=1.0, show_default=True, help="Of the mean line size."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the twin's values.")
@json_option
def command(
    uri: str,
    out: str,
    params: str | None,
    names: tuple[str, ...],
    groups: tuple[str, ...],
    layers: tuple[int, ...],
    probes: tuple[str, ...],
    limit_pct: float,
    seed: int,
    as_json: bool,
) -> int:
    """Fit a generator to every tensor of PATH, draw a twin and report how far its line sizes are from the real ones.

    PATH is whatever linepress measure takes, or the JSON that --params wrote: then the twin is drawn again, and
    there is nothing to compare it with.
    """
    from linepress.sources import Selection, open_source
    from linepress.twins.distance import PROBES, distances
    from linepress.twins.twin import (
        fit,
        header_of,
        pairs,
        read_parameters,
        write_parameters,
        write_twin,
    )

    target = expanded(out)
    if uri.endswith(".json"):
        models, header = read_parameters(expanded(uri))
        write_twin(target, models, header, seed)
        return _tell({"twin": out, "seed": seed, "tensors": len(models), "groups": []}, as_json, limit_pct)
    source = open_source(uri)
    tensors = Selection(names=names, groups=groups, layers=layers).of(source.tensors())
    if not tensors:
        stderr().print(f"{uri} has no tensor of that selection", markup=False)
        return EXIT_NOTHING_MEASURED
    console = stderr()

    def done(tensor: TensorRef) -> None:
        if console.is_terminal:
            console.print(f"fitted {tensor.name}", markup=False)

    models = fit(tensors, done)
    header = header_of(source, models)
    write_twin(target, models, header, seed)
    if params:
        write_parameters(expanded(params), models, header)
    found = distances(pairs(tensors, target), probes or PROBES)
    document = {
        "source": uri,
        "twin": out,
        "seed": seed,
        "tensors": len(models),
        "bytes": sum(t.n_bytes for t in tensors),
        "limit_pct": limit_pct,
        "groups": [_row(d) for d in found],
    }
    return _tell(document, as_json, limit_pct)


def _row(d: Distance) -> dict[str, Any]:
    return {
        "group": d.group,
        "codec": d.codec,
        "lines": d.lines,
        "real_mean_bits": d.real_mean_bits,
        "twin_mean_bits": d.twin_mean_bits,
        "mean_pct": d.mean_pct,
        "distance_pct": d.distance_pct,
    }


def _tell(document: dict[str, Any], as_json: bool, limit_pct: float) -> int:
    rows = document["groups"]
    beyond = [row for row in rows if abs(row["mean_pct"]) > limit_pct]
    if as_json:
        print_json({**document, "within_limit": not beyond if rows else None})
    else:
        console = stdout()
        if rows:
            console.print(
                f"{'group':<14} {'codec':<26} {'real b/line':>11} {'twin b/line':>11} "
                f"{'mean diff':>10} {'distance':>9}"
            )
        for row in rows:
            console.print(
                f"{row['group']:<14} {row['codec']:<26} {row['real_mean_bits']:>11.2f} "
                f"{row['twin_mean_bits']:>11.2f} {row['mean_pct']:>+8.2f} % {row['distance_pct']:>7.2f} %",
                markup=False,
            )
        console.print(
            f"twin {document['twin']}  {document['tensors']} tensors, seed {document['seed']}", markup=False
        )
    if beyond:
        worst = max(beyond, key=lambda row: abs(row["mean_pct"]))
        stderr().print(
            f"{worst['group']} under {worst['codec']} is {worst['mean_pct']:+.2f} % off, over the limit of "
            f"{limit_pct:g} %: do not let this twin stand for that group",
            markup=False,
        )
    return EXIT_GATE_FAILED if beyond else EXIT_OK
