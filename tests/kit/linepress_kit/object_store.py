"""An S3-compatible server on loopback, and a bucket of one's own behind a proxy that can cut it off."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pyarrow.fs as fs

from linepress_kit.loopback import free_port
from linepress_kit.proxy import CuttingProxy

START_LIMIT_S = 60.0
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
    """Port of a moto server that ends with the context."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MOTO_CALL_RESET_API": "false"},
    )
    try:
        deadline_s = time.monotonic() + START_LIMIT_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"the S3 server on port {port} did not start within {START_LIMIT_S:g} s")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def bucket(server: int, name: str) -> Iterator[CuttingProxy]:
    """A new bucket behind a proxy; the caller's environment must lead there, see `environment`."""
    with CuttingProxy(("127.0.0.1", server)) as proxy:
        remote = fs.S3FileSystem(
            access_key="test",
            secret_key="test",
            region="us-east-1",
            endpoint_override=f"127.0.0.1:{proxy.port}",
            scheme="http",
            allow_bucket_creation=True,
            allow_bucket_deletion=True,
        )
        remote.create_dir(name)
        yield proxy
        proxy.budget_bytes = None
        remote.delete_dir(name)


def environment(proxy: CuttingProxy) -> dict[str, str]:
    """Environment variables by which every client of a store finds the proxy."""
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
