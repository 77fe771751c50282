"""The Ray cluster of a run: a local one unless an address is given, started late and ended with the run.

A driver outlives the head of its cluster: a head that stops answering is noticed long before Ray would end the
process, and a head that comes back at the same address is joined again.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from linepress.cluster.metrics import run_variables
from linepress.cluster.private import PrivateRay
from linepress.environment import RUN_VARIABLES, THREAD_VARIABLES, prepare, usable_cores
from linepress.errors import EXIT_CASES_FAILED, LinepressError

OBJECT_STORE_BYTES = 128 << 20
"""Shared memory of a local Ray: rows are small and no tensor travels, so this is generous."""

CHECK_EVERY_S = 2.0
"""Between two looks at the head and at this machine's raylet while results are awaited."""
SILENCE_S = 15.0
"""A head that does not answer for so long is lost; Ray itself would end this process after 60 s."""
REJOIN_WAIT_S = 300.0
"""How long a lost head is waited for; ``LINEPRESS_HEAD_WAIT_S`` sets another time."""


class ClusterError(LinepressError):
    """A cluster that cannot be started, reached, or that went away."""

    exit_code = EXIT_CASES_FAILED


# Ray's sockets lie in FOLDER/ray/session_<date, time, process>/sockets/plasma_store, and the system takes 107 bytes.
MAX_RAY_FOLDER = 107 - len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def shorten_ray_folder() -> None:
    """Let a local Ray keep its sockets in a short folder where that of ``TMPDIR`` is too long for them.

    Raises `ClusterError` naming ``RAY_TMPDIR`` where no short folder can be written.
    """
    stated = os.environ.get("RAY_TMPDIR")
    folder = stated or tempfile.gettempdir()
    if len(os.fsencode(folder)) <= MAX_RAY_FOLDER:
        return
    usable = [short for short in SHORT_FOLDERS if os.access(short, os.W_OK | os.X_OK)]
    if stated or not usable:
        raise ClusterError(
            f"{'RAY_TMPDIR' if stated else 'TMPDIR'} {folder} is too long for Ray's sockets, which leave it "
            f"{MAX_RAY_FOLDER} bytes; set RAY_TMPDIR to a shorter folder"
        )
    os.environ["RAY_TMPDIR"] = usable[0]


def package_folders() -> list[str]:
    """The four packages as folders; Ray hashes them by content, so workers always run the driver's code."""
    import linepress
    import linepress_codecs
    import linepress_hardware
    import linepress_suites

    return [str(Path(m.__path__[0])) for m in (linepress, linepress_codecs, linepress_hardware, linepress_suites)]


