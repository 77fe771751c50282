"""One local Ray for every test that needs workers, ended with the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from linepress import environment
from linepress.cluster import Cluster


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    environment.prepare()
    with Cluster(workers=2) as cluster:
        yield cluster
