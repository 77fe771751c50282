"""API tokens and session secrets: random, shown once, kept as a hash.

A secret has 256 random bits, so one round of SHA-256 is as strong as a slow password hash would be: there is no
dictionary to try (NIST SP 800-63B rev. 3 § 5.1.2.2: salt and slow hashing are for look-up secrets under 112 bits).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

PREFIX = "lpk"
SCOPES = ("submit", "read", "delete")
_TOKEN = re.compile(rf"{PREFIX}_(?P<id>[0-9a-f]{{16}})_(?P<secret>[A-Za-z0-9_-]{{43}})\Z")


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token: its public id, what the partner gets to see once, and what is kept."""

    id: str
    text: str
    digest: str


def mint() -> Minted:
    """A new random token."""
    token_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return Minted(token_id, f"{PREFIX}_{token_id}_{secret}", digest_of(secret))


def split(text: str) -> tuple[str, str] | None:
    """``(id, secret)`` of a token as a partner sends it; None for anything that is not shaped like one."""
    found = _TOKEN.match(text)
    return (found["id"], found["secret"]) if found else None


def digest_of(secret: str) -> str:
    """What is kept of a secret: SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same(secret: str, digest: str) -> bool:
    """Whether ``digest`` is kept of ``secret``; takes the same time whatever differs."""
    return hmac.compare_digest(digest_of(secret), digest)
