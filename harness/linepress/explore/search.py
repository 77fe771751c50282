"""The search: every point where the budget allows, else a tree-structured Parzen estimator, in batches of one size.

Trials of a batch are drawn before any of them is measured, and told in their order, so that what is found depends on
the seed and not on how many workers measured. The default configuration is the first trial on each memory. No point
is measured twice: where the estimator draws known points only, an unknown one is drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from linepress.explore.space import AXES, Point, Space
from linepress.explore.trial import OBJECTIVES, Trial
from linepress_hardware.channel.config import default_config

BATCH = 4
DRAWS = 8
"""Draws of a point before the estimator is taken to have nothing new."""
START = 12
"""Trials drawn at random before the estimator has its say."""

Measure = Callable[[Sequence[tuple[int, Point]]], list[Trial]]
"""Measures numbered points, in their order."""


def search(space: Space, memories: Sequence[str], budget: int, seed: int, measure: Measure) -> Iterator[Trial]:
    """Trials as they end: ``budget`` of them on each memory, or as many as there are points."""
    number = 0
    for k, memory in enumerate(dict.fromkeys(memories)):
        default = space.default(memory, default_config())
        points = list(dict.fromkeys([default, *space.points(memory)]))
        if budget >= len(points):
            for i in range(0, len(points), BATCH):
                batch = points[i : i + BATCH]
                yield from measure(list(enumerate(batch, number)))
                number += len(batch)
            continue
        sampler = _Sampler(space, points, seed + k)
        left = budget
        while left:
            asked = sampler.ask(min(BATCH, left), default)
            trials = measure(list(enumerate(asked, number)))
            sampler.tell(trials)
            yield from trials
            number += len(trials)
            left -= len(trials)


class _Sampler:
    """Optuna's multi-objective estimator over the points of one memory."""

    def __init__(self, space: Space, points: Sequence[Point], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        axes: tuple[tuple[Any, ...], ...] = (
            space.codecs, space.packings, space.metadata_cache_bytes, space.queue, space.decoders,
        )  # fmt: skip
        self.distributions: dict[str, Any] = {
            name: optuna.distributions.CategoricalDistribution(tuple(dict.fromkeys(axis)))
            for name, axis in zip(AXES, axes, strict=True)
        }
        self.study = optuna.create_study(
            directions=["maximize" if sign > 0 else "minimize" for sign in OBJECTIVES.values()],
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=START),
        )
        self.unseen = dict.fromkeys(points)
        self.memory = points[0].memory
        self.rng = np.random.Generator(np.random.PCG64(seed))

    def ask(self, count: int, default: Point) -> list[Point]:
        """``count`` points that were not asked before; the default comes first of all."""
        asked: list[Point] = []
        for _ in range(count):
            point = self._next(default)
            del self.unseen[point]
            asked.append(point)
        return asked

    def _next(self, default: Point) -> Point:
        if default in self.unseen:
            return default
        for _ in range(DRAWS):
            trial = self.study.ask(self.distributions)
            point = Point(self.memory, **trial.params)
            if point in self.unseen:
                return point
        left = list(self.unseen)
        return left[int(self.rng.integers(len(left)))]

    def tell(self, trials: Sequence[Trial]) -> None:
        """What was found, also of points that the estimator did not draw itself; refused points count as failed."""
        import optuna

        for trial in trials:
            params = {name: value for name, value in asdict(trial.point).items() if name in AXES}
            inside = all(params[name] in d.choices for name, d in self.distributions.items())
            if not inside:  # the default need not lie on the axes
                continue
            state = optuna.trial.TrialState
            self.study.add_trial(
                optuna.trial.create_trial(
                    params=params,
                    distributions=self.distributions,
                    values=None if trial.error else list(trial.values),
                    state=state.FAIL if trial.error else state.COMPLETE,
                )
            )
