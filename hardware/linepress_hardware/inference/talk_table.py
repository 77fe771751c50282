"""The talk's roofline table: 24 rows, five columns, in the strings that the talk prints, and the check of them."""

from __future__ import annotations

import csv
from importlib import resources
from typing import Any

COLUMNS = ("ops", "memory", "intensity", "performance", "bound")
TITLES = ("OPs", "Memory Access", "Arithmetic Intensity", "Max Performance", "Bound")
# layer of the published tool -> row of the talk, in the talk's order
ROWS = {
    "q_proj": "q_proj",
    "k_proj": "k_proj",
    "v_proj": "v_proj",
    "out_proj": "o_proj",
    "gate_proj": "gate_proj",
    "up_proj": "up_proj",
    "down_proj": "down_proj",
    "qk_matmul": "qk_matmul",
    "sv_matmul": "sv_matmul",
    "softmax": "softmax",
    "attn_norm": "norm",
    "attn_add": "add",
}
# The point whose table the talk shows (the survey's caption: sequence length 2048, batch 1).
POINT = {"model": "llama-2-7b", "accelerator": "rtx-a6000", "batch": 1, "context_tokens": 2048}
_UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3))


def number(value: float) -> str:
    """Zero decimals in the first unit of T, G, M, K that the value exceeds (the tool before 2024-02-08)."""
    for unit, size in _UNITS:
        if value > size:
            return f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def intensity(value: float) -> str:
    """Two decimals below 10, else none; 1.00 is printed as 1."""
    text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
    return "1" if text == "1.00" else text


def printed(row: dict[str, Any]) -> dict[str, str]:
    """A row of `roofline.row` in the talk's strings."""
    return {
        "ops": number(row["ops"]),
        "memory": number(row["memory_B"]),
        "intensity": intensity(row["intensity_op_per_B"]),
        "performance": number(row["performance_op_per_s"]),
        "bound": row["bound"],
    }


def table(stages: dict[str, list[dict[str, Any]]]) -> list[dict[str, str]]:
    """Rows of both stages (reference mode, unfused) as the talk prints them, prefill first."""
    out: list[dict[str, str]] = []
    for stage, rows in stages.items():
        by_name = {row["layer"]: row for row in rows}
        out += [{"stage": stage, "layer": ROWS[name], **printed(by_name[name])} for name in ROWS if name in by_name]
    return out


def seed() -> list[dict[str, str]]:
    """The talk's table as printed; an empty cell is unreadable there."""
    file = resources.files("linepress_hardware").joinpath("data", "inference", "seed_roofline.csv")
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def check(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Compare with the talk cell by cell.

    Returns
    -------
    dict
        ``cells`` in the talk's table, ``readable``, ``equal``, ``damaged`` (cells nobody can read, with the value
        that belongs there), ``different`` (cells whose strings differ).
    """
    damaged, different, equal, cells = [], [], 0, 0
    ours = {(row["stage"], row["layer"]): row for row in rows}
    for theirs in seed():
        mine = ours.get((theirs["stage"], theirs["layer"]))
        for column in COLUMNS:
            cells += 1
            where = f"{theirs['stage']} {theirs['layer']} {column}"
            value = None if mine is None else mine[column]
            if not theirs[column]:
                damaged.append({"cell": where, "value": value})
            elif theirs[column] == value:
                equal += 1
            else:
                different.append({"cell": where, "talk": theirs[column], "value": value})
    return {
        "cells": cells,
        "readable": cells - len(damaged),
        "equal": equal,
        "damaged": damaged,
        "different": different,
    }
