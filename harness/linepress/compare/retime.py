"""Speeds of two installations measured in turn, on this machine, now: the sharpest comparison there is.

Two recorded runs lie hours apart, and what the machine did in between is in the difference. Here one process of each
installation stands ready, and they measure the same case in turn (base, new, new, base, …), so that both see the same
machine. What is left is the process itself (memory layout, where compiled code came to lie): several sessions, each
with two new processes, average over it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from linepress.compare import timer
from linepress.compare.noise import noise
from linepress.compare.options import METRICS, SESSIONS, CompareOptions
from linepress.compare.pairs import Pairs, by_variant
from linepress.compare.sampled import NO_DRIFT, Sampled, Series, judged
from linepress.compare.stats import Effect, effect, rank_test
from linepress.environment import THREAD_VARIABLES
from linepress.errors import EXIT_CASES_FAILED, LinepressError

Request = dict[str, Any]
Samples = dict[str, list[float]]


class RetimeError(LinepressError):
    """An installation that cannot time a case."""

    exit_code = EXIT_CASES_FAILED


@dataclass(frozen=True, slots=True)
class RetimePlan:
    """How much to time.

    Attributes
    ----------
    sessions : int
        Pairs of new processes.
    turns : int
        Times each side measures a case in a session.
    rounds : int
        Rounds each time.
    tensors : int
        Tensors of each variant, the largest first.
    """

    sessions: int = SESSIONS
    turns: int = 4
    rounds: int = 3
    tensors: int = 6


def requests(pairs: Pairs, plan: RetimePlan) -> list[Request]:
    """The cases to time: of each variant the largest comparable tensors."""
    side = pairs.new_side
    chosen = np.flatnonzero(pairs.comparable)
    raw_bytes = side.real("raw_bytes")[pairs.new[chosen]]
    resolved = (side.manifest.get("suite") or {}).get("resolved") or {}
    found = []
    for at in by_variant(side, pairs.new[chosen]).values():
        largest = at[np.argsort(-raw_bytes[at], kind="stable")][: plan.tensors]
        for row in pairs.new[chosen[np.sort(largest)]]:
            case = {name: side.table[name][int(row)].as_py() for name in ("source", "tensor", "cast", "variant")}
            size = int(side.table["raw_bytes"][int(row)].as_py())
            chunk_bytes = int(resolved.get("chunk_bytes") or 8 << 20)
            found.append({**case, "raw_bytes": size, "rounds": plan.rounds, "chunk_bytes": chunk_bytes})
    return found


def retime(
    cases: Sequence[Request],
    base_python: str,
    new_python: str,
    plan: RetimePlan,
    options: CompareOptions,
    say: Callable[[str], None] = lambda text: None,
) -> Sampled:
    """Time ``cases`` with two interpreters in turn; raises `RetimeError` where one of them cannot."""
    result = _judge(timed_in_turn(cases, base_python, new_python, plan, say), plan, options)
    how = f"{plan.sessions} sessions of two processes, {plan.turns} × {plan.rounds} rounds"
    result.how = f"timed in turn on this machine: {how}"
    return result


def timed_in_turn(
    cases: Sequence[Request],
    base_python: str,
    new_python: str,
    plan: RetimePlan,
    say: Callable[[str], None] = lambda text: None,
) -> list[Series]:
    """The samples of `retime`, unjudged: a row of a series is one tensor in one session."""
    gathered: dict[tuple[str, str], list[tuple[Samples, Samples, float]]] = defaultdict(list)
    for session in range(plan.sessions):
        say(f"timing in turn: session {session + 1} of {plan.sessions}, {len(cases)} cases")
        with _Side(base_python) as base, _Side(new_python) as new:
            for number, case in enumerate(cases):
                found = _in_turn(base, new, case, plan.turns, first=(session + number) % 2)
                key = (str(case["variant"]), f"{case['source']} {case['tensor']} {case['cast']}")
                gathered[key].append((*found, float(case["raw_bytes"])))
    return _series(gathered)


def _in_turn(base: _Side, new: _Side, case: Request, turns: int, first: int) -> tuple[Samples, Samples]:
    """Samples of both sides: base new, new base, base new, …; once each before, unused, to warm up."""
    for side in (base, new):
        side.ask(case)
    samples: tuple[Samples, Samples] = (defaultdict(list), defaultdict(list))
    for turn in range(turns):
        order = ((0, base), (1, new)) if (turn + first) % 2 == 0 else ((1, new), (0, base))
        for place, side in order:
            for metric, seconds in side.ask(case).items():
                samples[place][metric] += seconds
    return samples


def _series(gathered: Mapping[tuple[str, str], list[tuple[Samples, Samples, float]]]) -> list[Series]:
    known = noise()
    found: list[Series] = []
    for variant in dict.fromkeys(variant for variant, _ in gathered):
        own = [sessions for (name, _), sessions in gathered.items() if name == variant]
        for metric in METRICS:
            timed = [s for s in own if all(a.get(metric) and b.get(metric) for a, b, _ in s)]
            if not timed:
                continue
            base = np.array([a[metric] for s in timed for a, _, _ in s], dtype=np.float64)
            new = np.array([b[metric] for s in timed for _, b, _ in s], dtype=np.float64)
            long_enough = np.minimum(base.min(axis=1), new.min(axis=1)) >= known.shortest_round_s
            raw = np.array([x[2] for s in timed for x in s])
            too_short = int(np.count_nonzero(~long_enough))
            found.append(
                Series(variant, metric, base[long_enough], new[long_enough], raw[long_enough], too_short, False)
            )
    return found


def _judge(found: list[Series], plan: RetimePlan, options: CompareOptions) -> Sampled:
    rng = np.random.Generator(np.random.PCG64(options.seed))
    enough = [one for one in found if one.n >= noise().fewest_tensors]
    effects = {(one.variant, one.metric): _effect(one, plan.sessions, options, rng) for one in enough}
    return judged(found, effects, options)


def between_processes(sessions: int) -> float:
    """Standard deviation of one side's log time that processes leave after so many sessions."""
    return noise().between_processes / math.sqrt(sessions)


