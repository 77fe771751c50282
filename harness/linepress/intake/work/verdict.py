"""The verdict on a run: pure functions from recorded rows to lines that say yes, no or undecided, and why.

Validated means: the run is complete, every planned case is ok, every line of every tensor came back bit for bit, and
every reported figure is exact. Ratios, claims, channel and system are told beside their bounds and judge nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
MEASURE_COLUMNS = (
    "status",
    "source",
    "tensor",
    "variant",
    "codec_kind",
    "format",
    "cast",
    "packing",
    "lines",
    "raw_bytes",
    "payload_bits",
    "packed_bytes",
    "packed_ratio",
    "lossless",
)
CHANNEL_COLUMNS = (
    "memory",
    "data",
    "format",
    "codec",
    "packing",
    "workload",
    "effective_bandwidth_sequential_GBps",
    "plain_bandwidth_sequential_GBps",
    "gain_sequential",
    "closed_form_gain_sequential",
    "effective_capacity_ratio",
)
SYSTEM_COLUMNS = (
    "accelerator",
    "model",
    "scenario",
    "stage",
    "codec",
    "packing",
    "tokens_per_s",
    "plain_tokens_per_s",
    "speedup",
    "closed_form_speedup",
)
CLAIM_COLUMNS = ("claim_id", "title", "claimed", "measured", "bound", "verdict", "reason")
FIGURES = ("payload_bits", "packed_bytes")
ROWS_SHOWN = 200


def line(question: str, answer: str, why: str) -> dict[str, str]:
    """One line of the verdict; ``answer`` is yes, no or undecided."""
    return {"question": question, "answer": answer, "why": why}


def completeness(status: str, counts: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """Whether everything that was planned is recorded as ok."""
    measured = counts.get("measure", {}).get("ok", 0)
    failed = {stage: count["failed"] for stage, count in counts.items() if count.get("failed")}
    told = "; ".join(
        f"{stage} {count.get('ok', 0)} ok, {count.get('failed', 0)} failed, {count.get('skipped', 0)} skipped of "
        f"{count.get('planned', 0)}"
        for stage, count in counts.items()
    )
    if status != "complete" or not measured:
        return line("Run complete", "undecided", f"the run is {status}: {told or 'nothing was measured'}")
    recorded = all(
        count.get("ok", 0) + count.get("failed", 0) + count.get("skipped", 0) == count.get("planned", 0)
        for count in counts.values()
    )
    if failed or not recorded:
        return line("Run complete", "undecided", told)
    return line("Run complete", "yes", told)


def losslessness(rows: Sequence[Row], tensors: int) -> dict[str, str]:
    """Whether every line of every tensor came back bit for bit under every codec."""
    ok = [row for row in rows if row["status"] == "ok"]
    lines = sum(int(row["lines"] or 0) for row in ok)
    wrong = [row for row in ok if row["lossless"] is not True]
    seen = len({(row["source"], row["tensor"]) for row in ok})
    if wrong:
        first = wrong[0]
        return line("Lossless", "no", f"{len(wrong)} cases are not, first {first['tensor']} under {first['variant']}")
    if seen != tensors or not ok:
        return line("Lossless", "undecided", f"{seen} of {tensors} tensors were measured")
    return line("Lossless", "yes", f"{lines:,} lines of {seen} tensors, each case bit for bit")


def compared(expected: Sequence[Row], rows: Sequence[Row], folder: str, reproduced: bool) -> list[dict[str, Any]]:
    """Every reported figure beside the measured one; exact or wrong.

    ``folder`` is the prefix of the run's source URIs; ``reproduced`` says that the check (rule S17) re-ran them all,
    which covers variants that the suite has not.
    """
    found = {(row["source"], row["tensor"], row["variant"]): row for row in rows if row["status"] == "ok"}
    out = []
    for want in expected:
        row = found.get((f"{folder}/{want['file']}", want["tensor"], want["variant"]))
        for figure in FIGURES:
            measured = None if row is None else row[figure]
            if measured is not None:
                standing = "exact" if measured == want[figure] else "differs"
            else:
                standing = "exact in the check" if reproduced else "not measured"
            out.append(
                {
                    "file": want["file"],
                    "tensor": want["tensor"],
                    "variant": want["variant"],
                    "figure": figure,
                    "reported": want[figure],
                    "measured": measured,
                    "standing": standing,
                }
            )
    return out


def expectation(figures: Sequence[Row]) -> dict[str, str]:
    """Whether the reported figures came out again."""
    if not figures:
        return line("Reported results", "yes", "none were reported")
    wrong = [row for row in figures if row["standing"] == "differs"]
    open_ = [row for row in figures if row["standing"] == "not measured"]
    if wrong:
        first = wrong[0]
        return line(
            "Reported results",
            "no",
            f"{len(wrong)} of {len(figures)} differ, first {first['figure']} of {first['tensor']}: reported "
            f"{first['reported']}, measured {first['measured']}",
        )
    if open_:
        return line("Reported results", "undecided", f"{len(open_)} of {len(figures)} were not measured")
    return line("Reported results", "yes", f"{len(figures)} figures, each exact")


def leading(ratios: Sequence[Row]) -> Row | None:
    """The line of `linepress.records.summary.headline` for the leaderboard: of the data with most bytes as stored,
    the line codec that packs it best. None without a line codec."""
    lines = [row for row in ratios if row["codec_kind"] == "line" and row["stored"] and row["packed_ratio"]]
    if not lines:
        return None
    # Only codecs that took every byte of the data count: one that skips hard tensors would look better.
    most = max(row["raw_bytes"] for row in lines)
    whole = [row for row in lines if row["raw_bytes"] == most]
    return min(whole, key=lambda row: (-row["packed_ratio"], row["format"], row["variant"]))


def outcome(lines: Sequence[Mapping[str, str]]) -> tuple[bool, str]:
    """``(validated, reason)``: any no, then any undecided, refuses."""
    for answer in ("no", "undecided"):
        for one in lines:
            if one["answer"] == answer:
                return False, f"{one['question'].lower()}: {answer}, {one['why']}"
    return True, "; ".join(
        f"{one['question'].lower()}: {one['why']}" for one in lines if one["question"] == "Lossless"
    )


def picked(rows: Sequence[Row], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Some columns of the ok rows, at most `ROWS_SHOWN`."""
    return [{name: row[name] for name in columns} for row in rows if row.get("status", "ok") == "ok"][:ROWS_SHOWN]
