"""Run every benchmark module in turn: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from pathlib import Path


def names() -> list[str]:
    """Modules of this folder, each with a ``main``; helpers start with an underscore or lie in ``tools/``."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_"))


def main(argv: list[str]) -> int:
    """Run the named benchmarks (all without names); 1 if any of them failed, 4 for an unknown name."""
    known = names()
    unknown = sorted(set(argv) - set(known))
    if unknown:
        sys.stderr.write(f"no benchmark {', '.join(unknown)}: there are {', '.join(known)}\n")
        return 4
    failed = []
    for name in argv or known:
        sys.stderr.write(f"== benchmarks.{name}\n")
        start = time.perf_counter()
        code = importlib.import_module(f"benchmarks.{name}").main([])
        sys.stderr.write(f"== benchmarks.{name} took {time.perf_counter() - start:.1f} s, exit {code or 0}\n")
        if code:
            failed.append(name)
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
