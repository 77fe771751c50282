"""Two Ray nodes on one machine, 127.0.0.2 and 127.0.0.3, with real processes that can be killed one node at a time.

Every process of a node carries a mark in its environment, which its children inherit, so that a node is ended by the
ids of its own processes and nothing else on the machine is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType

from linepress.environment import RUN_VARIABLES, THREAD_VARIABLES

MARK = "LINEPRESS_LOOPBACK_NODE"
HEAD_IP, WORKER_IP = "127.0.0.2", "127.0.0.3"
OBJECT_STORE_BYTES = 80_000_000
START_LIMIT_S = 90.0
# A lost node is noticed within about 2 s instead of about 16 s, and a worker's metrics are out before it ends.
FAST_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_metrics_report_interval_ms": "500",
}


class LoopbackError(RuntimeError):
    """A node that did not start or did not end."""


def free_port(ip: str = "127.0.0.1") -> int:
    """A TCP port of ``ip`` that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((ip, 0))
        return int(probe.getsockname()[1])


def marked_processes(mark: str) -> list[int]:
    """Ids of the processes whose environment carries ``mark`` (a node's own and all their children)."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


class Node:
    """One Ray node; started by `start`, killed without warning by `kill`."""

    def __init__(self, ip: str, port: int, cores: int, head: bool) -> None:
        self.ip = ip
        self.port = port
        self.cores = cores
        self.head = head
        self.metrics_port = 0
        self.mark = ""
        self._folder = Path()

    @property
    def alive(self) -> bool:
        """Whether any of its processes is left."""
        return bool(self.mark) and bool(marked_processes(self.mark))

    def start(self) -> None:
        """Start the node and wait until it has joined; raises `LoopbackError` with Ray's last words."""
        self.mark = uuid.uuid4().hex
        self._folder = Path(tempfile.mkdtemp(prefix="lp-node-", dir="/tmp"))  # socket paths have 107 characters
        command = [str(Path(sys.executable).with_name("ray")), "start", f"--node-ip-address={self.ip}"]
        if self.head:
            command += ["--head", f"--port={self.port}", "--include-dashboard=false"]
            command += [f"--ray-client-server-port={free_port(self.ip)}", f"--temp-dir={self._folder}"]
        else:
            command += [f"--address={HEAD_IP}:{self.port}", f"--temp-dir={self._folder}"]
        # The defaults are the same for both nodes, and the second agent to come would end.
        self.metrics_port = free_port(self.ip)
        command += [
            f"--metrics-export-port={self.metrics_port}",
            f"--dashboard-agent-listen-port={free_port(self.ip)}",
            f"--num-cpus={self.cores}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            "--disable-usage-stats",
        ]
        variables = {**os.environ, **RUN_VARIABLES, **THREAD_VARIABLES, **FAST_HEALTH_CHECKS, MARK: self.mark}
        variables.pop("RAY_ADDRESS", None)
        log = self._folder / "start.log"
        with log.open("wb") as out:
            try:
                done = subprocess.run(
                    command,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    timeout=START_LIMIT_S,
                    check=False,
                )
                code: int | None = done.returncode
            except subprocess.TimeoutExpired:
                code = None
        if code != 0:
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            self.kill()
            raise LoopbackError(f"node {self.ip} did not start (exit {code}): {said}")

    def workers(self) -> list[int]:
        """Ids of its worker processes that are running a task."""
        found = []
        for pid in marked_processes(self.mark):
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                if title.startswith(("ray::run_group", "ray::run_step")):
                    found.append(pid)
        return found

    def kill(self) -> None:
        """SIGKILL to every process of the node, until none is left."""
        if not self.mark:
            return
        deadline_s = time.monotonic() + 20
        while left := marked_processes(self.mark):
            if time.monotonic() > deadline_s:
                raise LoopbackError(f"node {self.ip}: processes {left} do not end")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.mark = ""
        shutil.rmtree(self._folder, ignore_errors=True)


class Loopback:
    """A head and a worker node of one core each; a context that leaves no process behind."""

    def __init__(self, cores: int = 1) -> None:
        self.port = free_port(HEAD_IP)
        self.head = Node(HEAD_IP, self.port, cores, head=True)
        self.worker = Node(WORKER_IP, self.port, cores, head=False)

    @property
    def address(self) -> str:
        """For ``--ray-address``."""
        return f"{HEAD_IP}:{self.port}"

    @property
    def nodes(self) -> tuple[Node, Node]:
        return (self.head, self.worker)

    def ensure(self, worker: bool = True) -> None:
        """Bring back what a test has killed, the worker node only if asked; a lost head takes that one with it."""
        if not self.head.alive:
            self.worker.kill()
            self.head.start()
        if worker and not self.worker.alive:
            self.worker.start()

    def __enter__(self) -> Loopback:
        try:
            self.ensure()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.worker.kill()
        self.head.kill()
