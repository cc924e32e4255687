"""Thalex's key: an RSA key registered there under a key id, and the login token it signs.

Hides: the secret, the form of the token. Must not know: sockets, hosts, clocks. Called by the other files of
this folder. Source: thalextech/thalex_py (`_make_auth_token`): a JWT (RFC 7519) with the algorithm RS512
(RFC 7518 3.3), header `alg`, `typ`, `kid`, one claim `iat` in seconds, no expiry. A fresh token is made for
each login; how far its time may be off is not documented.
"""

from __future__ import annotations

import base64
from typing import NoReturn

import orjson

from api.signing import RsaKey


class ThalexKey:
    """Key id and RSA private key in PEM form.

    Raises:
        BadInput: the id is empty or not printable, or the PEM holds no RSA key of 2048 to 4096 bits.
    """

    __slots__ = ("_head", "_rsa")

    def __init__(self, key_id: str, pem: str | bytes, *, password: str | None = None) -> None:
        self._rsa = RsaKey(key_id, pem, password=password, digest="sha512")
        self._head = _packed(orjson.dumps({"alg": "RS512", "typ": "JWT", "kid": key_id}))

    @property
    def api_key(self) -> str:
        """The key id."""
        return self._rsa.api_key

    def __repr__(self) -> str:
        return f"ThalexKey({self.api_key[:4]}...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not written anywhere")

    def sign(self, payload: bytes) -> str:
        """The signature of these bytes, base64url without padding."""
        return self._rsa.sign(payload).rstrip("=").translate(_URL_SAFE)

    def token(self, stamp_s: int) -> str:
        """The login token. `stamp_s`: seconds since 1970 by the venue's clock."""
        payload = self._head + b"." + _packed(orjson.dumps({"iat": stamp_s}))
        return f"{payload.decode()}.{self.sign(payload)}"


_URL_SAFE = str.maketrans("+/", "-_")


def _packed(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
