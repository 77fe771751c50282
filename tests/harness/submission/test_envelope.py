"""Envelopes have one form: what the attack put into them, and other people's verifiers over ours."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from linepress.submission.certificate.dsse import SignatureError, key_id, open_envelope, public_pem, sign
from linepress.submission.certificate.materials import bill_of_materials

KEY = Ed25519PrivateKey.generate()
STATEMENT = {"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "x", "predicate": {"n": 1}}


def altered(change: Callable[[dict[str, Any]], object]) -> bytes:
    envelope = json.loads(sign(STATEMENT, KEY))
    change(envelope)
    return json.dumps(envelope, indent=1).encode() + b"\n"


def other_order(envelope: dict[str, Any]) -> None:
    kind = envelope.pop("payloadType")
    envelope["payloadType"] = kind


def respelled(envelope: dict[str, Any]) -> None:
    """The same signature in another spelling of base64: bits beyond the last byte are not all zero."""
    text = envelope["signatures"][0]["sig"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    envelope["signatures"][0]["sig"] = text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "=="


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a further member": lambda e: e.update(comment="trust me"),
    "a further member of the signature": lambda e: e["signatures"][0].update(cert="x"),
    "another keyid": lambda e: e["signatures"][0].update(keyid="0" * 64),
    "no keyid": lambda e: e["signatures"][0].pop("keyid"),
    "an empty keyid": lambda e: e["signatures"][0].update(keyid=""),
    "the signature twice": lambda e: e["signatures"].append(e["signatures"][0]),
    "a bad signature before it": lambda e: e["signatures"].insert(0, {"keyid": "x", "sig": "AAAA"}),
    "a bad signature behind it": lambda e: e["signatures"].append({"keyid": "x", "sig": "AAAA"}),
    "no signature": lambda e: e["signatures"].clear(),
    "members in another order": other_order,
    "the signature spelt otherwise": respelled,
}


@pytest.mark.threat("an envelope written otherwise, 200,000 signatures")
@pytest.mark.parametrize("change", CHANGES)
def test_an_envelope_that_is_not_as_its_signer_writes_it(change: str) -> None:
    raw = altered(CHANGES[change])
    assert raw != sign(STATEMENT, KEY)
    with pytest.raises(SignatureError):
        open_envelope(raw, KEY.public_key())


@pytest.mark.parametrize("raw", [b" ", b"\n", b"\r\n"])
def test_bytes_around_it(raw: bytes) -> None:
    good = sign(STATEMENT, KEY)
    assert open_envelope(good, KEY.public_key()) == STATEMENT
    for bad in (raw + good, good + raw, good.replace(b"\n", b"\r\n"), json.dumps(json.loads(good)).encode()):
        with pytest.raises(SignatureError):
            open_envelope(bad, KEY.public_key())


@pytest.mark.threat("an envelope written otherwise, 200,000 signatures")
def test_200000_signatures_take_no_time() -> None:
    raw = altered(lambda e: e["signatures"].extend([{"keyid": "x", "sig": "A" * 86 + "=="}] * 200_000))
    start_s = time.process_time()
    with pytest.raises(SignatureError, match="200001 signatures"):
        open_envelope(raw, KEY.public_key())
    assert time.process_time() - start_s < 3


@pytest.mark.threat("an envelope written otherwise, 200,000 signatures")
def test_securesystemslib_verifies_ours_and_refuses_what_we_refuse() -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    key = SSlibKey(
        key_id(KEY.public_key()), "ed25519", "ed25519", {"public": KEY.public_key().public_bytes_raw().hex()}
    )
    envelope = dsse.Envelope.from_dict(json.loads(sign(STATEMENT, KEY)))
    assert list(envelope.verify([key], 1)) == [key.keyid]
    assert json.loads(envelope.payload) == STATEMENT
    for change in ("another keyid", "an empty keyid", "no signature"):
        with pytest.raises((VerificationError, KeyError, ValueError)):
            dsse.Envelope.from_dict(json.loads(altered(CHANGES[change]))).verify([key], 1)
    other = Ed25519PrivateKey.generate().public_key()
    stranger = SSlibKey(key.keyid, "ed25519", "ed25519", {"public": other.public_bytes_raw().hex()})
    with pytest.raises(VerificationError):
        envelope.verify([stranger], 1)


def test_in_toto_verifies_ours() -> None:
    metadata = pytest.importorskip("in_toto.models.metadata")
    from in_toto.exceptions import SignatureVerificationError

    public = KEY.public_key()
    assert b"BEGIN PUBLIC KEY" in public_pem(public)
    key: dict[str, Any] = {"keyid": key_id(public), "keytype": "ed25519", "scheme": "ed25519"}
    key["keyval"] = {"public": public.public_bytes_raw().hex()}
    envelope = metadata.Envelope.from_dict(json.loads(sign(STATEMENT, KEY)))
    envelope.verify_signature(key)
    envelope.payload = base64.b64decode(base64.b64encode(envelope.payload.replace(b'"n":1', b'"n":2')))
    with pytest.raises(SignatureVerificationError):
        envelope.verify_signature(key)


def test_the_bill_of_materials_names_what_is_installed() -> None:
    pytest.importorskip("cyclonedx")
    raw = bill_of_materials()
    assert raw is not None
    found = json.loads(raw)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    purls = {component["purl"] for component in found["components"]}
    for name in ("ray", "cryptography", "numpy"):
        assert f"pkg:pypi/{name}@{version(name)}" in purls
    assert b"file:" not in raw
    assert os.uname().nodename.encode() not in raw or len(os.uname().nodename) < 4
    bill_of_materials.cache_clear()
    assert bill_of_materials() == raw


def test_verifying_needs_neither_ray_nor_mlflow(tmp_path: Path) -> None:
    """In a process of its own: what is loaded once a certificate was looked at."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from linepress.cli.partner.verify import main\n"
        "Path(sys.argv[1]).write_bytes(b'no bundle')\n"
        "try: main([sys.argv[1]])\n"
        "except SystemExit as end: print(end.code)\n"
        "heavy = ('ray', 'mlflow', 'pandas', 'numba', 'matplotlib', 'plotly', 'scipy', 'fastapi', 'sqlalchemy',\n"
        "    'duckdb', 'huggingface_hub', 'safetensors', 'torch')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.lpcert")], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-2:] == ["1", "[]"], done.stdout + done.stderr
