"""``linepress partners``: who may hand in, with which tokens and which waivers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import BYTES, json_option, print_json

if TYPE_CHECKING:
    from sqlalchemy import Connection

EPILOG = """\b
Examples:
  linepress partners add acme --contact lab@acme.example --quota 500GB
  linepress partners token acme --scope read --days 90 --label dashboard
  linepress partners revoke acme
  linepress partners revoke --token 0123456789abcdef
  linepress partners waive acme --id W-2026-7 --reason "bilateral agreement of 3 May" --by "Jo Lee, legal"
  linepress partners waivers acme
  linepress partners revoke --waiver W-2026-7
  linepress partners list
  linepress partners audit acme --last 50

A token is shown once; only a hash of it is kept.
"""


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--data`` and ``--database``, as for `linepress serve`."""
    command = click.option("--database", envvar="LINEPRESS_DATABASE", default="", help="SQLAlchemy URL.")(command)
    return click.option(
        "--data", type=click.Path(path_type=Path, file_okay=False), default=Path("intake"), show_default=True
    )(command)


@contextmanager
def _writing(data: Path, database: str) -> Iterator[Connection]:
    from linepress.intake.settings import Settings
    from linepress.intake.store.database import Database

    settings = Settings(data=data, database_url=database)
    settings.prepare()
    db = Database(settings.url)
    try:
        with db.write() as conn:
            yield conn
    finally:
        db.close()


@click.group(name="partners", epilog=EPILOG)
def command() -> None:
    """Add, list and revoke the partners of the intake service and their waivers, and read its audit log."""


@command.command()
@click.argument("partner")
@click.option("--contact", required=True, metavar="ADDRESS", help="Whom to write to.")
@click.option("--quota", type=BYTES, default="1TB", metavar="SIZE", help="Bytes kept at a time, at most (1 TB).")
@click.option("--requests-per-s", type=click.FloatRange(min=0, min_open=True), help="Own rate limit, requests/s.")
@click.option("--burst", type=click.IntRange(min=1), help="Requests at once under that limit.")
@data_options
@json_option
def add(
    partner: str,
    contact: str,
    quota: int,
    requests_per_s: float | None,
    burst: int | None,
    data: Path,
    database: str,
    as_json: bool,
) -> int:
    """Add a partner and print a token with every scope."""
    from linepress.intake.store import partners

    now = time.time()
    with _writing(data, database) as conn:
        partners.add_partner(conn, now, partner, contact, quota, requests_per_s, burst)
        minted = partners.add_token(conn, now, partner, label="first")
    return _shown(partner, minted.id, minted.text, as_json)


@command.command()
@click.argument("partner")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(("submit", "read", "delete")), help="All else.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Days it is valid; until revoked else.")
@click.option("--label", default="", help="What it is for.")
@data_options
@json_option
def token(
    partner: str, scopes: tuple[str, ...], days: float | None, label: str, data: Path, database: str, as_json: bool
) -> int:
    """Print a further token of a partner."""
    from linepress.intake.http import tokens
    from linepress.intake.store import partners

    life_s = None if days is None else days * 86_400
    with _writing(data, database) as conn:
        minted = partners.add_token(conn, time.time(), partner, scopes or tokens.SCOPES, label, life_s)
    return _shown(partner, minted.id, minted.text, as_json)


@command.command()
@click.argument("partner", required=False)
@click.option("--token", "token_id", metavar="ID", help="End this token only.")
@click.option("--waiver", metavar="ID", help="End this waiver only.")
@data_options
@json_option
def revoke(
    partner: str | None, token_id: str | None, waiver: str | None, data: Path, database: str, as_json: bool
) -> int:
    """End a token, a waiver, or a partner with every token, at once."""
    from linepress.intake.store import partners, waivers

    if [partner, token_id, waiver].count(None) != 2:
        raise click.UsageError("give PARTNER, --token ID or --waiver ID")
    with _writing(data, database) as conn:
        if token_id is not None:
            partners.revoke_token(conn, time.time(), token_id)
        elif waiver is not None:
            waivers.revoke(conn, time.time(), waiver)
        else:
            partners.revoke_partner(conn, time.time(), str(partner))
    ended = token_id or waiver or partner
    if as_json:
        print_json({"revoked": ended})
    else:
        click.echo(f"revoked {ended}")
    return 0


