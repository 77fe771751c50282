"""A large case in steps on several workers: fit, then its parts side by side, then the merge.

The driver sends each step as a Ray task of its own, among all others, and no step waits for another while it holds a
core or memory: nothing can stand still, not even on one core. What a step gives the next stays in the workers'
object store, and the driver sees only how it ended. A step whose worker died is sent again, at most as often as a
case would be; where what it gave was lost with its node, the case begins anew. A step that raises fails the case, as
a case in one piece would have.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from linepress.cluster.tasks import Row, Split, Task, checked, completed, failure, pin_threads, target_of, within

FIT, PART, MERGE = "fit", "part", "merge"


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a step ended: the rows of the case where it has any (it failed, or it is merged), and how long it took."""

    rows: list[Row]
    started_at: datetime
    seconds: float


def run_step(
    task: Task, step: str, number: int, inputs: Sequence[Any], timeout_s: float, session: str
) -> tuple[StepEnd, bytes]:
    """One step on a worker; ``inputs`` are references to what `fit` gave and, for a merge, to what each part gave.

    Raises a Ray error where an input is lost, and nothing on account of the case.
    """
    import ray

    pin_threads()
    split = _split(task)
    started_at = datetime.now(UTC)
    start_s = time.perf_counter()
    fetched: Iterator[bytes] = (ray.get(reference) for reference in inputs)  # one is held at a time
    rows: list[Row] = []
    value = b""
    try:
        function = target_of(f"{split.module}:{step}")
        with within(timeout_s, session, f"{task.key}-{step}-{number}"):
            if step == FIT:
                value = function(*task.arguments, **task.options)
            elif step == PART:
                where = split.parts[number]
                value = function(*task.arguments, next(fetched), where, **task.options)
            else:
                rows = checked(task, function(*task.arguments, next(fetched), fetched, **task.options))
    except ray.exceptions.RayError:
        raise  # an input went with its node, which is no fault of the case
    except Exception as error:  # as in `run_task`: any exception becomes a failed record
        rows = [{**task.identity, **failure(error)}]
    seconds = time.perf_counter() - start_s
    return StepEnd(completed(task, rows, started_at, seconds), started_at, seconds), value


def _split(task: Task) -> Split:
    if task.split is None:
        raise ValueError(f"case {task.key} is not split")
    return task.split


@dataclass(slots=True, eq=False)
class SplitCase:
    """A case on its way through the steps.

    Attributes
    ----------
    task : Task
    round : int
        Times it began; steps of an earlier round no longer count.
    losses : int
        Times that what a step gave was lost.
    over : bool
        Whether its rows are known.
    """

    task: Task
    round: int = 0
    losses: int = 0
    over: bool = False
    attempts: int = 1
    seconds: float = 0.0
    started_at: datetime | None = None
    fitted: Any = None
    values: dict[int, Any] = field(default_factory=dict)

    def begin(self) -> Step:
        """The first step; whatever was there is forgotten."""
        self.round += 1
        self.fitted = None
        self.values.clear()
        return Step(self, FIT, self.round)

    def finish(self) -> None:
        """The case is over."""
        self.over = True
        self.fitted = None
        self.values.clear()


@dataclass(slots=True, eq=False)
class Step:
    """One Ray task of a split case; ``value`` is the reference to what it gives."""

    case: SplitCase
    name: str
    round: int
    number: int = 0
    tries: int = 0
    sent_s: float = 0.0
    value: Any = None

    @property
    def tasks(self) -> list[Task]:
        return [self.case.task]

    @property
    def stale(self) -> bool:
        """Whether nobody waits for it: the case ended or began anew."""
        return self.case.over or self.round != self.case.round

    @property
    def memory_bytes(self) -> int:
        task = self.case.task
        return task.memory_bytes if self.name == MERGE else _split(task).memory_bytes

    def send(self, remote: Any, timeout_s: float, session: str) -> Any:
        """Make a Ray task of it by ``remote`` (`run_step`, two returns); the reference to its `StepEnd`."""
        case = self.case
        inputs = [] if self.name == FIT else [case.fitted]
        if self.name == MERGE:
            inputs += [case.values[number] for number in range(len(_split(case.task).parts))]
        ended, self.value = remote.remote(case.task, self.name, self.number, inputs, timeout_s, session)
        return ended

    def ended(self, end: StepEnd) -> tuple[list[Row], list[Step]]:
        """(rows of the case if this ends it, steps to send now)."""
        case = self.case
        if self.stale:
            return [], []
        case.seconds += end.seconds
        case.started_at = case.started_at or end.started_at
        case.attempts = max(case.attempts, self.tries + 1, case.losses + 1)
        if end.rows:
            case.finish()
            return self._rows(end), []
        n_parts = len(_split(case.task).parts)
        if self.name == FIT:
            case.fitted = self.value
            return [], [Step(case, PART, self.round, number) for number in range(n_parts)]
        case.values[self.number] = self.value
        return [], [Step(case, MERGE, self.round)] if len(case.values) == n_parts else []

    def lost(self, error: Exception, max_tries: int) -> list[Step]:
        """What to send after this came back without a result; where the case is given up it is over then."""
        import ray

        case = self.case
        died = (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.LocalRayletDiedError,
            ray.exceptions.OutOfMemoryError,
        )
        self.tries += 1
        if isinstance(error, died) and self.tries < max_tries:
            return [self]
        case.losses += not isinstance(error, died)
        if not isinstance(error, died) and case.losses < max_tries:
            return [case.begin()]
        case.finish()
        return []

    def _rows(self, end: StepEnd) -> list[Row]:
        case = self.case
        also = {"attempts": case.attempts, "seconds": case.seconds, "started_at": case.started_at}
        parts = len(_split(case.task).parts)
        return [{**row, **also, "extra": {**(row.get("extra") or {}), "parts": parts}} for row in end.rows]
