"""Sending cases to workers: a bounded window of small groups, and what to do when a worker goes down with one.

A group whose worker died is sent again as single cases, so that the case that kills workers is alone when it does so
again; it is recorded as failed after `MAX_TRIES` and the others are not touched. When the head of the cluster is
lost, everything in flight is sent again to the head that comes back; no case is to blame for that.

A case with a `linepress.cluster.tasks.Split` goes alone and in steps, see `linepress.cluster.split`.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from linepress.cluster.join import Cluster, ClusterError
from linepress.cluster.split import SplitCase, Step, run_step
from linepress.cluster.tasks import Row, Task, run_group
from linepress.environment import worker_versions
from linepress.records.store import label_of

GROUP_CASES = 8
GROUP_BYTES = 64 << 20
CHAIN_TENSORS = 8
"""Tensors from afar that one worker takes in a row, so that it can fetch the next while it measures one."""
LOOK_AHEAD = 256
MAX_TRIES = 3
MEMORY_STEP_BYTES = 256 << 20
WINDOW_PER_SLOT = 2
"""Groups in flight for each core: one running, one waiting, so that no core waits for the driver."""


@dataclass(slots=True)
class _Group:
    tasks: list[Task]
    tries: int = 0
    sent_s: float = 0.0


def groups(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Consecutive tasks of one stage in groups of at most `GROUP_CASES` cases and about `GROUP_BYTES` bytes; a case
    that is split is a group of its own.

    Bytes that several of them must fetch from afar count once, so that these stay together on one worker.
    """
    group: list[Task] = []
    n_bytes = 0
    for task in tasks:
        shared = bool(group) and task.data != "" and task.data == group[-1].data
        more = 0 if shared else task.n_bytes
        if group and (
            len(group) >= GROUP_CASES
            or (n_bytes + more > GROUP_BYTES and not shared)
            or task.stage != group[0].stage
            or task.split is not None
            or group[0].split is not None
        ):
            yield group
            group, n_bytes = [], 0
            more = task.n_bytes
        group.append(task)
        n_bytes += more
    if group:
        yield group


