"""One run of a suite: plan, measure, channel, system, gates, claims, report, mirror; and the way back into it.

The record decides what is left to do. Every stage asks it which case keys are there, sends the others to workers and
writes their rows as they come, so the same command resumes a run that was killed anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from linepress.cluster.fanout import fan_out
from linepress.cluster.join import Cluster
from linepress.cluster.metrics import DriverGauges
from linepress.cluster.tasks import Row, Task
from linepress.errors import (
    EXIT_CASES_FAILED,
    EXIT_GATE_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_MEASURED,
    EXIT_OK,
    RecordError,
)
from linepress.records.machine_load import MachineLoad
from linepress.records.pools import pools
from linepress.records.remote import RemoteCopy, working_folder
from linepress.records.store import MANIFEST, RunStore, read_manifest
from linepress.run import manifest as manifests
from linepress.run.events import EventLog
from linepress.run.finish import close_books
from linepress.run.gates import check_gates
from linepress.run.interrupt import catch_sigterm, interruptible
from linepress.run.later_stages import channel_tasks, check_later_stages, fabric_tasks, system_tasks
from linepress.run.options import RunOptions, RunOutcome
from linepress.run.pages_stage import check_pages, pages_tasks
from linepress.run.plan import Plan, make_plan
from linepress.run.progress import Progress
from linepress.run.recorder import Recorder, only_writer
from linepress.suite.model import Suite

RUNS = Path("runs")


def default_folder(suite: Suite, base: Path = RUNS) -> Path:
    """``runs/<suite>-<hash>``: the same for the same suite, so that the same command finds its run again."""
    return base / f"{suite.name}-{suite.sha256[:10]}"


def run_folder(suite: Suite, options: RunOptions) -> Path:
    """The folder that a run of these options writes to."""
    if options.remote is not None:
        return working_folder(options.remote)
    folder = options.out or default_folder(suite)
    if not options.fresh or not (folder / MANIFEST).exists():
        return folder
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(path for path in numbered if not (path / MANIFEST).exists())


def open_store(
    folder: Path, suite: Suite, plan: Plan, options: RunOptions, copy: RemoteCopy | None = None
) -> RunStore:
    """The record of this suite in ``folder``, new or found; raises `RecordError` for another suite's."""
    if copy is not None:
        copy.pull()
    if not (folder / MANIFEST).exists():
        others = [entry.name for entry in folder.iterdir() if entry.name != ".lock"] if folder.exists() else []
        if others:
            raise RecordError(
                f"{folder}: not empty and not a run folder (holds {others[0]}); choose another with --out"
            )
        resolved = {
            "ray_address": options.ray_address or "local",
            "workers": options.workers,
            "split_bytes": options.split_bytes,
            "mlflow": options.mlflow,
            "out": options.remote or str(folder),
        }
        store = RunStore.create(folder, manifests.new_manifest(folder.name, suite, plan, resolved))
        store.copy = copy
        return store
    recorded = read_manifest(folder)["suite"]
    if recorded["sha256"] != suite.sha256:
        raise RecordError(
            f"{folder}: holds a run of suite {recorded['name']} v{recorded['version']} ({recorded['sha256'][:10]}), "
            f"not of {suite.name} v{suite.model.version} ({suite.sha256[:10]}); choose another folder with --out"
        )
    store = RunStore.open(folder)
    store.verify()
    store.copy = copy
    return store