@command.command()
@click.argument("partner")
@click.option("--id", "waiver", required=True, metavar="ID", help="As the partner's manifest will name it.")
@click.option("--rule", default="S12", show_default=True, metavar="RULE", help="The rule that is waived.")
@click.option("--reason", required=True, metavar="TEXT", help="Why.")
@click.option("--by", "who", required=True, metavar="WHO", help="The person who answers for it.")
@data_options
@json_option
def waive(
    partner: str, waiver: str, rule: str, reason: str, who: str, data: Path, database: str, as_json: bool
) -> int:
    """Record a waiver for a partner; tell the partner its id, for `linepress pack --waiver ID`."""
    from linepress.intake.store import waivers

    with _writing(data, database) as conn:
        waivers.grant(conn, time.time(), waiver, partner, rule, reason, who)
    if as_json:
        print_json({"waiver": waiver, "partner": partner, "rule": rule, "reason": reason, "granted_by": who})
    else:
        click.echo(f"waiver {waiver}: rule {rule} for {partner}")
    return 0


@command.command(name="waivers")
@click.argument("partner", required=False)
@data_options
@json_option
def waivers_(partner: str | None, data: Path, database: str, as_json: bool) -> int:
    """Waivers that were granted, also those that were revoked."""
    from linepress.intake.store import waivers
    from linepress.submission.check.ledger import escaped

    with _writing(data, database) as conn:
        found = waivers.listed(conn, partner)
    if as_json:
        print_json(found)
        return 0
    for row in found:
        state = "revoked" if row["revoked_at"] else "holds"
        words = (row["id"], row["partner"], row["rule"], state, row["granted_by"], row["reason"])
        click.echo(escaped("   ".join(words)))
    return 0


@command.command(name="list")
@data_options
@json_option
def list_(data: Path, database: str, as_json: bool) -> int:
    """Partners and their tokens (never the secrets)."""
    from linepress.intake.store import partners

    with _writing(data, database) as conn:
        found = partners.list_partners(conn)
    if as_json:
        print_json(found)
        return 0
    for partner in found:
        state = "revoked" if partner["revoked_at"] else "active"
        click.echo(f"{partner['id']}   {state}   quota {partner['quota_bytes'] / 1e9:,.1f} GB   {partner['contact']}")
        for row in partner["tokens"]:
            state = "revoked" if row["revoked_at"] else _until(row["expires_at"])
            click.echo(f"  {row['id']}   {state}   {row['scopes']}   {row['label']}")
    return 0


@command.command()
@click.argument("partner", required=False)
@click.option("--last", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Entries to print.")
@click.option("--verify", is_flag=True, help="Check the chain of hashes over every row; exit code 1 when it breaks.")
@data_options
@json_option
def audit(partner: str | None, last: int, verify: bool, data: Path, database: str, as_json: bool) -> int:
    """The audit log, newest first."""
    from linepress.intake.store.audit import entries, head
    from linepress.intake.store.audit import verify as verified

    with _writing(data, database) as conn:
        if verify:
            rows, problem = verified(conn)
            if as_json:
                print_json({"rows": rows, "problem": problem, **head(conn)})
            else:
                click.echo(problem or f"{rows} rows, each chained to the one before; head {head(conn)['head']}")
            return 1 if problem else 0
        found = entries(conn, partner, last)
    if as_json:
        print_json(found)
        return 0
    for row in found:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row["at"]))
        click.echo(f"{at}   {row['actor']}   {row['action']}   {row['target']}   {row['outcome']}   {row['address']}")
    return 0


def _until(expires_at: float | None) -> str:
    return "no end" if expires_at is None else f"until {time.strftime('%Y-%m-%d', time.gmtime(expires_at))}"


def _shown(partner: str, token_id: str, text: str, as_json: bool) -> int:
    if as_json:
        print_json({"partner": partner, "token_id": token_id, "token": text})
    else:
        click.echo(f"partner {partner}, token {token_id} (shown this once):\n{text}")
    return 0
