"""A local run's Ray: no socket of it can be reached from beyond loopback, and loopback alone is not enough."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from linepress.cluster.join import Cluster, ClusterError

LISTENING = "0A"
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def family(pid: int) -> set[int]:
    """``pid`` and every process below it."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            below.setdefault(int(fields[1]), []).append(int(entry.name))
    found, left = {pid}, [pid]
    while left:
        children = below.get(left.pop(), [])
        found.update(children)
        left += children
    return found


def listening_of(pids: set[int]) -> dict[str, str]:
    """Inode -> local address (hex, as the kernel writes it) of the listening TCP sockets that ``pids`` hold."""
    known = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING:
                known[fields[9]] = fields[1].partition(":")[0]
    held = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inode = str(entry.readlink()).removeprefix("socket:[").removesuffix("]")
                    held.update({inode: known[inode]} if inode in known else {})
    return held


@pytest.mark.threat("code that joins a run from this machine or another")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")
def test_no_socket_of_a_local_run_is_reachable_from_elsewhere(ray_cluster: Cluster) -> None:
    import ray

    assert ray.get(ray.remote(lambda: os.getpid()).remote())  # a worker is there and listens too
    held = listening_of(family(os.getpid()))
    assert len(held) >= 4, "the processes of Ray were not found, so the test shows nothing"
    assert set(held.values()) <= LOOPBACK


@pytest.mark.threat("code that joins a run from this machine or another")
@pytest.mark.skipif(sys.platform != "linux", reason="Unix sockets by path")
def test_sockets_of_a_local_run_lie_in_a_folder_of_this_user(ray_cluster: Cluster) -> None:
    folder = ray_cluster._private.folder
    assert folder is not None
    assert folder.stat().st_mode & 0o077 == 0
    assert list(folder.rglob("plasma_store"))


PROBE = """
import os, sys
from ray._raylet import GcsClient
try:
    print("in", GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, 3), flush=True)
except Exception as error:
    print("out", type(error).__name__, flush=True)
os._exit(0)
"""


@pytest.mark.threat("code that joins a run from this machine or another")
@pytest.mark.parametrize(("token", "said"), [(None, "out"), ("0" * 64, "out"), ("the run's own", "in")])
def test_a_stranger_on_this_machine_needs_the_token_of_the_run(
    token: str | None, said: str, ray_cluster: Cluster
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    mode = {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    if said == "in":
        mode["RAY_AUTH_TOKEN"] = ray_cluster._private.token
        assert "RAY_AUTH_TOKEN" not in os.environ, "a program that this process starts would inherit it"
    command = [sys.executable, "-c", PROBE, address]
    try:
        done = subprocess.run(command, env={**plain, **mode}, capture_output=True, text=True, timeout=4, check=False)
        heard = done.stdout
    except subprocess.TimeoutExpired:
        heard = "out: asks again and again, and is never answered"
    assert heard.startswith(said), heard


@pytest.mark.slow  # starts Ray twice more: only so does it show that the first token is forgotten
def test_each_run_has_a_token_of_its_own_and_leaves_none_behind(ray_cluster: Cluster) -> None:
    """Two private Rays one after the other in a process of their own; the second must not need the first's token."""
    code = (
        "import os, ray\n"
        "from linepress.cluster.join import Cluster\n"
        "tokens = []\n"
        "for _ in range(2):\n"
        "    with Cluster(workers=1) as cluster:\n"
        "        tokens.append(ray.get(ray.remote(lambda: os.environ['RAY_AUTH_TOKEN']).remote()))\n"
        "    assert 'RAY_AUTH_TOKEN' not in os.environ and cluster._private.folder is None\n"
        "assert len(set(tokens)) == 2 and all(len(token) == 64 for token in tokens)\n"
        "print('well')\n"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=plain, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "well", done.stderr[-2000:]


def test_a_port_can_be_opened_at_all() -> None:
    """What the tests above rely on: a socket on every interface is seen as one."""
    with socket.create_server(("0.0.0.0", 0)):
        assert "00000000" in listening_of({os.getpid()}).values()


def test_a_ray_that_does_not_start_is_one_sentence_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nmore")

    # The session's Ray is at work in this process, and must go on with its own token.
    monkeypatch.setattr("linepress.cluster.private._look_again", lambda clusters: None)
    monkeypatch.setattr(ray, "init", slow)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    cluster = Cluster(workers=1)
    with pytest.raises(
        ClusterError, match=r"cannot be joined or started \(The current node timed out during startup"
    ):
        cluster.__enter__()
    assert (cluster._private.folder, cluster._private.token) == (None, "")
