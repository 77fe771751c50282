"""Compact forms of kernel time by shape, one set of constants a GPU (``data/kernels``), each class with its error.

Linear layers: the larger-exponent sum of bytes / bandwidth and of tiles: the library cuts T × N into tiles, may split
K, and runs them in waves over the multiprocessors; the fastest of a few tiles counts. Attention: blocks of 64 query
rows a head (FlashAttention-2), each reading its keys one after the other, dealt out to the multiprocessors; decode
alone splits its keys instead and streams them at DRAM rate. Where a launch holds prompts and answers, answers run as
one block a query head: query heads of a group read the same keys again once those fall out of the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.catalog.files import catalog, check_keys, lookup, read_toml
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.kernels.layers import ELEMENT_BYTES, Heads, Matrix

F8 = NDArray[np.float64]
BLOCK_ROWS = 64  # query rows of a FlashAttention block at head width 128
KEY_TILE = 64  # keys are fetched by whole tiles
TILES = ((64, 64), (128, 128), (128, 256))
SPLITS = (1, 2, 4)
SHORT_ROWS = 16  # rows of the smallest matrix instruction
REFERENCE_WIDTH = 128  # head width of the profiled models: block times go by it


@dataclass(frozen=True)
class LinearForm:
    """`partial_wave`: time of a wave that is not full, at least, as a share of a full one. `small_tile`,
    `middle_tile`: rate of the two smaller tiles over the largest. `ramp`: extra length of K a tile costs.
    `tall_share`: share of the bandwidth that kernels of more than 16 rows reach."""

    launch_us: float
    bandwidth_GBps: float
    peak_Tops: float
    exponent: float
    partial_wave: float
    small_tile: float
    middle_tile: float
    ramp: float
    reduction_GBps: float
    tall_share: float

    def seconds(self, of: Matrix, tokens: ArrayLike, multiprocessors: int, bandwidth_GBps: float | None = None) -> F8:
        """Seconds of a product; `bandwidth_GBps` replaces the DRAM's, for weights that a cache holds."""
        t = np.asarray(tokens, dtype=np.float64)
        rate = np.where(t > SHORT_ROWS, self.tall_share, 1.0) * (bandwidth_GBps or self.bandwidth_GBps)
        memory = of.bytes(t) / (rate * 1e9)
        best = np.full(t.shape, np.inf)
        for (rows, columns), speed in zip(TILES, (self.small_tile, self.middle_tile, 1.0), strict=True):
            for split in SPLITS:
                waves = np.ceil(t / rows) * np.ceil(of.columns / columns) * split / multiprocessors
                full = np.floor(waves + 1e-9)
                rest = np.maximum(waves - full, 0.0)
                part = np.where(rest > 1e-6, self.partial_wave + (1 - self.partial_wave) * rest, 0.0)
                waves = np.where(waves < 1, 1.0, full + part)
                work = waves * multiprocessors * 2 * rows * columns * (of.rows / split + self.ramp)
                busy = work / (self.peak_Tops * 1e12 * speed)
                if split > 1:
                    busy = busy + split * t * of.columns * 8.0 / (self.reduction_GBps * 1e9)
                best = np.minimum(best, busy)
        joined = (memory**self.exponent + best**self.exponent) ** (1 / self.exponent)
        return np.asarray(self.launch_us * 1e-6 + joined)


@dataclass(frozen=True)
class DecodeForm:
    """Answers alone: launch, less where one short sequence needs no second pass, and bytes of whole key tiles.

    `fill_us` comes on top as far as the sequences' blocks need more than `fill_waves` waves over the multiprocessors
    (the last one is not full, and nothing is split once there is one) and the bytes exceed `fill_share` of the cache.
    """

    launch_us: float
    single_us: float
    bandwidth_GBps: float
    fill_us: float
    fill_share: float
    fill_waves: float

    def seconds(
        self, at: Heads, sequences: ArrayLike, keys: ArrayLike, multiprocessors: int, cache_bytes: float
    ) -> F8:
        n, k = np.asarray(sequences, dtype=np.float64), np.asarray(keys, dtype=np.float64)
        tiles = np.ceil(k / KEY_TILE) * KEY_TILE
        moved = 2 * ELEMENT_BYTES * at.width * n * (at.kv * tiles + at.query)
        launch = self.launch_us - self.single_us * ((n == 1) & (k <= KEY_TILE))
        filled = np.expm1(-((moved / max(self.fill_share * cache_bytes, 1.0)) ** 2))
        filled = self.fill_us * filled * np.expm1(-n * at.kv / max(self.fill_waves * multiprocessors, 1e-9))
        return np.asarray(1e-6 * (launch + filled) + moved / (self.bandwidth_GBps * 1e9))


