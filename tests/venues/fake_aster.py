"""Aster's perpetuals on this machine: `fake_binance_usdm` under Aster's paths and signatures. Shares no code
with the adapter.

V3: the text of a request is hashed as EIP-712 typed data (Keccak-256 written out here) and the signer is
recovered from the signature; nonces are checked against the clock and against those seen. V1 (`FakeAsterV1`):
header and HMAC. There is one stream address and no order entry over a WebSocket; listen keys are signed for
in V3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coincurve import PublicKey

from tests.venues.fake_binance_usdm import FakeAccount, FakeBinanceUsdm, No, Symbol

MASK = (1 << 64) - 1
KEPT_NONCES = 100


def _round_constants() -> list[int]:
    constants, state = [], 1
    for _ in range(24):
        value = 0
        for j in range(7):
            if state & 1:
                value |= 1 << ((1 << j) - 1)
            state = ((state << 1) ^ (0x171 if state & 0x80 else 0)) & 0xFF
        constants.append(value)
    return constants


RC = _round_constants()


def _rotate(value: int, by: int) -> int:
    return ((value << by) | (value >> (64 - by))) & MASK if by else value


def keccak256(data: bytes) -> bytes:
    """The sponge of FIPS 202 with the padding of before it."""
    rate = 136
    padded = bytearray(data) + b"\x01" + bytes(rate - 1 - len(data) % rate)
    padded[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), rate):
        for n in range(rate // 8):
            word = int.from_bytes(padded[start + 8 * n : start + 8 * n + 8], "little")
            lanes[n % 5][n // 5] ^= word
        for constant in RC:
            lanes = _round(lanes, constant)
    return b"".join(lanes[n % 5][n // 5].to_bytes(8, "little") for n in range(4))


def _round(a: list[list[int]], constant: int) -> list[list[int]]:
    c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
    d = [c[(x - 1) % 5] ^ _rotate(c[(x + 1) % 5], 1) for x in range(5)]
    a = [[a[x][y] ^ d[x] for y in range(5)] for x in range(5)]
    x, y, current = 1, 0, a[1][0]
    for t in range(24):
        x, y = y, (2 * x + 3 * y) % 5
        current, a[x][y] = a[x][y], _rotate(current, ((t + 1) * (t + 2) // 2) % 64)
    out = [[a[x][y] ^ (~a[(x + 1) % 5][y] & a[(x + 2) % 5][y] & MASK) for y in range(5)] for x in range(5)]
    out[0][0] ^= constant
    return out


def recovered(text: str, signature: str, chain_id: int) -> str:
    """Who signed this text: the address in lower case."""
    head = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    domain = keccak256(
        head + keccak256(b"AsterSignTransaction") + keccak256(b"1") + chain_id.to_bytes(32, "big") + bytes(32)
    )
    struct = keccak256(keccak256(b"Message(string msg)") + keccak256(text.encode()))
    raw = bytes.fromhex(signature.removeprefix("0x"))
    if len(raw) != 65 or raw[64] not in (27, 28):
        raise ValueError("not a signature")
    recoverable = raw[:64] + bytes((raw[64] - 27,))
    digest = keccak256(b"\x19\x01" + domain + struct)
    key = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    return "0x" + keccak256(key.format(compressed=False)[1:])[-20:].hex()


class FakeAster(FakeBinanceUsdm):
    """V3."""

    v, w = "/fapi/v3", "/fapi/v3"
    stp_param = "stpMode"
    signed_listen_key = True
    auth_fields = ("nonce", "user", "signer", "signature")

    def __init__(self, symbols: Iterable[Symbol] = (), chain_id: int = 714) -> None:
        super().__init__(symbols)
        self.chain_id = chain_id
        self.nonces: dict[str, list[int]] = {}
        self.methods_at["GET", "/fapi/v3/accountWithJoinMargin"] = ("accountConfig", 5, set())
        self.methods_at["GET", "/fapi/v3/stpMode"] = ("stpMode", 30, set())
        del self.methods_at["GET", "/sapi/v1/account/apiRestrictions"]

    def agent_account(self, user: str, signer: str, **balances: str) -> FakeAccount:
        made = self.account(user.lower(), lambda payload, signature: False, balances)
        made.signer = signer.lower()
        return made

    def authenticate(self, payload: str, params: dict[str, str], headers: dict[str, str]) -> FakeAccount:
        account = self.accounts.get(params.get("user", "").lower())
        if account is None or account.revoked or params.get("signer", "").lower() != account.signer:
            raise No(-1000, "No agent found", 401)
        signed, mark, signature = payload.rpartition("&signature=")
        try:
            who = recovered(signed, signature, self.chain_id) if mark else ""
        except Exception:  # whatever the library says of a broken signature
            who = ""
        if who != account.signer:
            raise No(-1000, "Signature check failed", 401)
        self._check_nonce(params["signer"].lower(), int(params.get("nonce", "0")))
        return account

    def _check_nonce(self, signer: str, nonce: int) -> None:
        seen = self.nonces.setdefault(signer, [])
        if abs(nonce / 1000 - self.now_ms()) > 10_000:
            raise No(-4225, "Nonce Expired")
        if nonce in seen or (len(seen) == KEPT_NONCES and nonce < seen[0]):
            raise No(-4225, "Nonce Expired")
        seen.append(nonce)
        seen.sort()
        del seen[:-KEPT_NONCES]

    def _stpMode(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        return {"stpMode": "EXPIRE_MAKER"}

    def kind_of_path(self, path: str) -> str:
        if path == "/stream":
            return "market"
        return "private" if path.startswith("/ws/") else ""

    def carrier(self, kind: str) -> str:
        return "market"


class FakeAsterV1(FakeBinanceUsdm):
    """V1, for keys made before 2026-03-25."""

    v, w = "/fapi/v1", "/fapi/v2"
    stp_param = "none of these"

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        super().__init__(symbols)
        self.methods_at["GET", "/fapi/v4/account"] = ("accountConfig", 5, set())

    def kind_of_path(self, path: str) -> str:
        return "private" if path.startswith("/ws/") else ""