class Cluster:
    """A context that joins or starts Ray.

    Parameters
    ----------
    address : str | None
        ``None`` starts a local Ray of its own, which nobody else can reach (`PrivateRay`); else as for ``ray.init``
        (``auto``, ``host:port``, ``ray://…``).
    workers : int | None
        Cores to use: of the local Ray, or at most of the cluster. All usable ones when None.
    run : str
        Id of the run, for its metrics; a cluster joined without one counts nothing.

    Attributes
    ----------
    slots : int
        Cases that can run at the same time; follows the nodes that come and go.
    node_memory_bytes : int
        Memory that the largest node has for tasks.
    in_flight : int
        Cases with workers at the moment.
    longest : tuple (str, float)
        What has been with a worker longest, and for how many seconds.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, run: str = "") -> None:
        self.address = address
        self.workers = workers
        self.slots = 0
        self.node_memory_bytes = 0
        self.in_flight = 0
        self.longest: tuple[str, float] = ("", 0.0)
        self.run = run
        self._own = False
        self._private = PrivateRay()
        self._gcs: tuple[str, int] | None = None
        self._raylet: str | None = None
        self._answered_s = self._checked_s = 0.0

    def __enter__(self) -> Cluster:
        prepare()
        for name, value in THREAD_VARIABLES.items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            self._found()
            return self
        self._own = True
        self._join()
        return self

    @property
    def local(self) -> bool:
        """Whether Ray is this run's own, on this machine."""
        return self.address in (None, "local")

    def _join(self) -> None:
        import ray

        if self.local:
            shorten_ray_folder()
        try:
            if self.local:
                with self._private.starting() as folder:
                    ray.init(
                        address="local",
                        _temp_dir=str(folder),
                        num_cpus=self.workers or usable_cores(),
                        object_store_memory=OBJECT_STORE_BYTES,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
            else:
                variables = {**RUN_VARIABLES, **THREAD_VARIABLES, **run_variables(self.run)}
                ray.init(
                    address=self.address,
                    runtime_env={"py_modules": package_folders(), "env_vars": variables},
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except Exception as error:  # Ray has no closed list: a node that is slow to start is a bare Exception
            ray.shutdown()
            self._private.leave()
            sentence = str(error).strip().splitlines()[0]
            raise ClusterError(
                f"Ray {self.address or 'local'}: cannot be joined or started ({sentence}); check --ray-address, or "
                "leave it out for a Ray on this machine"
            ) from error
        self._found()

    def _found(self) -> None:
        self._count()
        self._gcs, self._raylet = _endpoints(self.address)
        self._answered_s = self._checked_s = time.monotonic()

    def _count(self) -> None:
        """Cores of the cluster as it is now, and the most memory that one node can give to a case."""
        ray = _ray()
        self.slots = self._cores(ray.cluster_resources())
        alive = [node["Resources"] for node in ray.nodes() if node.get("Alive")]
        self.node_memory_bytes = int(max((node.get("memory", 0) for node in alive), default=0))

    def lost(self, at_once: bool = False) -> bool:
        """Whether the head has been silent for `SILENCE_S`, or the raylet that this process works through is gone.

        Looks at most every `CHECK_EVERY_S` unless ``at_once``; also takes note of nodes that have come or gone since.
        """
        now_s = time.monotonic()
        if not at_once and now_s - self._checked_s < CHECK_EVERY_S:
            return False
        self._checked_s = now_s
        if self._raylet is not None and not _raylet_answers(self._raylet):
            return True
        if self._gcs is not None and not _answers(self._gcs):
            return now_s - self._answered_s > SILENCE_S
        self._answered_s = now_s
        if not self.local:
            self._count()
        return False

    def rejoin(self, say: Callable[[str], None], on_wait: Callable[[], None] | None = None) -> None:
        """Leave a lost cluster and join the one that comes back at its address.

        Raises `ClusterError` for a local Ray, and where no head answers within `REJOIN_WAIT_S`.
        """
        import ray

        where = self.address or "local"
        patience_s = float(os.environ.get("LINEPRESS_HEAD_WAIT_S", REJOIN_WAIT_S))
        advice = "what was measured is recorded, give the same command again"
        gcs = self._gcs
        ray.shutdown()
        if self.local or gcs is None:
            raise ClusterError(f"Ray {where} went away; {advice}")
        say(f"warning: Ray's head at {where} went away; waiting up to {patience_s:.0f} s for it to come back")
        deadline_s = time.monotonic() + patience_s
        while True:
            if _answers(gcs):
                try:
                    self._join()
                except ClusterError:
                    if time.monotonic() > deadline_s:
                        raise
                else:
                    say(f"joined Ray at {where} again, {self.slots} cores")
                    return
            if time.monotonic() > deadline_s:
                raise ClusterError(f"Ray's head at {where} did not come back within {patience_s:.0f} s; {advice}")
            if on_wait is not None:
                on_wait()
            time.sleep(0.5)

    def __exit__(self, *_: object) -> None:
        if self._own:
            import ray

            ray.shutdown()
            self._private.leave()

    def _cores(self, resources: Mapping[str, Any]) -> int:
        cores = int(resources.get("CPU", 0))
        if cores < 1 and not self.local:
            return 1  # an autoscaler adds the first node when it sees a case waiting
        if cores < 1:
            raise ClusterError(f"Ray {self.address or 'local'}: offers no CPU; add a node or choose another address")
        return min(cores, self.workers) if self.workers else cores

    def describe(self) -> dict[str, Any]:
        """Address, nodes and cores, for the manifest."""
        nodes = [node for node in _ray().nodes() if node.get("Alive")]
        return {"address": self.address or "local", "nodes": len(nodes), "cores": self.slots}


def _ray() -> Any:
    """Ray, imported late; half of its interface has no types."""
    import ray

    return ray


def _endpoints(address: str | None) -> tuple[tuple[str, int] | None, str | None]:
    """Where the head listens, and the socket of the raylet below this process; None through a Ray client."""
    import ray

    if address is not None and address.startswith("ray://"):
        return None, None
    host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
    node = getattr(ray._private.worker.global_worker, "node", None)
    raylet = getattr(node, "raylet_socket_name", None)
    return (host.strip("[]"), int(port)), raylet


def _answers(where: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(where, timeout=CHECK_EVERY_S):
            return True
    except OSError:
        return False


def _raylet_answers(path: str) -> bool:
    """Whether somebody listens on the raylet's socket; only a plain refusal or a missing socket means no."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CHECK_EVERY_S)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True
