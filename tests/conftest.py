"""How the suite is shared out over test processes (``make test`` starts two).

A file stays in one process, because its fixtures are made once a file. What starts Ray stays in one process as well:
the fault tests own the loopback nodes 127.0.0.2 and 127.0.0.3, and a second Ray on two cores would starve them. That
group is the longest one, so it is handed out first.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import pytest

# What the user's cache remembers must neither help a test nor be touched by one.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="linepress-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
# Ray starts its workers at niceness 15, where a busy neighbour leaves them 3 % of a core and tests run into limits.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (the name as Ray reads it)

RAY_FIXTURES = {"ray_cluster", "loopback"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files_with_ray = {item.path for item in items if RAY_FIXTURES & set(getattr(item, "fixturenames", ()))}
    # Those that start drivers of their own start Ray as well: two at a time on two cores take each other's time.
    files_with_ray |= {item.path for item in items if item.path.parent.name == "faults"}
    for item in items:
        group = "ray" if item.path in files_with_ray else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.path not in files_with_ray)


def pytest_collection_finish(session: pytest.Session) -> None:
    """A pytest whose xdist forgets the groups starts two Rays on the same addresses: say so, not fail at random."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest loses the groups of pytest-xdist; install those of constraints.txt")
