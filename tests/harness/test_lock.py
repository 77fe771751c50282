"""requirements.lock is what constraints.txt pins, with a hash for each."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
lock = pytest.importorskip("benchmarks.tools.lock")


def test_the_lock_is_what_is_pinned() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert lock.problems(text, (ROOT / "constraints.txt").read_text(encoding="utf-8")) == []
    named = lock.pins(text)
    for name in ("ray", "mlflow", "cryptography", "alembic", "prometheus-client", "cyclonedx-python-lib", "in-toto"):
        assert name in named


def test_what_differs_is_said() -> None:
    good = "a==1 \\\n    --hash=sha256:00\nb==2 \\\n    --hash=sha256:00\n"
    assert lock.problems(good, "a==1\nB==2\n") == []
    assert lock.problems(good, "a==1\nb==3\n") == ["b==2 is locked, constraints.txt has 3"]
    assert lock.problems("a==1\n", "a==1\n") == ["a==1 has no hash"]
