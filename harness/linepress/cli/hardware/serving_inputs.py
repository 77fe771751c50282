"""What ``linepress serving`` is given: an engine, requests (recorded, traced or synthetic), and a step's kernels."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from linepress.errors import LinepressError, SourceError


def lines_of(path: Path, what: str) -> list[str]:
    """Lines of a text file, unpacked when its name ends in ``.gz``.

    Raises
    ------
    SourceError
        The file does not exist or is no text.
    """
    if not path.is_file():
        raise SourceError(f"{path} does not exist; give {what}")
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", newline="") as packed:
                return packed.readlines()
        return path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as text ({error}); give {what}") from None


def engine_of(given: dict[str, Any]) -> Any:
    """The engine by name or file, with the rules that the command line changes."""
    from linepress_hardware.inference.serving import engine
    from linepress_hardware.inference.serving.engine import parse_engine

    name = given["engine"]
    if name.endswith(".toml"):
        path = Path(name)
        found = parse_engine("".join(lines_of(path, "an engine's data file or a packaged name")), str(path))
    else:
        found = engine(name)
    rules = {
        "max_sequences": given["max_sequences"],
        "max_tokens": given["max_tokens"],
        "chunked_prefill": given["chunked"],
        "policy": given["policy"],
    }
    return replace(found, **{key: value for key, value in rules.items() if value is not None})


def requests_of(given: dict[str, Any], shape: Any, part: Any) -> tuple[Any, Any]:
    """(requests, recorded run or None) of one of --trace, --rate and --concurrency."""
    from linepress_hardware.inference.trace import HEADER, closed_loop, parse_trace, synthetic

    ways = [name for name in ("trace", "rate", "concurrency") if given[name] is not None]
    if len(ways) != 1:
        found = " and ".join(f"--{name}" for name in ways) or "none"
        raise LinepressError(f"requests come from one of --trace, --rate and --concurrency, {found} is given")
    if ways == ["trace"]:
        path = given["trace"]
        lines = lines_of(path, "a CSV TIMESTAMP,ContextTokens,GeneratedTokens or a recorded run")
        if lines and "arrival_s" in lines[0]:
            run = _recorded(lines, given, shape, part)
            return run.requests, run
        if given["prefixes"] is not None:
            raise LinepressError(f"--prefixes belongs to a recorded run, but {path} starts with {','.join(HEADER)}")
        return parse_trace(lines, str(path), limit=given["requests"]), None
    if ways == ["rate"]:
        return synthetic(
            given["rate"],
            given["requests"],
            prompt_tokens=given["prompt"],
            answer_tokens=given["answer"],
            spread=given["spread"],
            seed=given["seed"],
        ), None
    rounds = max(1, -(-given["requests"] // max(1, given["concurrency"])))
    return closed_loop(given["concurrency"], given["prompt"], given["answer"], rounds=rounds), None


def same_part(name: str, wanted: str, find: Callable[[str], Any]) -> bool:
    """Whether a file's name for a model or device means the wanted one; an empty name means any."""
    from linepress_hardware.errors import HardwareError

    if not name:
        return True
    try:
        return bool(find(name).name == wanted)
    except HardwareError:
        return name == wanted


def _recorded(lines: list[str], given: dict[str, Any], shape: Any, part: Any) -> Any:
    from linepress_hardware.catalog.accelerators import accelerator
    from linepress_hardware.inference.catalog import model
    from linepress_hardware.inference.serving.recorded import read_recorded

    path = given["trace"]
    prefixes: list[dict[str, str]] = []
    if given["prefixes"] is not None:
        prefixes = list(csv.DictReader(lines_of(given["prefixes"], "a CSV request,first_block,blocks,owner")))
    rows = [
        row
        for row in csv.DictReader(lines)
        if same_part(row.get("model") or "", shape.name, model)
        and same_part(row.get("hardware") or "", part.name, accelerator)
        and all(given[key] is None or not row.get(key) or int(float(row[key])) == given[key] for key in ("tp", "dp"))
    ]
    if not rows:
        raise SourceError(f"{path} has no request of {shape.name} on {part.name} at this layout; check model and GPU")
    runs = read_recorded(rows, str(path), prefixes=prefixes)
    if len(runs) > 1:
        found = "; ".join(f"tp {run.tp}, dp {run.dp}, ep {run.ep}" for run in runs)
        raise LinepressError(f"{path} has several runs of {shape.name} on {part.name} ({found}); say --tp and --dp")
    return runs[0]