class Run:
    """A suite being run into a folder."""

    def __init__(self, suite: Suite, options: RunOptions, progress: Progress | None = None) -> None:
        self.suite = suite
        self.options = options
        self.progress = progress or Progress()
        self.folder = run_folder(suite, options)
        self.resumed = 0
        self.done = 0
        self._cluster: Cluster | None = None
        self._log = EventLog(self.folder, self.folder.name)
        self._load = MachineLoad(self.folder)

    def execute(self, on_header: Callable[[Run, Plan, int], None] | None = None) -> RunOutcome:
        """Run every stage; ``on_header`` is told the plan and how many cases are recorded already.

        Raises `LinepressError` for what the user can mend; an interruption is an outcome, not an exception.
        """
        check_later_stages(self.suite)
        check_pages(self.suite)
        plan = make_plan(self.suite)
        plan.split_bytes = self.options.split_bytes
        with only_writer(self.folder), interruptible():
            remote = self.options.remote
            copy = RemoteCopy(remote, self.folder, self.progress.say) if remote is not None else None
            store = open_store(self.folder, self.suite, plan, self.options, copy)
            session = manifests.new_session(0)
            self._log = EventLog(store.path, store.run_id)
            self._load = MachineLoad(store.path)
            self._log.note("session", number=len(store.manifest["sessions"]), planned=len(plan.cases))
            store.manifest["sessions"].append(session)
            store.manifest.update(status="running", sources=plan.provenance, unavailable=plan.unavailable)
            try:
                outcome = self._stages(plan, store, session, on_header)
            except KeyboardInterrupt:
                self._close(store, session, "interrupted", EXIT_INTERRUPTED)
                return RunOutcome(
                    store, EXIT_INTERRUPTED, self._counts(store), interrupted=True, resumed=self.resumed
                )
            except BaseException:
                self._close(store, session, "failed", None)
                raise
            finally:
                self.progress.end()
                if self._cluster is not None:
                    self._cluster.__exit__(None, None, None)
            return outcome

    def _stages(
        self,
        plan: Plan,
        store: RunStore,
        session: dict[str, Any],
        on_header: Callable[[Run, Plan, int], None] | None,
    ) -> RunOutcome:
        order = plan.order()
        known = store.statuses("measure", order)
        recorded = sum(known.get(case.key) == "ok" for case in plan.cases)
        if on_header is not None:
            on_header(self, plan, recorded)
        skipped = list(plan.skipped_rows(known))
        with Recorder(store) as recorder:
            recorder.add("measure", skipped)
            left = (case for case in plan.cases if not case.skip and known.get(case.key) != "ok")
            work = {case.key: plan.weight(case) for case in left}
            self._stage(store, recorder, "measure", order, known, plan.tasks(known), work)
        measured = pools(store)
        self._derived(store, "channel", channel_tasks(self.suite, measured))
        self._derived(store, "system", system_tasks(self.suite, measured, store))
        self._derived(store, "fabric", fabric_tasks(self.suite, measured))
        self._derived(store, "pages", pages_tasks(self.suite))
        return self._finish(store, session)

    def _derived(self, store: RunStore, stage: str, tasks: Iterable[Task]) -> None:
        """A stage whose cases are made from the records of those before it."""
        planned = list({task.key: task for task in tasks}.values())
        if not planned and not store.parts(stage):
            return
        places = {task.key: place for place, task in enumerate(planned)}
        known = store.statuses(stage, places)
        left = (task for task in planned if known.get(task.key) != "ok")
        with Recorder(store) as recorder:
            self._stage(store, recorder, stage, places, known, left)

    def _stage(
        self,
        store: RunStore,
        recorder: Recorder,
        stage: str,
        order: Mapping[str, int],
        known: Mapping[str, str],
        tasks: Iterable[Task],
        work: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Evaluate the tasks of one stage, record them as they come, then put the table in order.

        ``work`` is the core-seconds that each should take, by its key; empty where they are all alike.
        """
        planned = len(order)
        resumed = sum(known.get(key) == "ok" for key in order)
        self.resumed += resumed
        store.manifest["counts"][stage] = {"planned": planned}
        first = list(itertools.islice(tasks, 1))
        if first:
            cluster = self._joined(store)
            self.progress.begin(stage, planned, resumed, sum(work.values()), cluster.slots)
            self._log.note("stage", stage=stage, planned=planned, resumed=resumed)
            gauges = DriverGauges("" if cluster.local else store.run_id)
            left = planned - resumed

            def on_wait() -> None:
                gauges.set(stage, left, cluster.in_flight)
                self.progress.tick(*cluster.longest)
                recorder.tick()
                self._load.tick()
                self._log.check_clock()

            cases = itertools.chain(first, tasks)
            for task, rows in fan_out(cases, cluster, self.suite.model.timeout_s, on_wait, self._note):
                recorder.add(stage, _complete(task, rows))
                self._log.case(stage, rows[0])
                self.done += 1
                left -= 1
                seconds = rows[0].get("seconds") or 0.0
                self.progress.advance(rows[0]["status"] == "ok", task.n_bytes, work.get(task.key, 0.0), seconds)
            gauges.set(stage, 0, 0)
        recorder.flush()
        store.compact(stage, order, drop_others=True)
        store.save_manifest()

    def _joined(self, store: RunStore) -> Cluster:
        """The cluster to send cases to; Ray starts when the first case needs it."""
        if self._cluster is None:
            self.progress.say(f"starting Ray ({self.options.ray_address or 'local'})")
            cluster = Cluster(self.options.ray_address, self.options.workers, store.run_id)
            cluster.__enter__()
            self._cluster = cluster
            catch_sigterm()  # Ray puts its own handler, which would end the driver without a word
            store.manifest["cluster"] = cluster.describe()
            self._log.note("cluster", **cluster.describe())
        return self._cluster

    def _note(self, event: str, say: str = "", **what: Any) -> None:
        if say:
            catch_sigterm()  # a rejoin puts Ray's handler back
            self.progress.say(say)
        self._log.note(event, "warning", **what, **({"text": say} if say else {}))

    def _finish(self, store: RunStore, session: dict[str, Any]) -> RunOutcome:
        counts = self._counts(store)
        gates = check_gates(store, self.suite.model.gates)
        store.replace("gates", gates)
        code = exit_code(counts, gates)
        outcome = RunOutcome(store, code, counts, gates, resumed=self.resumed, done=self.done)
        self._close(store, session, "complete", code)
        self.progress.end()
        close_books(outcome, self.suite, self.options, self.progress)
        store.save_manifest()
        if store.copy is not None:
            store.copy.finish()
        return outcome

    def _counts(self, store: RunStore) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for stage, entry in store.manifest["counts"].items():
            found = store.counts(stage)
            counts[stage] = {
                "planned": entry["planned"],
                **{status: found.get(status, 0) for status in ("ok", "failed", "skipped")},
            }
        return counts

    def _close(self, store: RunStore, session: dict[str, Any], ended: str, code: int | None) -> None:
        if self._cluster is not None:  # a run that had nothing to do leaves its record as it is
            self._load.save()
        session.update(ended_at=manifests.now(), ended=ended, resumed=self.resumed, done=self.done)
        self._log.note("session ended", ended=ended, resumed=self.resumed, done=self.done, exit_code=code)
        session.update(seconds=round(self._log.seconds, 3), clock_steps_s=self._log.clock_steps)
        store.manifest.update(status=ended, updated_at=manifests.now(), exit_code=code, counts=self._counts(store))
        store.save_manifest()


def _complete(task: Task, rows: Sequence[Row]) -> list[Row]:
    """Rows with what the plan knows about the case where the stage does not say."""
    return [{**task.identity, **row} for row in rows]


def exit_code(counts: Mapping[str, Mapping[str, int]], gates: Sequence[Mapping[str, Any]]) -> int:
    """3 when nothing was measured, 1 when a gate failed, 2 when a case failed, else 0."""
    if counts.get("measure", {}).get("ok", 0) == 0:
        return EXIT_NOTHING_MEASURED
    if any(not gate["passed"] for gate in gates):
        return EXIT_GATE_FAILED
    if any(stage.get("failed", 0) for stage in counts.values()):
        return EXIT_CASES_FAILED
    return EXIT_OK