@dataclass(frozen=True)
class PrefillForm:
    """Prompts alone: a block costs `block_us` + `key_us` a thousand keys; `smooth` says how far waves blur."""

    block_us: float
    key_us: float
    smooth: float

    def seconds(self, at: Heads, chunk: ArrayLike, prior: ArrayLike, multiprocessors: int) -> F8:
        c, p = np.asarray(chunk, dtype=np.float64), np.asarray(prior, dtype=np.float64)
        loads = at.query * np.ceil(c / BLOCK_ROWS) / multiprocessors
        waves = np.where(loads > 1, (1 - self.smooth) * np.ceil(loads - 1e-9) + self.smooth * loads, 1.0)
        keys = p * waves + c / 2 * np.maximum(1.0, loads) + c / 2
        width = at.width / REFERENCE_WIDTH
        return np.asarray(1e-6 * (self.block_us * waves + width * self.key_us * keys / 1e3))


@dataclass(frozen=True)
class MixedForm:
    """Prompts and answers in one launch, dealt out in order: the last long block starts when all before it are
    placed. `empty_us`: a block without rows. `eviction`, `exponent`: how sharply the cache fails and how memory and
    blocks add."""

    launch_us: float
    block_us: float
    prompt_key_us: float
    answer_key_us: float
    empty_us: float
    eviction: float
    exponent: float
    bandwidth_GBps: float

    def seconds(
        self,
        at: Heads,
        chunk: ArrayLike,
        prior: ArrayLike,
        sequences: ArrayLike,
        keys: ArrayLike,
        multiprocessors: int,
        cache_bytes: float,
    ) -> F8:
        c, p, n, k = (np.asarray(v, dtype=np.float64) for v in (chunk, prior, sequences, keys))
        width, m = at.width / REFERENCE_WIDTH, float(multiprocessors)
        rows = np.ceil(c / BLOCK_ROWS)
        prompt = self.block_us + width * self.prompt_key_us * (p + c / 2) / 1e3
        prompt_longest = self.block_us + width * self.prompt_key_us * (p + c) / 1e3
        answer = self.block_us + width * self.answer_key_us * k / 1e3
        prompts, answers = at.query * rows, at.query * n
        work = (prompts * prompt + answers * answer) / m
        answers_longer = answer >= prompt_longest
        longest = np.where(answers_longer, answer, prompt_longest)
        other = np.where(answers_longer, prompt, answer)
        by_answers = answers * answer / (prompts * prompt + answers * answer)
        share = np.where(answers_longer, by_answers, 1 - by_answers)
        # On average a block of the longer kind is half done, and one of the other kind too, when the last starts.
        spread = work + longest * (1 - share / 2) - (1 - share) * other / 2
        blocks = np.where(prompts + answers <= m, longest, np.maximum(spread, longest))
        group = at.query / at.kv
        passes = np.clip(group / np.maximum(1.0, m / (n + rows)), 1.0, group)
        token = 2 * ELEMENT_BYTES * at.width
        lost = 1 - np.minimum(1.0, cache_bytes / np.maximum(n * k * token, 1.0)) ** self.eviction
        moved = token * at.kv * (n * k * (1 + (passes - 1) * lost) + c + p)
        memory = moved / (self.bandwidth_GBps * 1e3)
        joined = (blocks**self.exponent + memory**self.exponent) ** (1 / self.exponent)
        return np.asarray(1e-6 * (self.launch_us + joined + self.empty_us * at.query * rows * n / m))


