"""Recorded serving runs: requests with their arrivals, what was measured of each, how far a prediction is off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.serving.simulate import ServingResult
from linepress_hardware.inference.trace import Requests

F8 = NDArray[np.float64]
NEEDED = ("arrival_s", "input_tokens", "output_tokens")
_IDENTITY = ("hardware", "model", "tp", "dp", "ep")
_DEFAULTS = ("", "", "1", "1", "False")
WARM_UP = 5  # requests at the start of a run whose relative TTFT is not judged: the first step of a run stalls


@dataclass(frozen=True)
class Recorded:
    """One run: its layout, its requests in order of arrival, and the measured times (NaN where the file has none)."""

    hardware: str
    model: str
    tp: int
    dp: int
    ep: bool
    requests: Requests
    ttft_s: F8
    tpot_s: F8

    @property
    def measured(self) -> bool:
        return bool(np.isfinite(self.tpot_s).any())


def read_recorded(
    rows: Iterable[Mapping[str, str]],
    where: str = "recorded run",
    *,
    prefixes: Sequence[Mapping[str, str]] = (),
) -> list[Recorded]:
    """Rows of a recorded run (``serving_requests.csv``) by GPU, model and layout.

    Columns `NEEDED`; ``hardware, model, tp, dp, ep, request, ttft_from_queued_s, tpot_s`` where the file has them.
    `prefixes` (``request, first_block, blocks, owner``) says which leading KV blocks hold what an earlier request's
    blocks hold.

    Raises
    ------
    ConfigurationError
        A column is missing or no number, or a prefix names a request that the run lacks; the message names the row.
    """
    groups: dict[tuple[str, ...], list[tuple[float, int, int, str, float, float]]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            one = (
                float(row["arrival_s"]),
                int(float(row["input_tokens"])),
                int(float(row["output_tokens"])),
                row.get("request") or str(number - 1),
                float(row.get("ttft_from_queued_s") or "nan"),
                float(row.get("tpot_s") or "nan"),
            )
        except KeyError as error:
            raise ConfigurationError(
                f"{where} row {number} has no column {error}; give {', '.join(NEEDED)}"
            ) from None
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{where} row {number}: {error}; give numbers") from None
        if one[0] < 0 or one[1] < 1 or one[2] < 1:
            raise ConfigurationError(
                f"{where} row {number}: arrival {one[0]:g}, {one[1]} prompt and {one[2]} answer "
                f"tokens; give a time of 0 or more and 1 token or more"
            )
        key = tuple(row.get(name) or default for name, default in zip(_IDENTITY, _DEFAULTS, strict=True))
        groups.setdefault(key, []).append(one)
    if not groups:
        raise ConfigurationError(f"{where} has no request; give {', '.join(NEEDED)}")
    return [_run(key, found, prefixes, where) for key, found in groups.items()]


def _run(
    key: tuple[str, ...],
    found: list[tuple[float, int, int, str, float, float]],
    prefixes: Sequence[Mapping[str, str]],
    where: str,
) -> Recorded:
    found = sorted(found, key=lambda one: one[0])
    place = {one[3]: i for i, one in enumerate(found)}
    shared = []
    for number, row in enumerate(prefixes, start=1):
        try:
            request, owner = row["request"], row["owner"]
            first, count = int(row["first_block"]), int(row["blocks"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"prefix row {number}: {error}; give request, first_block, blocks, owner"
            ) from None
        if request not in place or owner not in place:
            raise ConfigurationError(f"prefix row {number} names {request} and {owner}, which {where} lacks")
        if place[owner] >= place[request] or first < 0 or count < 1:
            raise ConfigurationError(
                f"prefix row {number}: the owner must arrive before {request}, blocks be 1 or more"
            )
        shared.append((place[request], first, count, place[owner]))
    columns = list(zip(*found, strict=True))
    requests = Requests(
        np.array(columns[0]) - columns[0][0],
        np.array(columns[1], dtype=np.int64),
        np.array(columns[2], dtype=np.int64),
        shared=tuple(sorted(shared)),
    )
    try:
        tp, dp = int(float(key[2])), int(float(key[3]))
    except ValueError:
        raise ConfigurationError(f"{where}: tp {key[2]!r} and dp {key[3]!r} must be whole numbers") from None
    ep = key[4].strip().lower() in ("true", "1", "yes")
    return Recorded(key[0], key[1], tp, dp, ep, requests, np.array(columns[4]), np.array(columns[5]))


def errors(run: Recorded, served: ServingResult, chosen: NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """Prediction against measurement over the `chosen` requests (default all).

    Returns
    -------
    dict
        ``tpot_mean`` (mean predicted over mean measured, − 1), ``tpot_request_mean`` and ``_p90`` (absolute, request
        by request), ``ttft_mean``, ``ttft_mean_abs_s``, ``ttft_request_p50`` (relative, without the first `WARM_UP`).
    """
    mine = np.ones(len(run.requests), dtype=bool) if chosen is None else chosen
    tpot = mine & np.isfinite(run.tpot_s) & np.isfinite(served.tpot_s)
    ttft = mine & np.isfinite(run.ttft_s)
    settled = ttft & (np.arange(ttft.size) >= WARM_UP)
    each = np.abs(served.tpot_s[tpot] / run.tpot_s[tpot] - 1)
    late = np.abs(served.ttft_s[settled] / run.ttft_s[settled] - 1)
    return {
        "requests": int(tpot.sum()),
        "tpot_mean": float(served.tpot_s[tpot].mean() / run.tpot_s[tpot].mean() - 1),
        "tpot_request_mean": float(each.mean()),
        "tpot_request_p90": float(np.quantile(each, 0.9)),
        "ttft_mean": float(served.ttft_s[ttft].mean() / run.ttft_s[ttft].mean() - 1),
        "ttft_mean_abs_s": float(np.abs(served.ttft_s[ttft] - run.ttft_s[ttft]).mean()),
        "ttft_request_p50": float(np.median(late)) if late.size else None,
    }
