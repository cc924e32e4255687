"""Keys that sign, and nothing else: a payload in, a signature as text out.

Hides: the secret, which algorithm it is for, the libraries behind it (`cryptography` is loaded only by
those who own an Ed25519 or RSA key). Must not know: venues, URLs, files, where a key is kept (`api.keys`
reads it and makes one of these). Called by venue files with the exact bytes they send.

No secret is ever in a `repr`, an exception or a pickle. Measured on the build machine: HMAC with a prepared
key state 0.9 us, Ed25519 about 20 us, RSA-2048 about 220 us a signature.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

from api.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

RSA_BITS = range(2048, 4097)  # what venues accept


class Key(Protocol):
    """What a venue file is handed: the public half by name, the secret half as something that signs."""

    @property
    def api_key(self) -> str: ...

    def sign(self, payload: bytes) -> str:
        """The signature of exactly these bytes, as the text that goes on the wire (before any percent-
        encoding).
        """


class _Secretive:
    """Shows and pickles nothing."""

    __slots__ = ("api_key",)

    def __init__(self, api_key: str) -> None:
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise BadInput("key", "the API key must be printable ASCII without spaces")
        self.api_key = api_key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.api_key[:4]}...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not written anywhere")


class HmacKey(_Secretive):
    """HMAC-SHA256 (RFC 2104), lower-case hex or base64. The keyed state is prepared once and copied for each
    signature.

    Raises:
        BadInput: the secret is empty.
    """

    __slots__ = ("_is_hex", "_state")

    def __init__(
        self, api_key: str, secret: str | bytes, *, encoding: Literal["hex", "base64"] = "hex"
    ) -> None:
        super().__init__(api_key)
        raw = secret.encode() if isinstance(secret, str) else secret
        if not raw:
            raise BadInput("key", "the secret is empty")
        self._state = hmac.new(raw, digestmod="sha256")
        self._is_hex = encoding == "hex"

    def sign(self, payload: bytes) -> str:
        state = self._state.copy()
        state.update(payload)
        return state.hexdigest() if self._is_hex else base64.b64encode(state.digest()).decode()


class Ed25519Key(_Secretive):
    """Ed25519 (RFC 8032), base64. From a PKCS#8 PEM, or from the 32-byte seed.

    Raises:
        BadInput: not such a key, or `cryptography` is not installed.
    """

    __slots__ = ("_sign",)

    def __init__(self, api_key: str, pem: str | bytes, *, password: str | None = None) -> None:
        super().__init__(api_key)
        found = _private_key(pem, password)
        from cryptography.hazmat.primitives.asymmetric import ed25519

        if not isinstance(found, ed25519.Ed25519PrivateKey):
            raise BadInput("key", "the PEM holds a key of another kind, not Ed25519")
        key: Ed25519PrivateKey = found
        self._sign = key.sign

    @classmethod
    def from_seed(cls, api_key: str, seed: bytes) -> Ed25519Key:
        if len(seed) != 32:
            raise BadInput("key", f"an Ed25519 seed has 32 bytes, this has {len(seed)}")
        _require_cryptography()
        from cryptography.hazmat.primitives.asymmetric import ed25519

        made = cls.__new__(cls)
        _Secretive.__init__(made, api_key)
        made._sign = ed25519.Ed25519PrivateKey.from_private_bytes(seed).sign
        return made

    def sign(self, payload: bytes) -> str:
        return base64.b64encode(self._sign(payload)).decode()


class RsaKey(_Secretive):
    """RSASSA-PKCS1-v1_5 (RFC 8017) with SHA-256 or SHA-512, base64. From a PKCS#8 PEM of 2048 to 4096 bits.

    Raises:
        BadInput: not such a key, or `cryptography` is not installed.
    """

    __slots__ = ("_hash", "_key", "_padding")

    def __init__(
        self,
        api_key: str,
        pem: str | bytes,
        *,
        password: str | None = None,
        digest: Literal["sha256", "sha512"] = "sha256",
    ) -> None:
        super().__init__(api_key)
        found = _private_key(pem, password)
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        if not isinstance(found, rsa.RSAPrivateKey):
            raise BadInput("key", "the PEM holds a key of another kind, not RSA")
        if found.key_size not in RSA_BITS:
            raise BadInput("key", f"an RSA key of 2048 to 4096 bits is needed, this has {found.key_size}")
        self._key: RSAPrivateKey = found
        self._padding = padding.PKCS1v15()
        self._hash = hashes.SHA256() if digest == "sha256" else hashes.SHA512()

    def sign(self, payload: bytes) -> str:
        return base64.b64encode(self._key.sign(payload, self._padding, self._hash)).decode()


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise BadInput("key", "Ed25519 and RSA keys need the package cryptography") from None


def _private_key(pem: str | bytes, password: str | None) -> Any:
    """The private key in a PEM. What is wrong with it is said without a byte of it."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw = pem.encode() if isinstance(pem, str) else pem
    try:
        return load_pem_private_key(raw, None if password is None else password.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadInput(
            "key", "no private key in PKCS#8 PEM form that can be read with this password"
        ) from None
