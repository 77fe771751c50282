"""A Ray of a run's own that nobody else can reach: loopback only, a token of its own, a folder of its own.

Ray binds every port of a node to loopback when the node's address is loopback, and takes that address only where its
clusters are off (``ray_constants.ENABLE_RAY_CLUSTER``, read when Ray is imported). Whoever connects must show the
token, also through loopback; sockets and logs lie in a folder of this user's, since other users could else connect
to the sockets below ``/tmp/ray``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLUSTERS_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
LONGEST_FOLDER = 40
"""Ray puts about 65 characters behind it, and the path of a socket has at most 107 (unix(7))."""


class PrivateRay:
    """What a local Ray needs of this process: in its environment while it starts, in Ray's memory until it ends.

    Attributes
    ----------
    token : str
        Of this Ray; empty while there is none.
    folder : Path | None
        Of its sockets and logs.
    """

    def __init__(self) -> None:
        self.token = ""
        self.folder: Path | None = None

    @contextmanager
    def starting(self) -> Iterator[Path]:
        """While Ray is started: token and loopback are set, for it and what it starts; the folder for it.

        The environment is put back afterwards, since a program that this process starts is none of Ray's.
        """
        self.token = secrets.token_hex(32)
        base = tempfile.gettempdir()
        self.folder = Path(tempfile.mkdtemp(prefix="lpray-", dir=base if len(base) <= LONGEST_FOLDER else "/tmp"))
        wanted = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, CLUSTERS_VARIABLE: "0"}
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        _look_again(clusters=False)
        try:
            yield self.folder / "r"  # Ray opens its own folder to everybody; nobody gets through the one above it
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def leave(self) -> None:
        """Forget the token and remove the folder; nothing when there is none."""
        if self.folder is not None:
            _look_again(clusters=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder, self.token = None, ""


def _look_again(clusters: bool) -> None:
    """Have Ray read the environment anew: it keeps mode and token from the first time that it looked."""
    from ray import _raylet
    from ray._private import ray_constants

    raylet: Any = _raylet
    ray_constants.ENABLE_RAY_CLUSTER = clusters
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