def kernels_of(
    given: dict[str, Any], shape: Any, part: Any, tp: int, dp: int, apart: bool, compression: Any
) -> tuple[Any, str, dict[str, float] | None]:
    """(kernels or None for the roofline, where steps come from, band of the forms)."""
    from linepress_hardware.inference.compression import PLAIN
    from linepress_hardware.inference.kernels.forms import all_forms
    from linepress_hardware.inference.kernels.layers import profiled
    from linepress_hardware.inference.kernels.times import KernelTimes
    from linepress_hardware.inference.serving import Kernels

    choice = given["kernels"]
    forms = all_forms().get(part.name)
    asks_roofline = [
        name
        for name, value in (
            ("--weight-ratio, --kv-ratio or --decompressor-GBps", compression != PLAIN),
            ("--precision", given["precision"] != "w16a16kv16"),
            (
                "--memory-efficiency or --compute-efficiency",
                given["memory_efficiency"] != 1.0 or given["compute_efficiency"] != 1.0,
            ),
        )
        if value
    ]
    if choice == "auto":
        choice = "roofline" if forms is None or not profiled(shape) or asks_roofline else "forms"
    if choice == "roofline":
        if dp > 1:
            raise LinepressError("--dp needs kernels: --kernels forms on a GPU that has some, or a table")
        return None, "the roofline", None
    if asks_roofline:
        raise LinepressError(f"{asks_roofline[0]} is of the roofline; leave it out or say --kernels roofline")
    if choice == "forms":
        if forms is None:
            raise LinepressError(
                f"{part.name} has no kernel forms (there are {', '.join(all_forms())}); give a table or "
                f"--kernels roofline"
            )
        table, source = None, f"the forms of {part.name}"
    else:
        table = _table(Path(choice), shape, part, tp)
        source = f"the kernels of {choice}"
    times = KernelTimes(shape, tp, forms, table, tp * dp if apart else 1, dp)
    host = given["overhead_ms"]
    host_s = host / 1e3 if host is not None else (forms.host_step_us * 1e-6 if forms is not None else 0.0)
    band = None
    if table is None and forms is not None:
        band = {"linear": forms.bands["linear"].mean, "attention": forms.attention_band}
    reduce_s = _reduce(given, part, tp * dp if apart else tp)
    return Kernels(times, reduce_s, host_s), source, band


def _table(path: Path, shape: Any, part: Any, tp: int) -> Any:
    from linepress_hardware.catalog.accelerators import accelerator
    from linepress_hardware.inference.catalog import model
    from linepress_hardware.inference.kernels.tables import KernelTable, read_rows

    found = [
        one
        for one in read_rows(csv.DictReader(lines_of(path, "a CSV of kernel times")), str(path))
        if same_part(one.hardware, part.name, accelerator) and same_part(one.model, shape.name, model)
    ]
    mine = [one for one in found if one.tp == tp]
    if not mine:
        has = ", ".join(sorted(f"tp {one.tp}" for one in found)) or "nothing"
        raise SourceError(
            f"{path} has no kernels of {shape.name} on {part.name} at tp {tp} (it has {has}); use --kernels forms to "
            f"take them by shape"
        )
    return KernelTable.of(mine[0])


def _reduce(given: dict[str, Any], part: Any, n: int) -> Any:
    """Seconds of an all-reduce over `n` devices by bytes.

    As measured machines take it (`linepress_hardware.fabric.curves`), or, with --link-GBps, --link-us and the ring's
    2 (n − 1) / n of the bytes at that rate.
    """
    if n == 1:
        return None
    import numpy as np

    from linepress_hardware.fabric.curves import collective_time

    rate, launch = given["link_GBps"], given["link_us"]
    if rate is None and launch is not None:
        raise LinepressError("--link-us is the time of a collective over a given link; give --link-GBps with it")
    if rate is not None:
        if not 0 < rate < float("inf") or not 0 <= (launch or 0.0) < float("inf"):
            raise LinepressError(f"--link-GBps {rate:g} and --link-us {launch or 0:g} must be above 0 and at least 0")

        def given_link(size: Any) -> Any:
            return (launch or 0.0) * 1e-6 + 2 * (n - 1) / n * np.asarray(size) / (rate * 1e9)

        return given_link

    def measured(size: Any) -> Any:
        sizes = np.unique(np.geomspace(np.min(size), np.max(size), 65))
        times = [collective_time(part, "all_reduce", n, float(one)).time_s for one in sizes]
        return np.interp(size, sizes, times)

    return measured
