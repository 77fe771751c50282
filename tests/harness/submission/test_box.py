"""The jail against native code: what an exploit of a parser could call, called through libc in a worker's copy."""

from __future__ import annotations

import csv
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from linepress.submission.box import sandbox, seccomp
from linepress.submission.box.seccomp import restrict
from linepress.submission.fixtures import submission
from linepress.submission.submit import check_submission

PRELUDE = """
import ctypes, json, mmap, os, resource, signal, sys, time
from pathlib import Path
from linepress.submission.box import isolation, landlock, seccomp
libc = ctypes.CDLL(None, use_errno=True)
request = json.loads(sys.stdin.read())
cut = isolation.cut_off()
landlock.restrict(landlock.python_folders())
isolation.limit(768 << 20, 8 << 30, 20)
filtered = seccomp.restrict()
def call(act):
    "What came of a native call: its value, or the name of its error."
    import errno
    ctypes.set_errno(0)
    got = act()
    return errno.errorcode.get(ctypes.get_errno(), "?") if got == -1 else got
"""


def inside(code: str, **request: Any) -> dict[str, Any]:
    """The answer of ``code``, run where the checking process would run."""
    command = (sys.executable, "-I", "-c", PRELUDE + code)
    answer = sandbox.ask(request, 30, command)
    assert answer.document is not None, answer.reason + answer.stderr
    return answer.document


CALLS = {
    "a Unix socket": "libc.socket(1, 1, 0)",
    "an internet socket": "libc.socket(2, 1, 0)",
    "a pair of sockets": "libc.socketpair(1, 1, 0, (ctypes.c_int * 2)())",
    "fork": "libc.fork()",
    "vfork": "libc.syscall(58)",
    "clone of a process": "libc.syscall(56, 17, 0, 0, 0, 0)",
    "a session of its own": "libc.setsid()",
    "a group of its own": "libc.setpgid(0, 0)",
    "memory in a file": "libc.memfd_create(b'x', 0)",
    "another program": "libc.execve(b'/bin/true', None, None)",
    "shared memory": "libc.shmget(0, 4096, 0o1600)",
    "a trace": "libc.ptrace(16, os.getppid(), 0, 0)",
    "a signal": "libc.kill(1, 9)",
    "a name space": "libc.unshare(0x10000000)",
    "a mount": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
    "io_uring": "libc.syscall(425, 8, (ctypes.c_char * 120)())",
    "a file to write": "libc.open(b'/tmp/linepress-evil', 0o101, 0o600)",
    "a file to read and write": "libc.open(b'/dev/null', 2)",
    "a name taken away": "libc.unlink(b'/tmp/linepress-evil')",
}

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seccomp is Linux's")


@pytest.mark.threat("native code in the checking process")
@linux
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls are the machine's")
def test_native_code_gets_none_of_these() -> None:
    """All in one process: each must be refused, or the next would not be asked from where it should be."""
    code = f"said = {{what: call(lambda: eval(do)) for what, do in {CALLS!r}.items()}}\n"
    code += "print(json.dumps({'filtered': filtered, 'said': said}))"
    found = inside(code)
    assert found["filtered"], "this machine has no seccomp; the tests below have nothing to hold"
    assert found["said"] == dict.fromkeys(CALLS, "EPERM")


@pytest.mark.threat("native code in the checking process")
@linux
@pytest.mark.parametrize(
    "take",
    [
        "mmap.mmap(-1, 4 << 30)",
        "mmap.mmap(-1, 4 << 30, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)",
        "mmap.mmap(-1, 2 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
        "os.memfd_create('x')",
        "bytearray(1 << 30)",
    ],
)
def test_memory_beyond_the_limit_is_not_to_be_had(take: str) -> None:
    code = f"try: {take}; said = 'taken'\nexcept (OSError, MemoryError) as error: said = type(error).__name__\n"
    assert inside(code + "print(json.dumps({'said': said}))")["said"] != "taken"


@linux
def test_what_checking_needs_is_left() -> None:
    code = (
        "part = mmap.mmap(os.open(json.__file__, os.O_RDONLY), 0, access=mmap.ACCESS_READ)\n"
        "said = [bool(part[:10]), len(bytearray(100 << 20)), os.getpid() > 0]\n"
        "print(json.dumps({'said': said, 'cut': cut}))"
    )
    assert inside(code)["said"] == [True, 100 << 20, True]


@pytest.mark.threat("native code in the checking process")
@linux
def test_nothing_outlives_a_checking_process(tmp_path: Path) -> None:
    """A process that was started before the filter, in a session of its own, ends with the namespace."""
    beat = tmp_path / "beat"
    code = PRELUDE.partition("landlock.restrict(")[0] + (
        "if cut['processes'] != 'namespace': print('{\"no\": true}'); sys.exit(0)\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    for descriptor in (0, 1, 2): os.close(descriptor)\n"
        "    while True:\n"
        "        Path(request['beat']).write_text(str(time.monotonic()))\n"
        "        time.sleep(0.02)\n"
        "while not Path(request['beat']).exists(): time.sleep(0.01)\n"
        "print('{}')\n"
    )
    answer = sandbox.ask({"beat": str(beat)}, 30, (sys.executable, "-I", "-c", code))
    assert answer.document is not None, answer.reason + answer.stderr
    if answer.document.get("no"):
        pytest.skip("this system permits no namespace of processes; the verdict and /readyz say so")
    last = beat.read_text(encoding="ascii")
    time.sleep(0.3)
    assert beat.read_text(encoding="ascii") == last


@linux
def test_the_verdict_says_what_was_shut(tmp_path: Path) -> None:
    report = check_submission(submission(tmp_path))
    assert report.exit_code == 0
    assert report.isolation["seccomp"] is True
    reason = next(finding.reasons[0] for finding in report.findings if finding.rule == "S19")
    assert "system calls filtered" in reason


def test_a_machine_without_such_a_filter_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    assert restrict() is False


SYSCALLS = Path(__file__).parents[2] / "data" / "syscalls.csv"
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def numbers(machine: str) -> dict[str, int]:
    """The calls that ``machine`` has, by the kernel's own headers as they are kept beside the tests."""
    lines = [line for line in SYSCALLS.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    return {row["name"]: int(row[machine]) for row in csv.DictReader(lines) if row[machine] != "-"}


@pytest.mark.threat("native code in the checking process")
@pytest.mark.parametrize("machine", HEADERS)
def test_the_filter_has_the_numbers_of_the_machine_and_leaves_out_no_call_that_it_has(machine: str) -> None:
    _, own, calls = seccomp._MACHINES[machine]
    assert {**seccomp._COMMON, **calls, "seccomp": own} == numbers(machine)


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_beside_the_tests_are_those_of_the_headers(machine: str) -> None:
    if not HEADERS[machine].is_file():
        pytest.skip("the kernel's headers are not on this machine (linux-libc-dev)")
    said = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text(encoding="utf-8"))
    known = {name: int(number) for name, number in said}
    names = {line.partition(",")[0] for line in SYSCALLS.read_text(encoding="ascii").splitlines()[3:]}
    assert {name: known[name] for name in names & known.keys()} == numbers(machine)