def chained(parcels: Iterable[list[Task]], slots: int) -> Iterator[list[Task]]:
    """`groups`, those whose bytes come over a network joined to as many as `CHAIN_TENSORS` for one worker.

    Fewer towards the end: what is left is shared out over ``slots`` workers.
    """
    coming = iter(parcels)
    ahead: deque[list[Task]] = deque()
    while True:
        ahead.extend(islice(coming, 0 if ahead else 1))
        if not ahead:
            return
        chain = ahead.popleft()
        if chain[0].afar is not None:
            ahead.extend(islice(coming, max(min(2 * slots * CHAIN_TENSORS, LOOK_AHEAD) - len(ahead), 0)))
            for _ in range(min(CHAIN_TENSORS - 1, len(ahead) // (2 * slots))):
                if ahead[0][0].afar is None:
                    break
                chain += ahead.popleft()
        yield chain


def _longest(flying: Iterable[_Group | Step]) -> tuple[str, float]:
    """What has been with a worker longest, and for how many seconds."""
    first = min(flying, key=lambda group: group.sent_s)
    case, more = first.tasks[0], len(first.tasks) - 1
    words = label_of(case.stage, case.identity) or case.key
    return words + (f" and {more} more" if more else ""), time.monotonic() - first.sent_s


def fan_out(
    tasks: Iterable[Task],
    cluster: Cluster,
    timeout_s: float,
    on_wait: Callable[[], None] | None = None,
    note: Callable[..., None] = lambda event, **what: None,
) -> Iterator[tuple[Task, list[Row]]]:
    """Evaluate tasks on the running Ray; yields each with its rows as it ends, in no particular order.

    Parameters
    ----------
    tasks : iterable of Task
        Taken as the window has room, never all at once.
    cluster : Cluster
        Joined; its ``slots`` say how many cases can run at the same time.
    timeout_s : float
        Most time for one case.
    on_wait : callable, optional
        Called at least every half second while nothing ends.
    note : callable
        Told of every event that an operator may want to know: its name, and what it was about as keywords.

    Raises
    ------
    ClusterError
        The cluster itself went away and did not come back. Whatever was yielded before stands.

    A caller that stops early leaves what is in flight to end, or to go with the driver's connection: cancelling a
    task while its result arrives aborts the driver (a check in Ray's task manager).
    """
    import ray

    send = _Sender(timeout_s, cluster)
    waiting = chained(groups(tasks), max(cluster.slots, 1))
    again: deque[_Group | Step] = deque()
    flying: dict[Any, _Group | Step] = {}
    try:
        while True:
            room = cluster.slots * WINDOW_PER_SLOT - len(flying)
            for group in _take(again, waiting, room):
                group.sent_s = time.monotonic()
                flying[send(group)] = group
            cluster.in_flight = len({task.key for group in flying.values() for task in group.tasks})
            if not flying:
                return
            cluster.longest = _longest(flying.values())
            done, _ = ray.wait(list(flying), num_returns=1, timeout=0.5)
            if on_wait is not None:
                on_wait()
            gone = not done and cluster.lost()
            for reference in done:
                group = flying[reference]
                try:
                    results = ray.get(reference)
                except ray.exceptions.RayError as error:
                    gone = gone or cluster.lost(at_once=True)
                    if gone:
                        break  # no case is to blame
                    note("worker lost", error=type(error).__name__, case_keys=[one.key for one in group.tasks])
                    yield from _lost(flying.pop(reference), error, again)
                    continue
                del flying[reference]
                if isinstance(group, Step):
                    rows, following = group.ended(results)
                    again.extend(following)
                    if rows:
                        yield group.case.task, rows
                    continue
                for task, rows in zip(group.tasks, results, strict=True):
                    for row in rows:
                        row["attempts"] = group.tries + 1
                    yield task, rows
            if gone:
                note("head lost", address=cluster.address, in_flight=sum(len(g.tasks) for g in flying.values()))
                again = _afresh([*flying.values(), *again])
                flying.clear()
                cluster.rejoin(lambda text: note("head", say=text), on_wait)
                send.connect()
    except (ConnectionError, ray.exceptions.RaySystemError) as error:
        raise ClusterError(
            f"Ray went away ({str(error).strip().splitlines()[0]}); what was measured is recorded, give the same "
            "command again"
        ) from error


class _Sender:
    """Makes Ray tasks of groups and steps, each admitted to a node that has a core and its memory to spare."""

    def __init__(self, timeout_s: float, cluster: Cluster) -> None:
        self.timeout_s = timeout_s
        self.cluster = cluster
        self.session = uuid.uuid4().hex
        self.connect()

    def connect(self) -> None:
        """Remote functions belong to one connection: anew after each."""
        import ray

        self._group = ray.remote(run_group)
        self._step = ray.remote(run_step)

    def __call__(self, group: _Group | Step) -> Any:
        options: dict[str, Any] = {"max_retries": 0, "num_cpus": 1}
        wanted = in_steps(group.memory_bytes) if isinstance(group, Step) else admitted_bytes(group.tasks)
        memory_bytes = min(wanted, self.cluster.node_memory_bytes)
        if memory_bytes:
            options["memory"] = memory_bytes
        if isinstance(group, Step):
            return group.send(self._step.options(num_returns=2, **options), self.timeout_s, self.session)
        return self._group.options(**options).remote(group.tasks, self.timeout_s, self.session)


def admitted_bytes(tasks: Sequence[Task]) -> int:
    """Memory to ask of a node for a group: that of its largest case, in steps of `MEMORY_STEP_BYTES`."""
    return in_steps(max(task.memory_bytes for task in tasks))


def in_steps(n_bytes: int) -> int:
    """``n_bytes`` rounded up to `MEMORY_STEP_BYTES`.

    Steps keep the shapes few, since Ray keeps a queue of workers for each.
    """
    return -(-n_bytes // MEMORY_STEP_BYTES) * MEMORY_STEP_BYTES


def _take(again: deque[_Group | Step], waiting: Iterator[list[Task]], room: int) -> Iterator[_Group | Step]:
    while room > 0 and again:
        group = again.popleft()
        if isinstance(group, Step) and group.stale:
            continue
        room -= 1
        yield group
    for tasks in islice(waiting, max(room, 0)):
        yield _Group(tasks) if tasks[0].split is None else SplitCase(tasks[0]).begin()


def _afresh(units: Sequence[_Group | Step]) -> deque[_Group | Step]:
    """What was in flight or waiting when a head was lost; what split cases had so far went with its workers."""
    fresh: dict[int, _Group | Step] = {}
    for unit in units:
        if not isinstance(unit, Step):
            fresh[id(unit)] = unit
        elif not unit.stale:
            fresh[id(unit.case)] = unit.case.begin()
    return deque(fresh.values())


def _lost(group: _Group | Step, error: Exception, again: deque[_Group | Step]) -> Iterator[tuple[Task, list[Row]]]:
    """A group that came back without results: split it, try its single case again, or give up on the case."""
    if isinstance(group, Step):
        if group.stale:
            return
        following = group.lost(error, MAX_TRIES)
        again.extend(following)
        if group.case.over:
            seconds = group.case.seconds + time.monotonic() - group.sent_s
            yield group.case.task, [lost_row(group.case.task, error, MAX_TRIES, seconds)]
        return
    if len(group.tasks) > 1:
        again.extend(_Group([task]) for task in group.tasks)
        return
    group.tries += 1
    if group.tries < MAX_TRIES:
        again.append(group)
        return
    yield group.tasks[0], [lost_row(group.tasks[0], error, group.tries, time.monotonic() - group.sent_s)]


def lost_row(task: Task, error: Exception, tries: int, seconds: float) -> Row:
    """The failed row of a case that took its worker with it ``tries`` times."""
    lines: Sequence[str] = str(error).strip().splitlines()
    return {
        **task.identity,
        "case_key": task.key,
        "row": 0,
        "status": "failed",
        "error_type": type(error).__name__,
        "error": f"its worker died {tries} times on this case alone ({lines[0] if lines else 'no reason given'})",
        "attempts": tries,
        "seconds": seconds,
        "host": socket.gethostname(),
        "versions": worker_versions(),
        "started_at": datetime.now(UTC),
    }
