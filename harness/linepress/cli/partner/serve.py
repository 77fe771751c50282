"""``linepress serve``: the intake service."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import json_option, print_json, stderr

if TYPE_CHECKING:
    from types import FrameType

    from linepress.intake.http.observe import Readiness
    from linepress.intake.settings import Settings

EPILOG = """\b
Examples:
  linepress partners add acme --contact lab@acme.example --data intake
  linepress serve --data intake
  linepress serve --data intake --behind-tls intake.example.com --suite smoke --suite suites/partners.yaml
  linepress serve --data intake --database postgresql+psycopg://linepress@db/intake --no-runner
  linepress serve --data intake --set keep_files_s=604800 --set run_timeout_s=3600

It listens on this machine only; put a proxy with TLS before it (deploy/intake.md).
Exit codes: 0 stopped, 4 usage.
"""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PORT = 8321


@click.command(name="serve", epilog=EPILOG)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=Path("intake"), show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one.")
@click.option("--database", envvar="LINEPRESS_DATABASE", default="", help="SQLAlchemy URL; SQLite in --data else.")
@click.option("--suite", "suites", multiple=True, metavar="NAME|FILE", help="A suite on offer; smoke by default.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Cores of a run.")
@click.option("--ray-address", metavar="A", help="Cluster that runs join; a local one else.")
@click.option("--behind-tls", "tls_hosts", multiple=True, metavar="HOST", help="Name partners use, TLS by a proxy.")
@click.option("--trust-proxy", metavar="ADDR", default="", help="Proxy whose X-Forwarded-For is believed.")
@click.option("--plain-http", is_flag=True, help="Listen beyond this machine without TLS: tokens can be read.")
@click.option("--no-runner", is_flag=True, help="Take submissions only; a runner works elsewhere.")
@click.option("--runner-only", is_flag=True, help="Work on submissions only; no HTTP.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any other setting.")
@json_option
def command(
    data: Path,
    host: str,
    port: int,
    database: str,
    suites: tuple[str, ...],
    workers: int,
    ray_address: str | None,
    tls_hosts: tuple[str, ...],
    trust_proxy: str,
    plain_http: bool,
    no_runner: bool,
    runner_only: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> int:
    """Take submissions of partners over HTTP, check and validate them, show the verdicts.

    Partners and tokens are added on this machine with `linepress partners`; a new --data folder has none.
    """
    from linepress.intake.settings import IntakeError

    if host not in LOOPBACK and not plain_http:
        raise IntakeError(
            f"--host {host}: would take tokens without TLS; listen on 127.0.0.1 behind a proxy, or add --plain-http"
        )
    if no_runner and runner_only:
        raise click.UsageError("--no-runner and --runner-only leave nothing to do; give one")
    values: dict[str, Any] = {
        "data": data,
        "database_url": database,
        "workers": workers,
        "ray_address": ray_address,
        "secure_cookies": bool(tls_hosts),
        "allowed_hosts": (*LOOPBACK, *([host] if plain_http else []), *tls_hosts),
    }
    settings = settings_of({**values, **({"suites": suites} if suites else {})}, overrides)
    if runner_only:
        return _run_only(settings)
    return _serve(settings, host, port, trust_proxy, not no_runner, as_json)


def settings_of(values: dict[str, Any], overrides: tuple[str, ...]) -> Settings:
    """Settings from options and ``--set``; raises `IntakeError` naming the setting."""
    from pydantic import ValidationError

    from linepress.intake.settings import IntakeError, Settings
    from linepress.suite.yaml12 import parse_yaml

    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or key not in Settings.model_fields:
            known = ", ".join(Settings.model_fields)
            raise IntakeError(f"--set {override}: write KEY=VALUE, with one of {known}")
        values[key] = parse_yaml(text, Path(f"--set {key}"), IntakeError).data
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise IntakeError(f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}; see --help") from None


def _serve(settings: Settings, host: str, port: int, trust_proxy: str, with_runner: bool, as_json: bool) -> int:
    import contextlib

    import uvicorn

    from linepress.intake.http.app import build_app
    from linepress.intake.http.connections import limited
    from linepress.intake.http.observe import log_as_json
    from linepress.intake.store.partners import count_partners
    from linepress.intake.work.supervisor import Supervisor

    log_as_json()
    app = build_app(settings, with_runner)
    with app.state.service.db.read() as conn:
        if not count_partners(conn):
            stderr().print("no partner yet; add one: linepress partners add NAME --contact ADDRESS", markup=False)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            http=limited(settings.header_s, settings.connections, tuple(filter(None, trust_proxy.split(",")))),
            log_level="warning",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trust_proxy),
            forwarded_allow_ips=trust_proxy or None,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=64 << 10,
            limit_concurrency=2048,
            backlog=2048,
        )
        supervisor = Supervisor(settings)

        class Server(uvicorn.Server):
            """Tells the runner of the end as soon as the service hears of it."""

            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                supervisor.stop_soon()
                super().handle_exit(sig, frame)

        with supervisor if with_runner else contextlib.nullcontext():
            if as_json:
                print_json({"url": url, "data": str(settings.data)})
            else:
                click.echo(f"listening on {url}, data in {settings.data}")
            sys.stdout.flush()
            threading.Thread(target=_tell_doors, args=(app.state.readiness,), daemon=True).start()
            # uvicorn ends in order and then sends itself the signal again, by whatever handler was there before: the
            # default would end this process here, and leave the runner behind.
            signal.signal(signal.SIGTERM, lambda *_: None)
            Server(config).run(sockets=[listening])
    return 0


def _tell_doors(readiness: Readiness) -> None:
    """Say at the start what this machine does not let be shut."""
    for door in readiness.doors():
        stderr().print(f"warning: checks and runs cannot be denied {door}", markup=False)


def _run_only(settings: Settings) -> int:
    from linepress.intake.work.runner_main import run

    stderr().print(f"working on the submissions in {settings.data}", markup=False)
    run(settings, threading.Event())
    return 0
