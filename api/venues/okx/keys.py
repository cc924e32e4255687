"""OKX's key of three parts, and the two things it signs. Pure.

Hides: the secret and the passphrase. Must not know: sockets, hosts. Called by the other files of this folder.
Source: OKX API v5, "REST Authentication", "WebSocket > Login": base64 of HMAC-SHA256 over
timestamp + method + path with query + body, exactly as sent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn

from api.errors import BadInput
from api.signing import HmacKey

LOGIN_PATH = "/users/self/verify"


class OkxKey:
    """API key, secret and passphrase.

    Raises:
        BadInput: one of them is empty or not what a header can carry.
    """

    __slots__ = ("_hmac", "_passphrase")

    def __init__(self, api_key: str, secret: str, passphrase: str) -> None:
        if not passphrase or not passphrase.isascii() or not passphrase.isprintable():
            raise BadInput("passphrase", "the passphrase chosen with the OKX key is needed, printable ASCII")
        self._hmac = HmacKey(api_key, secret, encoding="base64")
        self._passphrase = passphrase

    @property
    def api_key(self) -> str:
        return self._hmac.api_key

    def __repr__(self) -> str:
        return f"OkxKey({self.api_key[:4]}...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not written anywhere")

    def sign(self, payload: bytes) -> str:
        return self._hmac.sign(payload)

    def headers(self, stamp_ms: int, method: str, target: str, body: bytes = b"") -> dict[str, str]:
        """The four headers of one REST request. `target`: path and query, `body`: exactly the bytes sent."""
        stamp = iso(stamp_ms)
        return {
            "OK-ACCESS-KEY": self.api_key,
            "OK-ACCESS-SIGN": self.sign(f"{stamp}{method}{target}".encode() + body),
            "OK-ACCESS-TIMESTAMP": stamp,
            "OK-ACCESS-PASSPHRASE": self._passphrase,
        }

    def login(self, stamp_s: int) -> dict[str, str]:
        """The one argument of the WebSocket's `login`. `stamp_s`: seconds since 1970 by the venue's clock."""
        return {
            "apiKey": self.api_key,
            "passphrase": self._passphrase,
            "timestamp": str(stamp_s),
            "sign": self.sign(f"{stamp_s}GET{LOGIN_PATH}".encode()),
        }


def iso(stamp_ms: int) -> str:
    """`2020-12-08T09:08:57.715Z`."""
    seconds, ms = divmod(stamp_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
