"""A linepress verb that ends with the process that asked for it: ``python -m linepress.cli.tied PID VERB …``.

A service that is killed cannot stop what it started; Linux can (prctl(2), PR_SET_PDEATHSIG). SIGTERM lets a run close
its record, so the next service resumes it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie_to(parent: int) -> None:
    """Have SIGTERM sent to this process when ``parent`` dies; exits at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    tie_to(int(sys.argv[1]))
    sys.argv = ["linepress", *sys.argv[2:]]
    from linepress.cli.app import main

    main()
