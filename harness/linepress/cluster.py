"""The Ray cluster of a run: a local one unless an address is given, started late and ended with the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linepress.environment import RUN_VARIABLES, THREAD_VARIABLES, prepare, usable_cores
from linepress.errors import EXIT_CASES_FAILED, LinepressError

OBJECT_STORE_BYTES = 128 << 20
"""Shared memory of a local Ray: rows are small and no tensor travels, so this is generous."""


class ClusterError(LinepressError):
    """A cluster that cannot be started, reached, or that went away."""

    exit_code = EXIT_CASES_FAILED


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
        ``None`` starts a local Ray of its own; else as for ``ray.init`` (``auto``, ``host:port``, ``ray://…``).
    workers : int | None
        Cores to use: of the local Ray, or at most of the cluster. All usable ones when None.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address = address
        self.workers = workers
        self.slots = 0
        self._own = False

    def __enter__(self) -> Cluster:
        prepare()
        for name, value in THREAD_VARIABLES.items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            self.slots = self._cores(ray.cluster_resources())
            return self
        try:
            if self.address in (None, "local"):
                ray.init(
                    address="local",
                    num_cpus=self.workers or usable_cores(),
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="error",
                )
            else:
                ray.init(
                    address=self.address,
                    runtime_env={"py_modules": package_folders(), "env_vars": {**RUN_VARIABLES, **THREAD_VARIABLES}},
                    log_to_driver=False,
                    logging_level="error",
                )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            sentence = str(error).strip().splitlines()[0]
            raise ClusterError(
                f"Ray {self.address or 'local'}: cannot be joined or started ({sentence}); check --ray-address, or "
                "leave it out for a Ray on this machine"
            ) from error
        self._own = True
        self.slots = self._cores(ray.cluster_resources())
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            import ray

            ray.shutdown()

    def _cores(self, resources: Mapping[str, Any]) -> int:
        cores = int(resources.get("CPU", 0))
        if cores < 1:
            raise ClusterError(f"Ray {self.address or 'local'}: offers no CPU; add a node or choose another address")
        return min(cores, self.workers) if self.workers else cores

    def describe(self) -> dict[str, Any]:
        """Address, nodes and cores, for the manifest."""
        import ray

        nodes = [node for node in ray.nodes() if node.get("Alive")]
        return {"address": self.address or "local", "nodes": len(nodes), "cores": self.slots}