def _effect(one: Series, sessions: int, options: CompareOptions, rng: np.random.Generator) -> Effect:
    return effect(
        one.differences(),
        rank_test(one.base, one.new),
        drift=NO_DRIFT,
        between_runs=between_processes(sessions),
        between_dof=noise().dof,
        rng=rng,
        resamples=options.resamples,
    )


class _Side:
    """A process of one installation that answers requests; as a context it ends with the block."""

    def __init__(self, python: str) -> None:
        self.python = python

    def __enter__(self) -> _Side:
        # -P: the folder of the script is not searched for modules.
        command = [self.python, "-P", str(Path(timer.__file__))]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **THREAD_VARIABLES},
            )
        except OSError as error:
            raise RetimeError(
                f"--retime {self.python}: cannot be started ({error.strerror}); give the interpreter of the other "
                "installation, for instance ../base/.venv/bin/python"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._pipe(self.process.stdin).close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._pipe(self.process.stdout).close()

    def ask(self, case: Request) -> Samples:
        """Samples of one case by metric."""
        try:
            pipe = self._pipe(self.process.stdin)
            pipe.write(json.dumps(case) + "\n")
            pipe.flush()
            line = self._pipe(self.process.stdout).readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RetimeError(f"--retime {self.python}: ended without an answer; is linepress installed there?")
        found = json.loads(line)
        if "error" in found:
            raise RetimeError(
                f"--retime {self.python}: {case['variant']} on {case['tensor']} cannot be timed ({found['error']})"
            )
        return {str(metric): [float(s) for s in seconds] for metric, seconds in found.items()}

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RetimeError("--retime: a process has no pipe; start it again")
        return pipe


def this_python() -> str:
    """The interpreter of the installation that is running."""
    return sys.executable
