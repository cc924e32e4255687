"""What Backpack wants signed, and the key that signs it. Pure.

Hides: the instruction string, the headers. Must not know: what a request means. Called by `requests` and by
the stream. Source: docs.backpack.exchange, "Signing requests": `instruction=<name>`, the parameters sorted by
name as they are (booleans in lower case, nothing percent-encoded), then `timestamp` and `window` in
milliseconds; of a batch each order with its instruction, one after the other, and the times once.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

from api.errors import BadInput
from api.signing import Ed25519Key, Key

Params = Mapping[str, str | int | bool]


def key_from_seed(api_key: str, seed_b64: str) -> Ed25519Key:
    """The key as the venue's page shows it: both halves in base64, the secret one a seed of 32 bytes.

    Raises:
        BadInput: another form, or the halves do not belong together; not a byte of either is repeated.
    """
    public, seed = _bytes_of(api_key), _bytes_of(seed_b64)
    if len(public) != 32:
        raise BadInput("key", f"the API key must be base64 of 32 bytes, this has {len(public)}")
    if len(seed) == 64 and seed[32:] == public:
        seed = seed[:32]  # some tools write the seed with the public half behind it
    if len(seed) != 32:
        raise BadInput("key", f"the secret must be base64 of a 32-byte seed, this has {len(seed)}")
    key = Ed25519Key.from_seed(base64.b64encode(public).decode(), seed)
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(key.sign(b"pair")), b"pair")
    except (InvalidSignature, ValueError):
        raise BadInput("key", "the API key and the secret do not belong together") from None
    return key


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("key", "both halves of the key must be base64 text") from None


def text_of(value: str | int | bool) -> str:
    """As it stands in the string to sign and in a query."""
    if value is True:
        return "true"
    return "false" if value is False else str(value)


def to_sign(instruction: str, params: Params | Sequence[Params], stamp_ms: int, window_ms: int) -> bytes:
    """The string to sign; `params` of several orders for a batch."""
    groups = (params,) if isinstance(params, Mapping) else params
    parts = []
    for group in groups:
        parts.append(f"instruction={instruction}")
        parts += [f"{name}={text_of(group[name])}" for name in sorted(group)]
    parts.append(f"timestamp={stamp_ms}&window={window_ms}")
    return "&".join(parts).encode()


def headers(
    key: Key, instruction: str, params: Params | Sequence[Params], stamp_ms: int, window_ms: int
) -> dict[str, str]:
    """The four headers of a signed request."""
    return {
        "X-API-Key": key.api_key,
        "X-Signature": key.sign(to_sign(instruction, params, stamp_ms, window_ms)),
        "X-Timestamp": str(stamp_ms),
        "X-Window": str(window_ms),
    }


def subscription(key: Key, stamp_ms: int, window_ms: int) -> list[str]:
    """The `signature` field of a SUBSCRIBE to private streams."""
    signature = key.sign(to_sign("subscribe", {}, stamp_ms, window_ms))
    return [key.api_key, signature, str(stamp_ms), str(window_ms)]
