"""Signatures: the documents' vectors, and that no secret shows."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from api.errors import BadInput
from api.signing import Ed25519Key, HmacKey, RsaKey
from api.venues.binance_spot_trading.requests import to_sign
from tests.shared import ROOT, shared

SEED = bytes(range(32))


def vectors() -> dict[str, Any]:
    raw = json.loads(shared("fixtures/binance_spot/signing_vectors.json").read_text("utf-8"))
    return {vector["name"]: vector for vector in raw["vectors"]}


def test_every_published_vector_is_reproduced() -> None:
    found = vectors()
    for name, vector in found.items():
        payload = vector["payload"].encode()
        if "HMAC" in vector["algorithm"]:
            key: HmacKey | RsaKey = HmacKey(vector["api_key"], vector["secret_key"])
        else:
            key = RsaKey("k", vector["private_key_pem"])
        assert key.sign(payload) == vector["expected_signature"], name
    assert len(found) >= 3


def test_the_socket_form_of_a_vector_is_built_from_its_parameters() -> None:
    vector = vectors()["ws_api_hmac_ascii"]
    assert to_sign(vector["params"]).decode() == vector["payload"]


def test_a_key_signs_the_same_twice_and_different_payloads_differently() -> None:
    key = HmacKey("k", "secret")
    assert key.sign(b"a") == key.sign(b"a") != key.sign(b"b")
    based = HmacKey("k", "secret", encoding="base64").sign(b"a")
    assert base64.b64decode(based).hex() == key.sign(b"a")


def test_ed25519_from_a_seed_signs_as_rfc_8032_says() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    made = base64.b64decode(Ed25519Key.from_seed("k", seed).sign(b"")).hex()
    assert made == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )


def test_ed25519_from_a_pem_is_the_same_key_as_from_its_seed() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = Ed25519PrivateKey.from_private_bytes(SEED).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    assert Ed25519Key("k", pem).sign(b"x") == Ed25519Key.from_seed("k", SEED).sign(b"x")
    with pytest.raises(BadInput, match="another kind"):
        RsaKey("k", pem)
    with pytest.raises(BadInput, match="another kind"):
        Ed25519Key("k", vectors()["rsa_timestamp_only"]["private_key_pem"])


@pytest.mark.parametrize(
    "pem", ["", "hello", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"]
)
def test_a_pem_that_is_none_is_refused_without_being_quoted(pem: str) -> None:
    with pytest.raises(BadInput) as refused:
        Ed25519Key("k", pem)
    assert "c2VjcmV0" not in str(refused.value) and refused.value.__cause__ is None


def test_a_seed_of_another_length_an_empty_secret_and_a_bad_api_key_are_refused() -> None:
    with pytest.raises(BadInput, match="32 bytes"):
        Ed25519Key.from_seed("k", b"short")
    with pytest.raises(BadInput, match="empty"):
        HmacKey("k", "")
    for bad in ("", "has space", "line\r\nbreak", "größe"):
        with pytest.raises(BadInput):
            HmacKey(bad, "secret")


def test_a_short_rsa_key_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = rsa.generate_private_key(65537, 1024).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(BadInput, match="2048"):
        RsaKey("k", pem)


def test_a_key_shows_and_pickles_no_secret() -> None:
    key = HmacKey("abcdefgh", "the-secret")
    assert "secret" not in repr(key) and "efgh" not in repr(key)
    assert "secret" not in str(vars(key) if hasattr(key, "__dict__") else "")
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_an_hmac_key_does_not_load_the_library_for_the_others() -> None:
    code = (
        "import sys; from api.signing import HmacKey; HmacKey('k', 's').sign(b'x'); "
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