@dataclass(frozen=True)
class ElementwiseForm:
    """Launch and bytes: those that the last-level cache holds at its rate, the rest at the memory's.

    `held_share`: how much of the cache the kernel finds its data in.
    """

    launch_us: float
    cache_GBps: float
    bandwidth_GBps: float
    held_share: float

    def seconds(self, moved: ArrayLike, cache_bytes: float) -> F8:
        size = np.asarray(moved, dtype=np.float64)
        held = np.minimum(size, self.held_share * cache_bytes)
        return np.asarray(
            self.launch_us * 1e-6 + held / (self.cache_GBps * 1e9) + (size - held) / (self.bandwidth_GBps * 1e9)
        )


@dataclass(frozen=True)
class Band:
    """Error of a form over the rows it was fitted on: mean and 90th percentile of |predicted / measured − 1|."""

    mean: float
    p90: float
    rows: int


@dataclass(frozen=True)
class DeviceForms:
    """All forms of one GPU; `elementwise` by kernel name, `bands` by class."""

    name: str
    accelerator: str
    multiprocessors: int
    source: str
    linear: LinearForm
    decode: DecodeForm
    prefill: PrefillForm
    mixed: MixedForm
    elementwise: Mapping[str, ElementwiseForm]
    expert_launch_us: float
    host_step_us: float
    bands: Mapping[str, Band]
    aliases: tuple[str, ...] = ()

    @property
    def cache_bytes(self) -> float:
        """Bytes of the accelerator's last-level cache."""
        return accelerator(self.accelerator).cache_bytes

    @property
    def attention_band(self) -> float:
        """Mean error over all attention rows."""
        found = [self.bands[name] for name in ("decode", "prefill", "mixed")]
        return sum(one.mean * one.rows for one in found) / sum(one.rows for one in found)


_CLASSES: dict[str, Any] = {
    "linear": LinearForm,
    "decode": DecodeForm,
    "prefill": PrefillForm,
    "mixed": MixedForm,
    "elementwise": ElementwiseForm,
}


def form(kind: str, raw: Mapping[str, Any], where: str) -> Any:
    """One form from its constants, all needed, positive or zero, nothing else allowed."""
    cls = _CLASSES[kind]
    names = [field.name for field in fields(cls)]
    check_keys(raw, where, names, ())
    for name, value in raw.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ConfigurationError(f"{where} {name} is {value!r}; give a number of 0 or more")
    return cls(**{name: float(raw[name]) for name in names})


def parse_forms(text: str, where: str) -> DeviceForms:
    """One data file → `DeviceForms`; mistakes are `ConfigurationError` naming file and key."""
    raw = read_toml(text, where)
    tables = ("linear", "decode", "prefill", "mixed", "elementwise", "bands")
    plain = ("name", "accelerator", "multiprocessors", "source", "expert_launch_us", "host_step_us")
    check_keys(raw, where, (*plain, *tables), ())
    return DeviceForms(
        name=raw["name"],
        accelerator=accelerator(raw["accelerator"]).name,
        multiprocessors=int(raw["multiprocessors"]),
        source=raw["source"],
        **{kind: form(kind, raw[kind], f"{where} {kind}") for kind in ("linear", "decode", "prefill", "mixed")},
        elementwise={
            name: form("elementwise", one, f"{where} elementwise.{name}") for name, one in raw["elementwise"].items()
        },
        expert_launch_us=float(raw["expert_launch_us"]),
        host_step_us=float(raw["host_step_us"]),
        bands={
            name: Band(float(one["mean"]), float(one["p90"]), int(one["rows"])) for name, one in raw["bands"].items()
        },
    )


@cache
def all_forms() -> dict[str, DeviceForms]:
    """Every packaged set of forms by accelerator name."""
    return catalog("kernels", parse_forms)


def forms_of(accelerator_name: str) -> DeviceForms:
    """Forms of an accelerator; `UnknownPartError` lists the accelerators that have some."""
    name = accelerator(accelerator_name).name
    return lookup(name, all_forms(), "kernel forms of", "Without measured kernels the roofline is used")
