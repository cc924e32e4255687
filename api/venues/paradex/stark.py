"""The Stark curve in plain Python: Pedersen hashes, ECDSA signatures, and the hash of Paradex's typed data.

Hides: curve arithmetic, window tables, the deterministic nonce, Keccak, how text becomes a field element.
Must not know: orders, accounts, sockets. Called by `keys` and `derive`.

Why not a library: the maintained one is Rust without a wheel for every machine that runs us, or brings forty
packages along; this is small and every published vector is reproduced by the tests. Sums of points run over
tables of each constant point's multiples, eight bits at a time (made on first use, about 3 MB), so an order
costs about 2 ms of one core instead of 50 (`tests/venues/test_paradex_stark.py` prints the time).

**Not constant-time.** Python's integers are not, so somebody who measures this process to the nanosecond
learns about the key. Use a subkey, which cannot withdraw.

Sources: SNIP-12 revision 0 (typed data), StarkWare's "Pedersen Hash Function" and "STARK curve", RFC 6979.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from functools import lru_cache

P = 2**251 + 17 * 2**192 + 1
N = 3618502788666131213697322783095070105526743751716087489154079457884512865583
B = 3141592653589793238462643383279502884197169399375105820974944592307816406665
Point = tuple[int, int]
G: Point = (
    874739451078007766457464989774322083649278607533249481151382481072868806602,
    152666792071518830868575557812948353041420400780739481342941381225525861407,
)
SHIFT: Point = (
    2089986280348253421170679821480865132823066470938446095505822317253594081284,
    1713931329540660377023406109199410414810705867260802078187082345529207694986,
)
P1: Point = (
    996781205833008774514500082376783249102396023663454813447423147977397232763,
    1668503676786377725805489344771023921079126552019160156920634619255970485781,
)
P2: Point = (
    2251563274489750535117886426533222435294046428347329203627021249169616184184,
    1798716007562728905295480679789526322175868328062420237419143593021674992973,
)
P3: Point = (
    2138414695194151160943305727036575959195309218611738193261179310511854807447,
    113410276730064486255102093846540133784865286929052426931474106396135072156,
)
P4: Point = (
    2379962749567351885752724891227938183011949129833673362440656643086021394946,
    776496453633298175483985398648758586525933812536653089401905292063708816422,
)
SPLIT = 248  # bits of a hash input that the first of its two points stands for
WINDOW = 8  # bits of one step
TOP = 2**251  # r, and the inverse of s, must be below it

Tables = list[list[Point]]


# ------------------------------------------------------------------------------------------------- points


def _add(one: Point | None, other: Point | None) -> Point | None:
    """The sum; None is the point at infinity. One inversion each: for tables and checks, not for signing."""
    if one is None:
        return other
    if other is None:
        return one
    if one[0] == other[0]:
        if (one[1] + other[1]) % P == 0:
            return None
        slope = (3 * one[0] * one[0] + 1) * pow(2 * one[1], -1, P) % P
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P) % P
    x = (slope * slope - one[0] - other[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P


def times(scalar: int, point: Point) -> Point | None:
    """`scalar` times `point` by doubling and adding: slow and plain."""
    total: Point | None = None
    step: Point | None = point
    while scalar:
        if scalar & 1:
            total = _add(total, step)
        step = _add(step, step)
        scalar >>= 1
    return total


def _tables(point: Point, bits: int) -> Tables:
    """For each window of `bits` its 256 multiples: entry d of window w is d * 256^w * point; entry 0 is
    unused.
    """
    found: Tables = []
    for at in range(0, bits, WINDOW):
        size = 1 << min(WINDOW, bits - at)
        row = _multiples(point, size)
        found.append(row)
        for _ in range(WINDOW):
            doubled = _add(point, point)
            assert doubled is not None  # the group's order is an odd prime
            point = doubled
    return found


def _multiples(point: Point, size: int) -> list[Point]:
    """[unused, point, 2 point, ...]: each round adds the last multiple to all before it, sharing one
    inversion.
    """
    row: list[Point] = [(0, 0), point]
    while len(row) < size:
        last = row[-1]
        doubled = _add(last, last)
        assert doubled is not None
        batch = row[1:-1]
        inverses = _inverses([(other[0] - last[0]) % P for other in batch])
        for other, inverse in zip(batch, inverses, strict=True):
            slope = (other[1] - last[1]) * inverse % P
            x = (slope * slope - last[0] - other[0]) % P
            row.append((x, (slope * (last[0] - x) - last[1]) % P))
        row.append(doubled)
    return row[:size]


def _inverses(values: Sequence[int]) -> list[int]:
    """All inverses for the price of one (Montgomery's trick). None of the values is 0."""
    products, running = [], 1
    for value in values:
        products.append(running)
        running = running * value % P
    inverse = pow(running, -1, P)
    found = [0] * len(values)
    for at in range(len(values) - 1, -1, -1):
        found[at] = inverse * products[at] % P
        inverse = inverse * values[at] % P
    return found


@lru_cache(maxsize=1)
def _hash_tables() -> tuple[Tables, Tables]:
    """Of both inputs: 31 windows of the low 248 bits, and one for the high 4."""
    return (
        _tables(P1, SPLIT) + _tables(P2, 4),
        _tables(P3, SPLIT) + _tables(P4, 4),
    )


@lru_cache(maxsize=1)
def _base_tables() -> Tables:
    return _tables(G, 252)


def _sum_x(x: int, y: int, points: Iterable[Point]) -> int:
    """The x of (x, y) plus all `points`, by mixed additions (Jacobian plus affine) and one inversion."""
    prime = P
    z = 1
    for px, py in points:
        zz = z * z % prime
        dx = (px * zz - x) % prime
        if not dx:
            return _sum_slowly(x, y, z, px, py, points)
        dy = (py * zz * z - y) % prime
        dx2 = dx * dx % prime
        dx3 = dx2 * dx % prime
        at = x * dx2 % prime
        x = (dy * dy - dx3 - 2 * at) % prime
        y = (dy * (at - x) - y * dx3) % prime
        z = z * dx % prime
    inverse = pow(z, -1, prime)
    return x * inverse * inverse % prime


def _sum_slowly(x: int, y: int, z: int, px: int, py: int, rest: Iterable[Point]) -> int:
    """Two points of the same x meet: doubling, or infinity. Does not happen by chance; right all the same."""
    inverse = pow(z, -1, P)
    square = inverse * inverse % P
    total = _add((x * square % P, y * square * inverse % P), (px, py))
    for point in rest:
        total = _add(total, point)
    if total is None:
        raise ValueError("a sum of points that has no x")
    return total[0]


def _steps(value: int, tables: Tables) -> list[Point]:
    """The table entries that add up to `value` times the tables' point(s)."""
    return [row[digit] for row, digit in zip(tables, value.to_bytes(32, "little"), strict=False) if digit]


def pedersen(a: int, b: int) -> int:
    """The hash of two field elements. Raises ValueError outside [0, P)."""
    if not (0 <= a < P and 0 <= b < P):
        raise ValueError("a hash input must be a field element")
    first, second = _hash_tables()
    points = _steps(a, first) + _steps(b, second)
    return _sum_x(SHIFT[0], SHIFT[1], iter(points)) if points else SHIFT[0]


def chain(elements: Iterable[int]) -> int:
    """The hash of a list: pedersen over its elements from 0, and their number at the end."""
    total, count = 0, 0
    for element in elements:
        total = pedersen(total, element)
        count += 1
    return pedersen(total, count)


# --------------------------------------------------------------------------------------------- signatures


def public_key(private: int) -> int:
    """The x of the public point. Raises ValueError for a key outside [1, N)."""
    if not 0 < private < N:
        raise ValueError("not a private key of the Stark curve")
    return _base_x(private)


def _base_x(scalar: int) -> int:
    points = _steps(scalar, _base_tables())
    (x, y), rest = points[0], points[1:]
    return _sum_x(x, y, iter(rest))


def nonces(message: int, private: int) -> Iterable[int]:
    """RFC 6979 with SHA-256 and the one byte of extra input (section 3.6) that starknet.py gives by default,
    so that the same key and order make the same signature there and here. Yields further ones for the rare
    case that the first does not do.
    """
    yield from rfc6979(private.to_bytes(32, "big") + message.to_bytes(32, "big") + b"\x20", N)


def rfc6979(seed: bytes, order: int) -> Iterable[int]:
    """Section 3.2, steps b to h; `seed` is key, reduced hash and extra input."""

    def mac(key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, hashlib.sha256).digest()

    value, key = b"\x01" * 32, b"\x00" * 32
    key = mac(key, value + b"\x00" + seed)
    value = mac(key, value)
    key = mac(key, value + b"\x01" + seed)
    value = mac(key, value)
    excess = 256 - order.bit_length()
    while True:
        value = mac(key, value)
        chosen = int.from_bytes(value, "big") >> excess
        if 0 < chosen < order:
            yield chosen
        key = mac(key, value + b"\x00")
        value = mac(key, value)


def sign(message: int, private: int) -> tuple[int, int]:
    """(r, s) over a message hash. Raises ValueError for a hash or key that cannot be signed (with)."""
    if not 0 <= message < TOP:
        raise ValueError("only hashes below 2^251 can be signed")
    if not 0 < private < N:
        raise ValueError("not a private key of the Stark curve")
    for nonce in nonces(message, private):
        r = _base_x(nonce)
        if not 0 < r < TOP:
            continue
        total = (message + r * private) % N
        if not total:
            continue
        inverse = nonce * pow(total, -1, N) % N  # of s; StarkWare's circuits bound this one
        if not 0 < inverse < TOP:
            continue
        return r, pow(inverse, -1, N)
    raise AssertionError("unreachable")


def is_signed(message: int, signature: tuple[int, int], public: int) -> bool:
    """Whether the owner of `public` (an x) signed `message`. Slow: for checks of our own work."""
    r, s = signature
    if not (0 < r < TOP and 0 < s < N):
        return False
    square = (public * public * public + public + B) % P
    y = _root(square)
    if y is None:
        return False
    inverse = pow(s, -1, N)
    first = times(message * inverse % N, G)
    for candidate in ((public, y), (public, P - y)):
        total = _add(first, times(r * inverse % N, candidate))
        if total is not None and total[0] % N == r:
            return True
    return False


def _root(square: int) -> int | None:
    """A square root modulo P by Tonelli and Shanks (P - 1 is divisible by 2^192); None: there is none."""
    if pow(square, (P - 1) // 2, P) != 1:
        return None
    odd, twos = (P - 1) >> 192, 192
    power = pow(3, odd, P)  # 3 is no square modulo P
    root, rest = pow(square, (odd + 1) // 2, P), pow(square, odd, P)
    while rest != 1:
        order, probe = 0, rest
        while probe != 1:
            probe = probe * probe % P
            order += 1
        factor = pow(power, 1 << (twos - order - 1), P)
        root, power, twos = root * factor % P, factor * factor % P, order
        rest = rest * power % P
    return root


# --------------------------------------------------------------------------------------------- typed data


def short_string(text: str) -> int:
    """Text of up to 31 ASCII characters as one element."""
    raw = text.encode("ascii")
    if len(raw) > 31:
        raise ValueError("a short string has at most 31 characters")
    return int.from_bytes(raw, "big")


def element(text: str) -> int:
    """A `felt` of typed data: `0x...` is hexadecimal, digits alone a number, all else a short string."""
    if text.startswith("0x"):
        return int(text, 16)
    if text.isascii() and text.isdigit():
        return int(text)
    return short_string(text)


def selector(name: str) -> int:
    """Keccak-256 of a name, cut to 250 bits ("starknet_keccak")."""
    return int.from_bytes(keccak256(name.encode()), "big") & ((1 << 250) - 1)


_ROUNDS = (
    0x0000000000000001, 0x0000000000008082, 0x800000000000808A, 0x8000000080008000, 0x000000000000808B,
    0x0000000080000001, 0x8000000080008081, 0x8000000000008009, 0x000000000000008A, 0x0000000000000088,
    0x0000000080008009, 0x000000008000000A, 0x000000008000808B, 0x800000000000008B, 0x8000000000008089,
    0x8000000000008003, 0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
)  # fmt: skip
_WORD = (1 << 64) - 1
_RATE = 136  # bytes of Keccak-256


def _turn(word: int, by: int) -> int:
    return ((word << by) | (word >> (64 - by))) & _WORD


def keccak256(data: bytes) -> bytes:
    """Keccak-256 with the original padding, which is not SHA3-256's. Slow: for names, once each."""
    padded = bytearray(data) + b"\x01" + b"\x00" * (-(len(data) + 1) % _RATE)
    padded[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), _RATE):
        for at in range(_RATE // 8):
            word = int.from_bytes(padded[start + 8 * at : start + 8 * at + 8], "little")
            lanes[at % 5][at // 5] ^= word
        _permute(lanes)
    return b"".join(lanes[at % 5][at // 5].to_bytes(8, "little") for at in range(4))


def _permute(lanes: list[list[int]]) -> None:
    for constant in _ROUNDS:
        sums = [column[0] ^ column[1] ^ column[2] ^ column[3] ^ column[4] for column in lanes]
        for x in range(5):
            mixed = sums[x - 1] ^ _turn(sums[(x + 1) % 5], 1)
            for y in range(5):
                lanes[x][y] ^= mixed
        x, y, moving = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            moving, lanes[x][y] = lanes[x][y], _turn(moving, (step + 1) * (step + 2) // 2 % 64)
        for y in range(5):
            row = [lanes[x][y] for x in range(5)]
            for x in range(5):
                lanes[x][y] = row[x] ^ (~row[(x + 1) % 5] & _WORD & row[(x + 2) % 5])
        lanes[0][0] ^= constant
