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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CLUSTERS_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
LONGEST_FOLDER = 40
"""Ray puts about 65 characters behind it, and the path of a socket has at most 107 (unix(7))."""


class PrivateRay:
    """What a local Ray needs in the environment of this process, from `enter` to `leave`."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}
        self.folder: Path | None = None

    def enter(self) -> Path:
        """Set token and loopback for the Ray that is started next; the folder for its sockets and logs."""
        self._set(
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), CLUSTERS_VARIABLE: "0"},
            clusters=False,
        )
        base = tempfile.gettempdir()
        self.folder = Path(tempfile.mkdtemp(prefix="lpray-", dir=base if len(base) <= LONGEST_FOLDER else "/tmp"))
        return self.folder / "r"  # Ray opens its own folder to everybody; nobody gets through the one above it

    def leave(self) -> None:
        """Put the environment back and remove the folder; nothing when it was not entered."""
        if self.folder is not None:
            self._set(self._before, clusters=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _set(self, values: Mapping[str, str | None], clusters: bool) -> None:
        self._before = {name: os.environ.get(name) for name in values}
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        from ray import _raylet
        from ray._private import ray_constants

        raylet: Any = _raylet
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        # Ray keeps mode and token from the first time that it looked.
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
