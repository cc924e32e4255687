"""From an Ethereum key to a Paradex account: its Stark key and its address. Pure, slow, used once.

Hides: EIP-712, the secp256k1 signature whose r is the seed, how the seed is ground into a key, the address of
a contract that does not exist yet. Called by whoever sets up an account; never on a trading path. A subkey
made on the website needs none of this and is better: it cannot withdraw.

Sources: the SDK's documents (`STARK Key` message), StarkWare's key grinding, Starknet's contract addresses.
"""

from __future__ import annotations

import hashlib

from api.errors import BadInput
from api.venues.paradex import stark

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
ADDRESS_BOUND = 2**251 - 256


def stark_key(ethereum_key: str, l1_chain_id: int) -> str:
    """The Stark private key (`0x...`) that Paradex's website derives from this Ethereum key.

    Raises:
        BadInput: not an Ethereum private key; its text is not repeated.
    """
    try:
        private = int(ethereum_key.strip(), 16)
    except ValueError:
        raise BadInput("ethereum key", "must be 64 hexadecimal digits") from None
    if not 0 < private < N:
        raise BadInput("ethereum key", "must be 64 hexadecimal digits of a key of secp256k1")
    digest = int.from_bytes(_message(l1_chain_id), "big")
    seed = private.to_bytes(32, "big") + (digest % N).to_bytes(32, "big")
    for nonce in stark.rfc6979(seed, N):
        point = _times(nonce)
        r = point[0] % N
        if r:
            return f"0x{grind(r):x}"
    raise AssertionError("unreachable")


def account_address(public_key: str, account_hash: str, proxy_hash: str) -> str:
    """The address (`0x...`) of the account contract of a public key; both class hashes are told by
    `/system/config`.
    """
    public = int(public_key, 16)
    call = (int(account_hash, 16), stark.selector("initialize"), 2, public, 0)
    prefix = stark.short_string("STARKNET_CONTRACT_ADDRESS")
    address = stark.chain((prefix, 0, public, int(proxy_hash, 16), stark.chain(call))) % ADDRESS_BOUND
    return f"0x{address:x}"


def grind(seed: int) -> int:
    """A private key without bias: hash with a counter until below a multiple of the curve's order."""
    limit = 2**256 - 2**256 % stark.N
    index = 0
    while True:
        found = int.from_bytes(hashlib.sha256(_bytes(seed) + _bytes(index)).digest(), "big")
        if found < limit:
            return found % stark.N
        index += 1


def _bytes(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _message(l1_chain_id: int) -> bytes:
    keccak = stark.keccak256
    domain = keccak(
        keccak(b"EIP712Domain(string name,string version,uint256 chainId)")
        + keccak(b"Paradex")
        + keccak(b"1")
        + l1_chain_id.to_bytes(32, "big")
    )
    struct = keccak(keccak(b"Constant(string action)") + keccak(b"STARK Key"))
    return keccak(b"\x19\x01" + domain + struct)


def _times(scalar: int) -> tuple[int, int]:
    """`scalar` (1 to N-1) times G of secp256k1, by doubling and adding."""
    total: tuple[int, int] | None = None
    step = G
    while scalar:
        if scalar & 1:
            total = step if total is None else _add(total, step)
        step = _add(step, step)
        scalar >>= 1
    assert total is not None
    return total


def _add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    if one == other:
        slope = 3 * one[0] * one[0] * pow(2 * one[1], -1, P) % P
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P) % P
    x = (slope * slope - one[0] - other[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P
