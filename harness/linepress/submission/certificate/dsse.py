"""Signatures: DSSE envelopes around in-toto statements, Ed25519 by the `cryptography` library.

DSSE 1.0 (secure-systems-lab/dsse, protocol.md): what is signed is ``"DSSEv1" SP len(type) SP type SP len(body) SP
body``, so neither the type nor the body can be exchanged. The key id is the sha256 of the public key's
SubjectPublicKeyInfo in DER.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from linepress.errors import LinepressError
from linepress.sources.text import StrictJsonError
from linepress.submission.check.jsonfile import bounded_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENVELOPE_BYTES = 64 << 20
ENVELOPE_DEPTH = 32


class SignatureError(LinepressError):
    """An envelope that is not one, or a signature that does not hold."""

    exit_code = 1


def pre_authentication(kind: str, body: bytes) -> bytes:
    """The bytes that a DSSE signature is over."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body)


def key_id(key: Ed25519PublicKey) -> str:
    """sha256 (hex) of the public key."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public key as PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def new_key(path: Path) -> Ed25519PrivateKey:
    """Make a signing key in ``path`` (PKCS 8 PEM, readable by its owner alone) and its public key in ``path``.pub;
    raises `LinepressError` when one is there already."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise LinepressError(f"{path}: is there already; a signing key is never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    path.with_name(f"{path.name}.pub").write_bytes(public_pem(key.public_key()))
    return key


def load_private(path: Path) -> Ed25519PrivateKey:
    """The signing key in a PEM file; raises `LinepressError` for anything else."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise LinepressError(f"{path}: not an unencrypted PEM private key; make one with --new-key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise LinepressError(f"{path}: not an Ed25519 key; make one with --new-key")
    return key


def load_public(pem: bytes, what: str) -> Ed25519PublicKey:
    """The public key in PEM text; raises `LinepressError` for anything else."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise LinepressError(f"{what}: not a PEM public key; give the .pub file of the signer") from None
    if not isinstance(key, Ed25519PublicKey):
        raise LinepressError(f"{what}: not an Ed25519 key; give the .pub file of the signer")
    return key


def sign(statement: dict[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The statement in a DSSE envelope, as JSON."""
    body = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    return _envelope(body, key_id(key.public_key()), key.sign(pre_authentication(PAYLOAD_TYPE, body)))


def _envelope(body: bytes, keyid: str, signature: bytes) -> bytes:
    """The one way in which an envelope is written."""
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(body).decode(),
        "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope, indent=1).encode() + b"\n"


def open_envelope(raw: bytes, key: Ed25519PublicKey) -> dict[str, Any]:
    """The statement of an envelope signed by ``key``; raises `SignatureError` when it is not.

    An envelope has one signature, and its bytes are those that `sign` writes: whatever else a reader might make of
    other members, other key ids or a second signature, it cannot stand there.
    """
    try:
        if len(raw) > ENVELOPE_BYTES:
            raise SignatureError("the certificate is not a DSSE envelope: it is too large")
        envelope = bounded_json(raw, ENVELOPE_BYTES, ENVELOPE_DEPTH)
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise SignatureError("the certificate holds no in-toto statement")
        body = base64.b64decode(envelope["payload"], validate=True)
        if len(envelope["signatures"]) != 1:
            raise SignatureError(f"the certificate has {len(envelope['signatures'])} signatures, and one is expected")
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except (StrictJsonError, KeyError, TypeError, binascii.Error, ValueError):
        raise SignatureError("the certificate is not a DSSE envelope") from None
    try:
        key.verify(signature, pre_authentication(PAYLOAD_TYPE, body))
    except InvalidSignature:
        who = f"key {key_id(key)[:16]}…"
        raise SignatureError(f"the signature is not by {who}, or what was signed has been altered") from None
    if raw != _envelope(body, key_id(key), signature):
        raise SignatureError("the envelope is not written as its signer writes it: ask for it again")
    try:
        statement = bounded_json(body, ENVELOPE_BYTES, ENVELOPE_DEPTH)
    except StrictJsonError as error:
        raise SignatureError(f"the signed statement is not plain JSON: {error}") from None
    if not isinstance(statement, dict):
        raise SignatureError("the signed statement is not an object")
    return statement
