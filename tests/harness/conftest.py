"""One local Ray and one object store for every test that needs them, ended with the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from linepress import environment
from linepress.cluster.join import Cluster
from linepress_kit.object_store import s3_server


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    environment.prepare()
    with Cluster(workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def object_store() -> Iterator[int]:
    """Port of an S3-compatible server."""
    with s3_server() as port:
        yield port
