"""One side of a retiming: measures what it is asked for, one request a line on stdin, one answer a line on stdout.

This file is also run by the interpreter of the other installation, so it uses nothing of linepress but what every
version has: `linepress.sources.open_source`, `linepress.stages.measure.case.measure_case` and `Variant`.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def answer(request: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Raw samples of one case: seconds of each round by metric, or ``error``."""
    from linepress.sources import open_source
    from linepress.stages.measure.case import measure_case
    from linepress_codecs.variant import Variant

    source, name, cast = request["source"], request["tensor"], request["cast"]
    if source not in known:
        known[source] = {tensor.name: tensor for tensor in open_source(source).tensors()}
    tensor = known[source][name].with_cast(cast or "none")
    row = measure_case(
        tensor,
        Variant.parse(request["variant"]),
        repeats=request["rounds"],
        chunk_bytes=request["chunk_bytes"],
        verify=False,
    )
    return {metric: row[f"{metric}_s"] for metric in ("encode", "decode", "measure")}


def main() -> None:
    """Answer until stdin ends."""
    known: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            found = answer(json.loads(line), known)
        except Exception as error:  # told to the driver, which says it in its own words
            found = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
