"""Does each fault test fail without the handling it tests? ``python -m benchmarks.mutants [NAME…]``.

Copies the tree to a temporary folder, takes one handling out at a time and runs the test that should notice. A mutant
that survives is a test that cannot fail: exit 1. Samples in ``results/mutants.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("harness", "codecs", "hardware", "suites")
RESULTS = Path(__file__).parent / "results"
FAULTS = "tests/harness/faults"


@dataclass(frozen=True)
class Mutant:
    """One handling taken out: ``old`` becomes ``new`` in ``file``; ``test`` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    Mutant(
        "a lost worker's cases are not sent again",
        "harness/linepress/cluster/fanout.py",
        "    if len(group.tasks) > 1:\n        again.extend(_Group([task]) for task in group.tasks)\n        return\n"
        "    group.tries += 1\n    if group.tries < MAX_TRIES:\n",
        "    group.tries += 1\n    if group.tries < 0:\n",
        f"{FAULTS}/test_processes.py::test_a_worker_killed",
    ),
    Mutant(
        "a lost node's cases are not sent again",
        "harness/linepress/cluster/fanout.py",
        "    if len(group.tasks) > 1:\n        again.extend(_Group([task]) for task in group.tasks)\n        return\n"
        "    group.tries += 1\n    if group.tries < MAX_TRIES:\n",
        "    group.tries += 1\n    if group.tries < 0:\n",
        f"{FAULTS}/test_processes.py::test_a_node_killed",
    ),
    Mutant(
        "a hung case is not ended",
        "harness/linepress/cluster/tasks.py",
        "faulthandler.dump_traceback_later(self.timeout_s,",
        "faulthandler.dump_traceback_later(1000 * self.timeout_s,",
        f"{FAULTS}/test_processes.py::test_poison_and_hung_cases_fail_alone_and_the_same_command_mends_them",
    ),
    Mutant(
        "a poisoned case takes its group along",
        "harness/linepress/cluster/fanout.py",
        "        again.extend(_Group([task]) for task in group.tasks)\n        return\n",
        "        for task in group.tasks:\n"
        "            yield task, [lost_row(task, error, MAX_TRIES, 0.0)]\n"
        "        return\n",
        f"{FAULTS}/test_processes.py::test_poison_and_hung_cases_fail_alone_and_the_same_command_mends_them",
    ),
    Mutant(
        "results are kept in the driver until the end",
        "harness/linepress/run/recorder.py",
        "if self._rows and now_s - self._last_s >= due_s:",
        "if self._rows and now_s < 0:",
        f"{FAULTS}/test_processes.py::test_the_driver_killed",
    ),
    Mutant(
        "nobody waits for a head that restarts",
        "harness/linepress/cluster/join.py",
        "        if self.local or gcs is None:\n",
        "        if gcs is not None or self.local:\n",
        f"{FAULTS}/test_processes.py::test_the_head_restarted_and_the_run_goes_on",
    ),
    Mutant(
        "a head that is gone is waited for without end",
        "harness/linepress/cluster/join.py",
        'patience_s = float(os.environ.get("LINEPRESS_HEAD_WAIT_S", REJOIN_WAIT_S))',
        "patience_s = 1e6",
        f"{FAULTS}/test_processes.py::test_the_head_gone_for_good_is_one_sentence_and_the_same_command_goes_on",
    ),
    Mutant(
        "a shard that changed is measured",
        "harness/linepress/cluster/tasks.py",
        "if task.content_sha256 and found and found != task.content_sha256:",
        "if task.content_sha256 and found is None:",
        f"{FAULTS}/test_data.py::test_a_shard_changed_or_gone_under_the_run",
    ),
    Mutant(
        "a clock that was set goes unnoticed",
        "harness/linepress/run/events.py",
        "if abs(step_s) > CLOCK_STEP_S:",
        "if abs(step_s) > 1e12:",
        f"{FAULTS}/test_data.py::test_a_clock_that_jumps_days_changes_nothing_and_is_noted",
    ),
    Mutant(
        "an unwritable failures.jsonl is a traceback",
        "harness/linepress/run/recorder.py",
        "        except OSError as error:\n            self._broken = True\n            raise RecordWriteError(\n"
        '                f"{path}: cannot',
        "        except KeyError as error:\n            self._broken = True\n            raise RecordWriteError(\n"
        '                f"{path}: cannot',
        f"{FAULTS}/test_failures_file.py",
    ),
    Mutant(
        "MLflow away ends the run",
        "harness/linepress/tracking/__init__.py",
        "    except MirrorError as error:",
        "    except KeyError as error:",
        f"{FAULTS}/test_mlflow.py",
    ),
    Mutant(
        "an object store away ends the run",
        "harness/linepress/records/remote.py",
        "        except (OSError, RemoteError) as error:",
        "        except KeyError as error:",
        f"{FAULTS}/test_remote.py::test_a_store_that_goes_away_costs_nothing_but_the_same_command",
    ),
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a mutant's name; all without one")
    names = parser.parse_args(argv).names
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)]
    samples = []
    for mutant in chosen:
        start_s = time.perf_counter()
        killed, last = _killed(mutant)
        samples.append({"mutant": mutant.name, "test": mutant.test, "killed": killed, "pytest": last})
        print(f"{'killed  ' if killed else 'SURVIVED'} {time.perf_counter() - start_s:6.1f} s  {mutant.name}: {last}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mutants.json").write_text(json.dumps(samples, indent=1) + "\n", encoding="utf-8")
    return 0 if samples and all(sample["killed"] for sample in samples) else 1


def _killed(mutant: Mutant) -> tuple[bool, str]:
    """Whether the mutant's test failed, and pytest's closing line."""
    with tempfile.TemporaryDirectory(prefix="linepress-mutant-") as folder:
        tree = Path(folder)
        for name in (*PACKAGES, "tests"):
            shutil.copytree(ROOT / name, tree / name)
        shutil.copy(ROOT / "pyproject.toml", tree)
        file = tree / mutant.file
        text = file.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            raise SystemExit(f"{mutant.file}: {mutant.name!r} no longer fits the code; mend the mutant")
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        path = os.pathsep.join(str(tree / name) for name in PACKAGES)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "--timeout", "110", mutant.test],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        # 1 is pytest's code of failed tests; 2 to 5 mean that it ran none.
        return done.returncode == 1, lines[-1] if lines else done.stderr.strip()[-200:]


if __name__ == "__main__":
    sys.exit(main())
