"""Requests to serve: a recorded trace in the layout of the public Azure LLM traces, or a seeded synthetic one."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError

_PLAIN_SECONDS = re.compile(r"\d+(\.\d*)?\Z")
_DIGITS = re.compile(r"\d+")
HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(frozen=True)
class Requests:
    """Arrival (s, from 0, ascending), prompt and answer tokens of each request; `closed` ignores the arrivals.

    `shared` lists ``(request, first block, blocks, owner)``: KV blocks of a prompt that hold the same tokens as the
    same blocks of an earlier request and its answer.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    answer_tokens: NDArray[np.int64]
    closed: bool = False
    dropped: int = 0
    shared: tuple[tuple[int, int, int, int], ...] = ()

    def __len__(self) -> int:
        return int(self.prompt_tokens.size)


def parse_trace(lines: Iterable[str], where: str = "trace", *, limit: int | None = None) -> Requests:
    """A CSV ``TIMESTAMP,ContextTokens,GeneratedTokens`` (Azure/AzurePublicDataset) as requests from time 0.

    Rows without an answer (``GeneratedTokens`` 0, failures in those traces) are dropped and counted. Rows out of
    order are sorted by time.

    Raises
    ------
    ConfigurationError
        The header, a time or a count is not what the layout says; the message names the line.
    """
    reader = csv.reader(lines)
    head = next(reader, None)
    if head is None or tuple(cell.strip().lstrip("\ufeff") for cell in head[:3]) != HEADER:
        raise ConfigurationError(f"{where} line 1 is {head!r}; the first line must be {','.join(HEADER)}")
    times: list[float] = []
    prompts: list[int] = []
    answers: list[int] = []
    dropped = 0
    for number, cells in enumerate(reader, start=2):
        if not cells:
            continue
        if limit is not None and len(times) >= limit:
            break
        if len(cells) < 3:
            raise ConfigurationError(f"{where} line {number} has {len(cells)} of the 3 columns {','.join(HEADER)}")
        prompt, answer = (_count(cells[i], f"{where} line {number} {HEADER[i]}") for i in (1, 2))
        if answer == 0 or prompt == 0:
            dropped += 1
            continue
        times.append(_time(cells[0], f"{where} line {number}"))
        prompts.append(prompt)
        answers.append(answer)
    if not times:
        raise ConfigurationError(f"{where} has no request with a prompt and an answer; give at least one row")
    arrival = np.array(times) - min(times)
    order = np.argsort(arrival, kind="stable")
    return Requests(
        arrival[order],
        np.array(prompts, dtype=np.int64)[order],
        np.array(answers, dtype=np.int64)[order],
        dropped=dropped,
    )


def _count(text: str, where: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ConfigurationError(f"{where} is {text!r}; give a whole number of tokens") from None
    if value < 0:
        raise ConfigurationError(f"{where} is {value}; give 0 or more tokens")
    return value


def _time(text: str, where: str) -> float:
    """Seconds; a date and time with any number of fractional digits, or plain seconds."""
    cleaned = text.strip()
    if _PLAIN_SECONDS.match(cleaned):
        return float(cleaned)
    whole, _, fraction = cleaned.partition(".")
    digits = _DIGITS.match(fraction)
    count = len(digits.group()) if digits else 0
    try:
        moment = datetime.fromisoformat(whole + fraction[count:])
    except ValueError:
        raise ConfigurationError(
            f"{where}: TIMESTAMP {text!r} is no time; write 2023-11-16 18:15:46.6805900 or seconds"
        ) from None
    # A time without a zone is taken as UTC, so that no daylight saving of this machine moves it.
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    return moment.timestamp() + (float(f"0.{fraction[:count]}") if count else 0.0)


def closed_loop(concurrency: int, prompt_tokens: int, answer_tokens: int, *, rounds: int = 4) -> Requests:
    """`concurrency` clients that send the next request when the last one is answered, `rounds` times each."""
    n = _positive("concurrency", concurrency) * _positive("rounds", rounds)
    return Requests(
        np.zeros(n),
        np.full(n, _positive("prompt_tokens", prompt_tokens), dtype=np.int64),
        np.full(n, _positive("answer_tokens", answer_tokens), dtype=np.int64),
        closed=True,
    )


def synthetic(
    rate_per_s: float,
    n: int,
    *,
    prompt_tokens: float,
    answer_tokens: float,
    spread: float = 0.0,
    seed: int,
) -> Requests:
    """Poisson arrivals; lengths log-normal around their means with `spread` as the logarithm's deviation.

    Deterministic in `seed` (PCG64). Spread 0 gives constant lengths.
    """
    if not 0 < rate_per_s < math.inf:
        raise ConfigurationError(f"rate is {rate_per_s!r} requests/s; give a number above 0")
    if not 0 <= spread < math.inf:
        raise ConfigurationError(f"spread is {spread!r}; give 0 or more")
    _positive("requests", n)
    rng = np.random.Generator(np.random.PCG64(seed))
    arrival = np.cumsum(rng.exponential(1.0 / rate_per_s, n))
    lengths = []
    for name, mean in (("prompt_tokens", prompt_tokens), ("answer_tokens", answer_tokens)):
        _positive(name, mean)
        drawn = rng.lognormal(math.log(mean) - spread**2 / 2, spread, n) if spread else np.full(n, float(mean))
        lengths.append(np.maximum(1, np.rint(drawn)).astype(np.int64))
    return Requests(arrival - arrival[0], lengths[0], lengths[1])


def _positive(name: str, value: Any) -> Any:
    if not 1 <= value < math.inf:
        raise ConfigurationError(f"{name} is {value!r}; give 1 or more")
    return value
