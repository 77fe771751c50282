"""The jail of a validation run, entered by a process that then tries what a partner's tensor must not make it do."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from linepress.intake.work import group, jail
from linepress.submission.box import landlock

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the doors are Linux's")
PRELUDE = """
import json, os, socket, subprocess, sys
from pathlib import Path
from linepress.intake.work import jail
asked = json.loads(sys.argv[1])
found = jail.enter(Path(asked["work"]), Path(asked["temporary"]), asked["network"])
def attempt(act):
    try: act()
    except (OSError, subprocess.CalledProcessError): return "refused"
    return "done"
"""


def inside(code: str, **asked: Any) -> dict[str, Any]:
    command = [sys.executable, "-P", "-c", f"{PRELUDE}print(json.dumps({code}))", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def place(tmp_path: Path) -> dict[str, Any]:
    for name in ("work/mine", "temporary", "data/work/other"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("data/signing-key.pem", "data/intake.db", "data/work/other/weights"):
        (tmp_path / name).write_text("secret", encoding="utf-8")
    return {"work": str(tmp_path / "work"), "temporary": str(tmp_path / "temporary"), "network": False}


@pytest.mark.threat("a run that reaches for the key, other partners or the network")
def test_a_run_sees_its_own_folder_and_no_other(place: dict[str, Any], tmp_path: Path) -> None:
    if not landlock.abi():
        pytest.skip("this kernel has no Landlock; /readyz says so")
    data = tmp_path / "data"
    tries = {
        "key": f"Path('{data}/signing-key.pem').read_text()",
        "database": f"Path('{data}/intake.db').read_text()",
        "another partner": f"Path('{data}/work/other/weights').read_text()",
        "the list of partners": f"os.listdir('{data}/work')",
        "by its parent": f"Path('/proc/{os.getpid()}/environ').read_bytes()",
        "by its parent's root": f"Path('/proc/{os.getpid()}/root{data}/signing-key.pem').read_text()",
        "a trace beside it": f"Path('{data}/x').write_text('x')",
        "the package": f"Path('{Path(jail.__file__).parent}/x.py').write_text('x')",
        "a program": f"subprocess.run(['cat', '{data}/signing-key.pem'], check=True)",
    }
    mine = {
        "its folder": f"Path('{place['work']}/mine/a').write_text('x')",
        "a temporary file": f"Path('{place['temporary']}/a').write_text('x')",
        "another program": "subprocess.run(['true'], check=True)",
    }
    said = ", ".join(f"{what!r}: attempt(lambda: {act})" for what, act in {**tries, **mine}.items())
    said = said.replace("check=True)", "check=True, capture_output=True)")
    assert inside("{" + said + "}", **place) == {**dict.fromkeys(tries, "refused"), **dict.fromkeys(mine, "done")}


@pytest.mark.threat("a run that reaches for the key, other partners or the network")
def test_a_run_has_no_network_but_its_own(place: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        own = "socket.create_server(('127.0.0.1', 0))"
        code = (
            f"{{'how': found['network'], 'ours': attempt(lambda: socket.create_connection(('127.0.0.1', {port}), 2)),"
            f" 'own': attempt(lambda: [one := {own}, socket.create_connection(one.getsockname(), 2)])}}"
        )
        found = inside(code, **place)
        if not found["how"]:
            pytest.skip("this system permits no network namespace; /readyz says so")
        assert found["ours"] == "refused"
        assert found["own"] == "done", "Ray needs a loopback"
        kept = inside(code, **{**place, "network": True})
        assert (kept["how"], kept["ours"]) == ("kept", "done")


def test_the_kernels_of_a_run_are_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    (shared / "x").mkdir(parents=True)
    (shared / "x" / "k.nbi").write_bytes(b"index")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(shared))
    jail.copy_kernels(tmp_path / "own")
    (tmp_path / "own" / "x" / "k.nbi").write_bytes(b"broken")
    assert (shared / "x" / "k.nbi").read_bytes() == b"index"


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The files that a service with delegated cgroup v2 sees, without a kernel behind them."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    for name, handed in (("", "cpu memory"), ("unit", "memory"), ("unit/service", "")):
        (root / name).mkdir()
        (root / name / "cgroup.subtree_control").write_text(handed, encoding="ascii")
        (root / name / "cgroup.procs").touch()
    own.write_text("12:memory:/elsewhere\n0::/unit/service\n", encoding="ascii")
    monkeypatch.setattr(group, "END_S", 0.01)  # a folder with files in it does not go away as a group does
    return {"root": root, "own": own}


@pytest.mark.threat("a run that takes all memory")
def test_a_group_has_the_limit_and_takes_who_enters(hierarchy: dict[str, Path]) -> None:
    assert group.place(**hierarchy) == hierarchy["root"] / "unit"
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with group.limited(1 << 30, **hierarchy) as together:
        assert together is not None
        assert together.parent == hierarchy["root"] / "unit"
        assert (together / "memory.max").read_text() == str(1 << 30)
        assert (together / "memory.swap.max").read_text() == "0"
        assert (together / "memory.oom.group").read_text() == "1"
        assert group.enter(together, 1 << 30) == "cgroup"
        assert (together / "cgroup.procs").read_text() == str(os.getpid())
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
        assert not group.overran(together)
        (together / "memory.events").write_text("low 0\nmax 31\noom 1\noom_kill 0\n", encoding="ascii")
        assert not group.overran(together)
        (together / "memory.events").write_text("low 0\nmax 31\noom 1\noom_kill 7\n", encoding="ascii")
        assert group.overran(together)
    assert (together / "cgroup.kill").read_text() == "1"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("own", "4:memory:/a\n"),  # v1 alone
        ("own", "0::/unit/service/below\n"),  # neither it nor what is around it hands memory down
        ("root/unit/cgroup.subtree_control", "cpu pids"),
    ],
)
def test_without_delegated_cgroups_there_is_no_group(file: str, text: str, hierarchy: dict[str, Path]) -> None:
    first, _, rest = file.partition("/")
    (hierarchy[first] / rest if rest else hierarchy[first]).write_text(text, encoding="ascii")
    assert group.place(**hierarchy) is None
    with group.limited(1 << 30, **hierarchy) as together:
        assert together is None
        assert not group.overran(together)


ENTER = """
import subprocess, sys
from pathlib import Path
from linepress.intake.work import group
how = group.enter(Path(sys.argv[1]) if sys.argv[1] else None, int(sys.argv[2]))
take = "x = bytearray(%d); print('taken', flush=True); import time; time.sleep(1)" % int(sys.argv[3])
words, pipe = [sys.executable, "-c", take], subprocess.PIPE
children = [subprocess.Popen(words, stdout=pipe, stderr=pipe) for _ in "ab"]
said = [child.communicate()[0].decode().strip() for child in children]
print(how, said)
"""


@pytest.mark.threat("a run that takes all memory")
def test_without_a_group_every_process_has_the_limit_for_itself() -> None:
    def started(n_bytes: int) -> str:
        command = [sys.executable, "-c", ENTER, "", str(256 << 20), str(n_bytes)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    assert started(300 << 20) == "each process alone ['', '']"
    assert started(100 << 20) == "each process alone ['taken', 'taken']"


@pytest.mark.threat("a run that takes all memory")
def test_processes_of_a_group_have_the_limit_together() -> None:
    if group.place() is None:
        pytest.skip("no cgroup v2 with memory is delegated to this process; /readyz says so")
    with group.limited(256 << 20) as together:
        command = [sys.executable, "-c", ENTER, str(together), str(256 << 20), str(200 << 20)]
        subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert group.overran(together)
    assert together is not None
    assert not together.exists()
