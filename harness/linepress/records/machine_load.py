"""What the driver's machine did during a run: processor, memory, disk, network, sampled into ``machine_load.json``.

Names and units are those of MLflow's own system metrics (``mlflow.system_metrics``), whose monitor needs psutil and a
run that is open while the work goes on; here the record comes first, and the mirror sends what it holds. Figures come
from ``/proc`` and are of the whole machine. On a system without it there are none.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from linepress.records.files import RecordWriteError, write_atomically

FILE = "machine_load.json"
EVERY_S = 10.0
"""As MLflow samples."""
MOST_SAMPLES = 500
"""Beyond it every second sample goes and the interval doubles: a run of days is a few hundred points."""
_MB = 1e6


class MachineLoad:
    """Samples of one run; those of an earlier session are kept before them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._samples = samples_of(folder)
        self._every_s = EVERY_S
        self._last_s = time.monotonic()
        self._start = self._before = _counters()

    def tick(self, at_once: bool = False) -> None:
        """Take a sample if it is time to."""
        now_s = time.monotonic()
        if not at_once and now_s - self._last_s < self._every_s:
            return
        before, self._before, self._last_s = self._before, _counters(), now_s
        if not self._before:
            return
        busy, idle = (self._before[name] - before.get(name, 0.0) for name in ("busy", "idle"))
        received, sent = (self._before[name] - self._start.get(name, 0.0) for name in ("received", "sent"))
        found = {
            "cpu_utilization_percentage": 100 * busy / (busy + idle) if busy + idle > 0 else 0.0,
            "network_receive_megabytes": received / _MB,
            "network_transmit_megabytes": sent / _MB,
            **_levels(self._folder),
        }
        self._samples.append({"at_ms": int(1000 * time.time()), **{k: float(f"{v:.4g}") for k, v in found.items()}})
        if len(self._samples) > MOST_SAMPLES:
            self._samples = self._samples[::2]
            self._every_s *= 2

    def save(self) -> None:
        """Take a last sample and write the file; a disk that is full costs the figures, not the run."""
        self.tick(at_once=True)
        try:
            write_atomically(self._folder / FILE, json.dumps(self._samples).encode() + b"\n")
        except RecordWriteError:
            return


def samples_of(folder: Path) -> list[dict[str, Any]]:
    """Samples in a run folder, oldest first: ``at_ms`` since 1970 and the figures by name; none without a file."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return [
            {str(name): float(value) for name, value in one.items()} | {"at_ms": int(one["at_ms"])} for one in found
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []


def _counters() -> dict[str, float]:
    """Ticks of all cores and bytes of all network devices since the machine started; empty without ``/proc``."""
    try:
        ticks = [float(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        devices = [line.split(":")[1].split() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    except (OSError, ValueError, IndexError):
        return {}
    idle = sum(ticks[3:5])
    return {
        "busy": sum(ticks) - idle,
        "idle": idle,
        "received": sum(float(fields[0]) for fields in devices),
        "sent": sum(float(fields[8]) for fields in devices),
    }


def _levels(folder: Path) -> dict[str, float]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    memory = {fields[0].rstrip(":"): 1024 * float(fields[1]) for fields in lines if len(fields) > 1}
    used = memory["MemTotal"] - memory.get("MemAvailable", memory["MemFree"])
    disk = shutil.disk_usage(folder)
    return {
        "system_memory_usage_megabytes": used / _MB,
        "system_memory_usage_percentage": 100 * used / memory["MemTotal"],
        "disk_usage_megabytes": disk.used / _MB,
        "disk_available_megabytes": disk.free / _MB,
        "disk_usage_percentage": 100 * disk.used / disk.total,
    }
