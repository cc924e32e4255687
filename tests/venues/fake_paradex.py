"""Paradex on this machine: REST and the JSON-RPC WebSocket around a small matching core. Shares no code with
the adapter; also hashes and signatures are checked by arithmetic of its own.

Written from the fact sheet and the documents' payloads: every order's signature is verified over what the
order says; tokens end; a new order is only queued (status NEW) and told of afterwards, a refused one as
CLOSED with a cancel reason; a connection with cancel-on-disconnect takes its orders with it when it drops,
not when it says goodbye. A market is moved by the test: `book` sets what strangers rest, `trade` lets a
stranger take.

`fault` makes the next requests of an operation go wrong; `calls` remembers every request that was understood.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

D = Decimal
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CHAIN = "PRIVATE_SN_POTC_SEPOLIA"
READS_LIMIT, ORDERS_LIMIT = 120, 800

# ------------------------------------------------------------------------------------- the curve, plainly

P = 0x800000000000011000000000000000000000000000000000000000000000001
N = 0x800000000000010FFFFFFFFFFFFFFFFB781126DCAE7B2321E66A241ADC64D2F
G = (
    0x1EF15C18599971B7BECED415A40F0C7DEACFD9B0D1819E03D723D8BC943CFCA,
    0x5668060AA49730B7BE4801DF46EC62DE53ECD11ABE43A32873000C36E8DC1F,
)
POINTS = [
    (
        0x49EE3EBA8C1600700EE1B87EB599F16716B0B1022947733551FDE4050CA6804,
        0x3CA0CFE4B3BC6DDF346D49D06EA0ED34E621062C0E056C1D0405D266E10268A,
    ),
    (
        0x234287DCBAFFE7F969C748655FCA9E58FA8120B6D56EB0C1080D17957EBE47B,
        0x3B056F100F96FB21E889527D41F4E39940135DD7A6C94CC6ED0268EE89E5615,
    ),
    (
        0x4FA56F376C83DB33F9DAB2656558F3399099EC1DE5E3018B7A6932DBA8AA378,
        0x3FA0984C931C9E38113E0C0E47E4401562761F92A7A23B45168F4E80FF5B54D,
    ),
    (
        0x4BA4CC166BE8DEC764910F75B45F74B40C690C74709E90F3AA372F0BD2D6997,
        0x40301CF5C1751F4B971E46C4EDE85FCAC5C59A5CE5AE7C48151F27B24B219C,
    ),
    (
        0x54302DCB0E6CC1C6E44CCA8F61A63BB2CA65048D53FB325D36FF12C49A58202,
        0x1B77B3E37D13504B348046268D8AE25CE98AD783C25561A879DCC77E99C2426,
    ),
]


def _sum(points: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Affine sum through projective steps; the points are never each other's opposite here."""
    x, y, z = 0, 1, 0
    for px, py in points:
        if not z:
            x, y, z = px, py, 1
            continue
        u, v = (py * z - y) % P, (px * z - x) % P
        if not v:
            w = pow(z, -1, P)
            ax, ay = x * w % P, y * w % P
            assert ay == py
            m = (3 * ax * ax + 1) * pow(2 * ay, -1, P) % P
            x = (m * m - 2 * ax) % P
            y, z = (m * (ax - x) - ay) % P, 1
            continue
        vv = v * v % P
        vvv, r = vv * v % P, vv * x % P
        a = (u * u * z - vvv - 2 * r) % P
        x, y, z = v * a % P, (u * (r - a) - vvv * y) % P, vvv * z % P
    w = pow(z, -1, P)
    return x * w % P, y * w % P


def _powers(point: tuple[int, int], bits: int) -> list[tuple[int, int]]:
    found = [point]
    while len(found) < bits:
        found.append(_sum((found[-1], found[-1])))
    return found


_NIBBLES: list[list[list[tuple[int, int]]]] = []
_BASE: list[tuple[int, int]] = []


def _pick(number: int, powers: list[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    return (power for at, power in enumerate(powers) if number >> at & 1)


def _nibbles(powers: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """For each hexadecimal digit its sixteen multiples (that of 0 is never used)."""
    rows = []
    for at in range(0, len(powers), 4):
        parts = powers[at : at + 4]
        rows.append([_sum([parts[i] for i in range(4) if digit >> i & 1] or parts) for digit in range(16)])
    return rows


def _digits(number: int, rows: list[list[tuple[int, int]]]) -> Iterable[tuple[int, int]]:
    return [
        row[int(digit, 16)] for row, digit in zip(rows, f"{number:x}"[::-1], strict=False) if digit != "0"
    ]


def pedersen(a: int, b: int) -> int:
    if not _NIBBLES:
        for low, high in ((1, 2), (3, 4)):
            _NIBBLES.append(_nibbles(_powers(POINTS[low], 248) + _powers(POINTS[high], 4)))
    return _sum((POINTS[0], *_digits(a, _NIBBLES[0]), *_digits(b, _NIBBLES[1])))[0]


def hash_list(items: list[int]) -> int:
    total = 0
    for at, item in enumerate([*items, len(items)]):
        total = _beginning(total, item) if at < 3 and items[0] == MESSAGE or not at else pedersen(total, item)
    return total


@lru_cache(maxsize=64)
def _beginning(total: int, item: int) -> int:
    """What every message of an account begins with is the same."""
    return pedersen(total, item)


MESSAGE = int.from_bytes(b"StarkNet Message", "big")


def public_point(private: int) -> tuple[int, int]:
    if not _BASE:
        _BASE.extend(_powers(G, 252))
    return _sum(_pick(private, _BASE))


def felt(text: str | int) -> int:
    if isinstance(text, int):
        return text
    if text.startswith("0x"):
        return int(text, 16)
    return int(text) if text.isdigit() else int.from_bytes(text.encode(), "big")


class No(Exception):
    """A refusal."""

    def __init__(
        self, error: str, message: str = "", status: int = 400, code: int = -32000, **headers: str
    ) -> None:
        super().__init__(message or error)
        self.error, self.message, self.status, self.code = error, message or error, status, code
        self.headers = headers


def text(value: Decimal) -> str:
    plain = format(value.normalize(), "f")
    return "0" if plain in ("-0", "") else plain


@dataclass
class Market:
    symbol: str = "BTC-USD-PERP"
    base: str = "BTC"
    settle: str = "USDC"
    tick: Decimal = D("0.01")
    lot: Decimal = D("0.001")
    min_notional: Decimal = D(5)
    max_size: Decimal = D(1000)
    kind: str = "PERP"
    fee_config: dict[str, Any] | None = None
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)
    seq: int = 1000


@dataclass(eq=False)
class Order:
    id: str
    account: FakeAccount
    p: dict[str, Any]
    size: Decimal
    price: Decimal
    at_ms: int
    status: str = "NEW"
    done: Decimal = D(0)
    ahead: Decimal = D(0)
    reason: str = ""
    seq: int = 0
    changed_ms: int = 0
    conn: Any = None

    @property
    def left(self) -> Decimal:
        return self.size - self.done

    @property
    def side(self) -> str:
        return str(self.p["side"])

    @property
    def symbol(self) -> str:
        return str(self.p["market"])


@dataclass
class Fault:
    kind: str
    on: str
    args: dict[str, Any]


class FakeAccount:
    def __init__(self, address: str, private: int, balances: dict[str, Decimal]) -> None:
        self.address = address
        point = public_point(private)
        self.public = f"0x{point[0]:x}"
        self.powers = _powers(point, 252)
        self.balances = dict(balances)
        self.orders: list[Order] = []
        self.fills: list[dict[str, Any]] = []
        self.positions: dict[str, tuple[Decimal, Decimal]] = {}
        self.payments: list[dict[str, Any]] = []
        self.subkeys: list[dict[str, Any]] = []

    def open(self) -> list[Order]:
        return [order for order in self.orders if order.status in ("NEW", "OPEN")]


class _Conn:
    """One TCP connection: HTTP until it is upgraded."""

    def __init__(self, fake: FakeParadex, sock: socket.socket) -> None:
        self.fake, self.sock = fake, sock
        self.data = b""
        self.account: FakeAccount | None = None
        self.channels: set[str] = set()
        self.covered = False
        self.lock = threading.Lock()
        self.is_ws = False

    def more(self) -> None:
        piece = self.sock.recv(65536)
        if not piece:
            raise ConnectionError
        self.data += piece

    def run(self) -> None:
        said_goodbye = False
        try:
            while not self.is_ws:
                self.http()
            while True:
                opcode, payload = self.frame()
                if opcode == 8:
                    said_goodbye = True
                    return
                if opcode == 9:
                    self.send(payload, 0xA)
                elif opcode == 1:
                    self.fake.rpc(self, json.loads(payload))
        except (ConnectionError, OSError):
            return
        finally:
            self.fake.gone(self, said_goodbye)
            self.sock.close()

    def frame(self) -> tuple[int, bytes]:
        def need(count: int) -> bytes:
            while len(self.data) < count:
                self.more()
            taken, self.data = self.data[:count], self.data[count:]
            return taken

        head = need(2)
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(need(2), "big")
        elif size == 127:
            size = int.from_bytes(need(8), "big")
        mask = need(4)
        raw = need(size)
        return head[0] & 0xF, bytes(byte ^ mask[at % 4] for at, byte in enumerate(raw))

    def send(self, payload: bytes, opcode: int = 1) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, size))
        else:
            head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
        with self.lock, contextlib.suppress(OSError):
            self.sock.sendall(head + payload)

    def tell(self, message: dict[str, Any]) -> None:
        self.send(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def http(self) -> None:
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        first, *rest = head.decode().split("\r\n")
        verb, target, _ = first.split(" ")
        headers = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in rest}
        if headers.get("upgrade", "").lower() == "websocket":
            if self.fake.refuse_sockets:
                self.sock.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
                raise ConnectionError
            key = hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()
            self.sock.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + base64.b64encode(key) + b"\r\n\r\n"
            )
            self.is_ws = True
            self.fake.sockets.append(self)
            return
        size = int(headers.get("content-length", 0))
        while len(self.data) < size:
            self.more()
        body, self.data = self.data[:size], self.data[size:]
        status, answer, extra = self.fake.rest_call(verb, target, headers, body)
        if status == 0:
            raise ConnectionError
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if status == 204:
            raw = b""
        lines = "".join(f"{name}: {value}\r\n" for name, value in extra.items())
        size_line = "" if status == 204 else f"Content-Length: {len(raw)}\r\n"
        self.sock.sendall(f"HTTP/1.1 {status} X\r\n{size_line}{lines}\r\n".encode() + raw)


OPS = {"POST": "order.create", "PUT": "order.modify", "DELETE": "order.cancel"}


class FakeParadex:
    """See the module docstring. `rest` and `socket` are its addresses."""

    def __init__(self, markets: Iterable[Market] | None = None) -> None:
        self.markets = {m.symbol: m for m in (markets or [Market()])}
        self.accounts: dict[str, FakeAccount] = {}
        self.tokens: dict[str, tuple[FakeAccount, float]] = {}
        self.token_life_s = 300.0
        self.exp_offset_s = 0.0
        self.chain = CHAIN
        self.maker_rate, self.taker_rate = D("0.0002"), D("0.0005")
        self.margin_share = D(1)
        self.clock_skew_ms = 0
        self.status = "ok"
        self.stp_told = ""
        self.page = 100
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.faults: deque[Fault] = deque()
        self.repeat_pushes = 0
        self.drop_pushes = 0
        self.push_first = False
        self.hold_orders = False
        self.refuse_sockets = False
        self.onboarded: list[str] = []
        self.lock = threading.RLock()
        self.sockets: list[_Conn] = []
        self._frozen: tuple[float, list[dict[str, Any]]] | None = None
        self._pending: list[tuple[FakeAccount, str, dict[str, Any]]] = []
        self._number = 1_700_000_000_000_000
        self._domain = 0
        self._hash_cache: dict[tuple[int, ...], int] = {}
        self._timers: list[threading.Timer] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        port = self._server.getsockname()[1]
        self.rest, self.socket = f"http://127.0.0.1:{port}/v1", f"ws://127.0.0.1:{port}/v1"
        self._conns: list[_Conn] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = _Conn(self, sock)
            self._conns.append(conn)
            threading.Thread(target=conn.run, daemon=True).start()

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._server.close()
        for conn in list(self._conns):
            with contextlib.suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RDWR)
            conn.sock.close()

    # ------------------------------------------------------------------ the test's verbs

    def account(self, address: str, private: int, **balances: str) -> FakeAccount:
        made = FakeAccount(address, private, {name: D(value) for name, value in balances.items()})
        self.accounts[hex(int(address, 16))] = made
        return made

    def fault(self, kind: str, on: str, n: int = 1, **args: Any) -> None:
        with self.lock:
            self.faults.extend(Fault(kind, on, args) for _ in range(n))

    def freeze_lists(self, seconds: float) -> None:
        with self.lock:
            rows = [self.row(o) for a in self.accounts.values() for o in a.open()]
            self._frozen = (time.monotonic() + seconds, rows)

    def cut(self, for_s: float = 0.0) -> None:
        if for_s:
            self.refuse_sockets = True
            self._later(for_s, lambda: setattr(self, "refuse_sockets", False))
        for conn in list(self.sockets):
            with contextlib.suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RDWR)

    def end_tokens(self) -> None:
        with self.lock:
            self.tokens.clear()

    def book(self, symbol: str, bids: dict[str, str], asks: dict[str, str]) -> None:
        with self.lock:
            market = self.markets[symbol]
            for order in (o for a in self.accounts.values() for o in a.open() if o.symbol == symbol):
                now = (bids if order.side == "BUY" else asks).get(text(order.price), "0")
                order.ahead = min(order.ahead, D(now))
            market.bids = {D(p): D(s) for p, s in bids.items()}
            market.asks = {D(p): D(s) for p, s in asks.items()}

    def trade(self, symbol: str, side: str, price: str, size: str) -> None:
        """A stranger takes: from the best own orders through to `price`, queue first."""
        with self.lock:
            market, limit, left = self.markets[symbol], D(price), D(size)
            rest = "BUY" if side.upper() == "SELL" else "SELL"
            orders = [o for a in self.accounts.values() for o in a.open() if o.symbol == symbol]
            orders = [o for o in orders if o.side == rest and o.status == "OPEN"]
            sign = -1 if rest == "BUY" else 1
            book = market.bids if rest == "BUY" else market.asks
            for order in sorted(orders, key=lambda o: (sign * o.price, o.at_ms)):
                if sign * order.price > sign * limit:
                    break
                if order.price == limit:
                    passed = min(order.ahead, left)
                    order.ahead -= passed
                    left -= passed
                    if order.price in book:
                        book[order.price] = max(D(0), book[order.price] - passed)
                took = min(left, order.left)
                if took > 0:
                    left -= took
                    self._fill(order, order.price, took, "MAKER")
                    self._end_if_full(order)
        self.flush()

    def bust(self, address: str, fill_id: str) -> None:
        self._push(self.accounts[hex(int(address, 16))], "tradebusts", {"busted_fill_id": fill_id})
        self.flush()

    # ------------------------------------------------------------------ signatures

    def _check(self, account: FakeAccount, kind: str, items: list[int], signature: str) -> bool:
        if not self._domain:
            keccak = starknet_keccak
            self._domain = hash_list(
                [keccak("StarkNetDomain(name:felt,chainId:felt,version:felt)"), felt("Paradex"),
                 felt(self.chain), 1]
            )  # fmt: skip
        inner = hash_list([starknet_keccak(TYPES[kind]), *items])
        message = hash_list([felt("StarkNet Message"), self._domain, int(account.address, 16), inner])
        try:
            r, s = (int(part) for part in json.loads(signature))
        except (ValueError, TypeError):
            return False
        if not (0 < r < N and 0 < s < N):
            return False
        w = pow(s, -1, N)
        first, second = message * w % N, r * w % N
        points = [*_pick(first, _BASE), *_pick(second, account.powers)]
        return _sum(points)[0] == r

    def _verify(self, account: FakeAccount, p: dict[str, Any], order_id: str = "") -> None:
        at = p.get("signature_timestamp")
        if not isinstance(at, int):
            raise No("INVALID_TIMESTAMP", "signature_timestamp is required")
        age = self.now_ms() - at
        if age > int(p.get("recv_window", 300_000)) or age < -5000:
            raise No("INVALID_TIMESTAMP", "outside of the window")
        items = [
            at, felt(p["market"]), 1 if p["side"] == "BUY" else 2, felt(p["type"]),
            int(D(p["size"]) * 10**8), int(D(p["price"]) * 10**8),
        ]  # fmt: skip
        kind = "ModifyOrder" if order_id else "Order"
        if order_id:
            items.append(felt(order_id))
        if not self._check(account, kind, items, p.get("signature", "")):
            raise No("INVALID_ORDER_SIGNATURE", "the signature does not match the order")

    # ------------------------------------------------------------------ HTTP

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.clock_skew_ms

    def _take_fault(self, on: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.on == on:
                    self.faults.remove(fault)
                    return fault
        return None

    def rest_call(
        self, verb: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        path, _, query = target.partition("?")
        path = unquote(path.removeprefix("/v1"))
        q = dict(parse_qsl(query))
        name = path.strip("/").split("/")[0] if verb == "GET" or path.startswith("/auth") else OPS[verb]
        if path == "/orders" and verb == "DELETE":
            name = "order.cancel_all"
        if path == "/onboarding" or path.startswith("/auth"):
            name = path.split("/")[1].replace("auth", "login")
        fault = self._take_fault(name)
        try:
            if fault is not None and fault.kind in ("error", "html", "lose_command"):
                if fault.kind == "html":
                    return int(fault.args.get("status", 502)), b"<html>Bad gateway</html>", {}
                if fault.kind == "lose_command":
                    return 0, b"", {}
                raise No(
                    fault.args.get("error", "INTERNAL_ERROR"), fault.args.get("message", ""),
                    fault.args.get("status", 400), **fault.args.get("headers", {}),
                )  # fmt: skip
            status, answer = self._route(verb, path, q, headers, body)
            limit = ORDERS_LIMIT if name.startswith("order.") else READS_LIMIT
            extra = {
                "X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(limit - 1),
                "X-RateLimit-Reset": "1", "X-Ratelimit-Window": "1s",
            }  # fmt: skip
            if fault is not None and fault.kind == "lose_answer":
                return 0, b"", {}
            if fault is not None and fault.kind == "error_after":
                return fault.args.get("status", 500), b"", {}
            if fault is not None and fault.kind == "answer":
                return 200, fault.args["body"], {}
            return status, answer, extra
        except No as no:
            return no.status, {"error": no.error, "message": no.message}, no.headers
        finally:
            self.flush()

    def _route(
        self, verb: str, path: str, q: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        if path == "/system/time":
            return 200, {"server_time": str(self.now_ms())}
        if path == "/system/state":
            return 200, {"status": self.status}
        if path == "/system/config":
            return 200, {"starknet_chain_id": self.chain, "l1_chain_id": "11155111"}
        if path == "/markets":
            return 200, {"results": [self._listing(m) for m in self.markets.values()]}
        if path.startswith("/auth"):
            return 200, {"jwt_token": self._token(path, headers)}
        if path == "/onboarding":
            account = self.accounts.get(hex(int(headers["paradex-starknet-account"], 16)))
            signature = headers["paradex-starknet-signature"]
            if account is None or not self._check(account, "Constant", [felt("Onboarding")], signature):
                raise No("STARKNET_SIGNATURE_VERIFICATION_FAILED", status=401)
            self.onboarded.append(json.loads(body)["public_key"])
            return 200, {}
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        account = self._bearer(bearer)
        if verb != "GET":
            return self._write(account, verb, path, q, body)
        return 200, self._read(account, path, q)

    def _token(self, path: str, headers: dict[str, str]) -> str:
        account = self.accounts.get(hex(int(headers["paradex-starknet-account"], 16)))
        if account is None:
            raise No("NOT_ONBOARDED", "User has never called /onboarding endpoint")
        at, until = int(headers["paradex-timestamp"]), int(headers["paradex-signature-expiration"])
        items = [felt("POST"), felt("/v1/auth"), 0, at, until]
        is_mine = path in ("/auth", f"/auth/{account.public}")
        if not is_mine or not self._check(account, "Request", items, headers["paradex-starknet-signature"]):
            raise No("STARKNET_SIGNATURE_VERIFICATION_FAILED", "bad login", 401)
        if abs(self.now_ms() / 1000 - at) > 60:
            raise No("INVALID_TIMESTAMP", "login too old", 400)
        ends = time.time() + self.token_life_s
        claims = json.dumps({"exp": int(ends + self.exp_offset_s + self.clock_skew_ms / 1000)}).encode()
        with self.lock:
            self._number += 1
            token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.s{self._number}"
            self.tokens[token] = (account, ends)
        return token

    def _bearer(self, token: str) -> FakeAccount:
        found = self.tokens.get(token)
        if found is None or found[1] < time.time():
            raise No("INVALID_TOKEN", "Invalid Bearer Token", 401, 40111)
        return found[0]

    def _listing(self, market: Market) -> dict[str, Any]:
        row: dict[str, Any] = {
            "symbol": market.symbol, "asset_kind": market.kind, "base_currency": market.base,
            "quote_currency": "USD", "settlement_currency": market.settle, "market_kind": "cross",
            "price_tick_size": text(market.tick), "order_size_increment": text(market.lot),
            "min_notional": text(market.min_notional), "max_order_size": text(market.max_size),
            "trading_mode": "STANDARD", "open_at": 1, "expiry_at": 0,
        }  # fmt: skip
        if market.fee_config:
            row["fee_config"] = market.fee_config
        return row

    def _write(
        self, account: FakeAccount, verb: str, path: str, q: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        p = json.loads(body) if body else dict(q)
        if verb == "POST":
            return 201, self.row(self._create(account, p, None, "http"))
        if verb == "PUT":
            return 200, self.row(self._modify(account, {**p, "id": path.rsplit("/", 1)[1]}, "http"))
        if path == "/orders":
            self._cancel_all(account, q.get("market"), "http")
            return 200, {}
        if path.startswith("/orders/by_client_id/"):
            self._cancel(account, {"client_id": path.rsplit("/", 1)[1], **q}, "http")
        else:
            self._cancel(account, {"id": path.rsplit("/", 1)[1]}, "http")
        return 204, b""

    def _read(self, account: FakeAccount, path: str, q: dict[str, str]) -> Any:
        with self.lock:
            self.calls.append(("http", path, q))
            market = q.get("market")
            if path == "/orders":
                if self._frozen is not None and time.monotonic() < self._frozen[0]:
                    rows = self._frozen[1]
                else:
                    rows = [self.row(order) for order in account.open()]
                return {"results": [row for row in rows if market in (None, row["market"])]}
            if path.startswith("/orders/by_client_id/"):
                for order in account.open():
                    if order.p.get("client_id") == path.rsplit("/", 1)[1]:
                        return self.row(order)
                raise No("CLIENT_ORDER_ID_NOT_FOUND")
            if path.startswith("/orders/"):
                for order in account.open():
                    if order.id == path.rsplit("/", 1)[1]:
                        return self.row(order)
                raise No("ORDER_ID_NOT_FOUND")
            if path == "/orders-history":
                orders = [o for o in account.orders if o.status == "CLOSED" and o.symbol == market]
                if "client_id" in q:
                    orders = [o for o in orders if o.p.get("client_id") == q["client_id"]]
                return self._paged([self.row(order) for order in reversed(orders)], q)
            if path == "/fills":
                rows = [f for f in account.fills if f["market"] == market]
                rows = [f for f in rows if f["created_at"] >= int(q.get("start_at", 0))]
                return self._paged(list(reversed(rows)), q)
            if path == "/funding/payments":
                return self._paged([p for p in account.payments if p["market"] == market], q)
            if path == "/account":
                return self._account_row(account)
            if path == "/account/info":
                rates = {"maker_rate": text(self.maker_rate), "taker_rate": text(self.taker_rate)}
                return {"results": [{"account": account.address, "fees": rates, "kind": "main"}]}
            if path == "/account/margin":
                return {"account": account.address, "configs": [], "margin_methodology": "cross_margin"}
            if path == "/account/keys/subkeys":
                return {"results": account.subkeys}
            if path == "/balance":
                return {"results": [{"token": t, "size": text(s)} for t, s in account.balances.items()]}
            if path == "/positions":
                return {
                    "results": [
                        {
                            "market": symbol, "side": "LONG" if qty > 0 else "SHORT", "size": text(qty),
                            "status": "OPEN" if qty else "CLOSED", "average_entry_price": text(entry),
                        }
                        for symbol, (qty, entry) in account.positions.items()
                    ]
                }  # fmt: skip
            raise No("NOT_FOUND", path, 404)

    def _paged(self, rows: list[dict[str, Any]], q: dict[str, str]) -> dict[str, Any]:
        start, size = int(q.get("cursor", 0)), min(self.page, int(q.get("page_size", 100)))
        more = start + size < len(rows)
        return {"results": rows[start : start + size], "next": str(start + size) if more else None}

    # ------------------------------------------------------------------ JSON-RPC

    def rpc(self, conn: _Conn, message: dict[str, Any]) -> None:
        number, method, p = message["id"], message["method"], message.get("params", {})
        fault = self._take_fault(method)
        if fault is not None and fault.kind == "lose_command":
            return
        try:
            if fault is not None and fault.kind == "error":
                raise No("", fault.args.get("message", "error"), code=fault.args.get("code", -32000))
            if fault is not None and fault.kind == "raw":
                conn.send(fault.args["body"])
                return
            result = self._method(conn, method, p)
            if fault is not None and fault.kind == "error_after":
                raise No("", fault.args.get("message", "error"), code=fault.args.get("code", -32603))
            if self.push_first:
                self.flush()
                time.sleep(0.02)
            answer = {"result": result, "id": number, "usIn": 1, "usOut": 2, "usDiff": 1}
            if fault is not None and fault.kind == "lose_answer":
                pass
            elif fault is not None and fault.kind == "late":
                self._later(fault.args["seconds"], lambda: conn.tell(answer))
            else:
                conn.tell(answer)
        except No as no:
            shown = f"{no.error}: {no.message}" if no.error else no.message
            conn.tell({"error": {"code": no.code, "message": shown}, "id": number, "usDiff": 1})
        self.flush()
        if fault is not None and fault.kind == "cut":
            self.cut(0.05)

    def _method(self, conn: _Conn, method: str, p: dict[str, Any]) -> dict[str, Any]:
        if method == "auth":
            conn.account = self._bearer(p["bearer"])
            return {"node_id": "n1"}
        if method in ("subscribe", "unsubscribe"):
            if method == "subscribe" and p["channel"] in conn.channels:
                raise No("", "already subscribed", code=-32602)
            (conn.channels.add if method == "subscribe" else conn.channels.discard)(p["channel"])
            return {"channel": p["channel"]}
        account = conn.account
        if account is None:
            raise No("", "Permission denied - authentication required", code=40300)
        if method == "order.create":
            return {"order": self.row(self._create(account, p, conn, "socket"))}
        if method == "order.modify":
            return {"order": self.row(self._modify(account, p, "socket"))}
        if method == "order.cancel":
            order = self._cancel(account, p, "socket")
            return {"order_id": order.id, "status": "QUEUED_FOR_CANCELLATION"}
        if method == "order.cancel_all":
            self._cancel_all(account, p.get("market"), "socket")
            return {"status": "ok"}
        if method == "order.cancel_on_disconnect":
            with self.lock:
                self.calls.append(("socket", method, p))
                conn.covered = p["enabled"]
            return {"enabled": p["enabled"]}
        raise No("", "method does not exist", code=-32601)

    def gone(self, conn: _Conn, said_goodbye: bool) -> None:
        with self.lock:
            if conn in self.sockets:
                self.sockets.remove(conn)
            if conn in self._conns:
                self._conns.remove(conn)
            if conn.covered and not said_goodbye and conn.account is not None:
                for order in conn.account.open():
                    if order.conn is conn:
                        self._close(order, "CANCEL_ON_DISCONNECT")
        self.flush()

    # ------------------------------------------------------------------ orders

    def _next(self) -> str:
        self._number += 1
        return str(self._number)

    def row(self, order: Order) -> dict[str, Any]:
        p = order.p
        return {
            "id": order.id, "account": order.account.address, "market": order.symbol, "side": order.side,
            "type": "LIMIT", "size": text(order.size), "remaining_size": text(order.left),
            "price": text(order.price), "status": order.status, "created_at": order.at_ms,
            "last_updated_at": order.changed_ms or order.at_ms, "timestamp": p["signature_timestamp"],
            "cancel_reason": order.reason, "client_id": p.get("client_id", ""), "seq_no": order.seq,
            "instruction": p.get("instruction", "GTC"), "avg_fill_price": "", "flags": p.get("flags", []),
            "stp": self.stp_told or p.get("stp", "EXPIRE_TAKER"), "trigger_price": "0",
        }  # fmt: skip

    def _create(self, account: FakeAccount, p: dict[str, Any], conn: _Conn | None, how: str) -> Order:
        with self.lock:
            self.calls.append((how, "order.create", p))
            if self.status in ("cancel_only", "maintenance"):
                raise No("SYSTEM_STATUS_CANCEL_ONLY", "maintenance")
            market = self.markets.get(p["market"])
            if market is None:
                raise No("INVALID_SYMBOL")
            self._verify(account, p)
            if any(o.p.get("client_id") == p.get("client_id") for o in account.open()):
                raise No("DUPLICATED_CLIENT_ID")
            size, price = D(p["size"]), D(p["price"])
            if size % market.lot or price % market.tick:
                raise No("VALIDATION_ERROR", "off the grid")
            if p["instruction"] not in ("GTC", "IOC", "POST_ONLY", "RPI"):
                raise No("VALIDATION_ERROR", "unknown instruction")
            order = Order(self._next(), account, p, size, price, self.now_ms(), conn=conn)
            account.orders.append(order)
            answered = Order(**{name: getattr(order, name) for name in order.__dataclass_fields__})
            self._match(order, market)
            return answered

    def _match(self, order: Order, market: Market) -> None:
        is_buy = order.side == "BUY"
        sign = 1 if is_buy else -1
        theirs = market.asks if is_buy else market.bids
        reason = self._refusal(order, market)
        levels = sorted((p for p in theirs if theirs[p] > 0), key=lambda p: sign * p)
        crossing = [p for p in levels if sign * p <= sign * order.price]
        own = [
            o for o in order.account.open()
            if o is not order and o.symbol == order.symbol and o.side != order.side
            and sign * o.price <= sign * order.price
        ]  # fmt: skip
        if not reason and order.p["instruction"] == "POST_ONLY" and (crossing or own):
            reason = "POST_ONLY_WOULD_CROSS"
        if not reason and own:
            reason = "SELF_TRADE_PREVENTION"
        if reason:
            self._close(order, reason)
            return
        order.status = "OPEN"
        for price in crossing:
            took = min(order.left, theirs[price])
            theirs[price] -= took
            self._fill(order, price, took, "TAKER")
            if not order.left:
                break
        if self._end_if_full(order):
            return
        if order.p["instruction"] == "IOC":
            self._close(order, "IOC_NOT_FILLED")
            return
        order.ahead = (market.bids if is_buy else market.asks).get(order.price, D(0))
        self._tell(order)

    def _refusal(self, order: Order, market: Market) -> str:
        if order.size * order.price < market.min_notional:
            return "ORDER_SIZE_BELOW_MIN"
        account = order.account
        used = sum((o.left * o.price for o in account.open()), D(0)) * self.margin_share
        free = account.balances.get(market.settle, D(0))
        return "NOT_ENOUGH_MARGIN" if used > free else ""

    def _modify(self, account: FakeAccount, p: dict[str, Any], how: str) -> Order:
        with self.lock:
            self.calls.append((how, "order.modify", p))
            order = next((o for o in account.orders if o.id == p["id"]), None)
            if order is None:
                raise No("ORDER_ID_NOT_FOUND")
            if order.status != "OPEN":
                raise No("ORDER_IS_NOT_OPEN")
            self._verify(account, p, p["id"])
            price, size = D(p["price"]), D(p["size"])
            if price != order.price or size > order.size:
                market = self.markets[order.symbol]
                order.ahead = (market.bids if order.side == "BUY" else market.asks).get(price, D(0))
            order.price, order.size = price, size
            self._tell(order)
            return order

    def _cancel(self, account: FakeAccount, p: dict[str, Any], how: str) -> Order:
        with self.lock:
            self.calls.append((how, "order.cancel", p))
            if "id" in p:
                found = [o for o in account.orders if o.id == p["id"]]
                if not found:
                    raise No("ORDER_ID_NOT_FOUND")
            else:
                found = [o for o in account.orders if o.p.get("client_id") == p["client_id"]]
                if not found or "market" not in p:
                    raise No("CLIENT_ORDER_ID_NOT_FOUND")
            if found[-1].status == "CLOSED":
                raise No("ORDER_IS_CLOSED")
            self._close(found[-1], "USER_CANCELED")
            return found[-1]

    def _cancel_all(self, account: FakeAccount, symbol: str | None, how: str) -> None:
        with self.lock:
            self.calls.append((how, "order.cancel_all", {"market": symbol}))
            for order in account.open():
                if symbol in (None, order.symbol):
                    self._close(order, "USER_CANCELED")

    def _close(self, order: Order, reason: str) -> None:
        order.status, order.reason = "CLOSED", reason
        self._tell(order)

    def _end_if_full(self, order: Order) -> bool:
        if not order.left:
            order.status = "CLOSED"
        if order.done:
            self._tell(order)
        return not order.left

    def _fill(self, order: Order, price: Decimal, size: Decimal, liquidity: str) -> None:
        account, market = order.account, self.markets[order.symbol]
        order.done += size
        fee = price * size * (self.maker_rate if liquidity == "MAKER" else self.taker_rate)
        taker = order.side if liquidity == "TAKER" else ("SELL" if order.side == "BUY" else "BUY")
        row = {
            "id": self._next(), "order_id": order.id, "client_id": order.p.get("client_id", ""),
            "market": order.symbol, "side": taker, "size": text(size), "price": text(price),
            "fee": text(fee), "fee_currency": market.settle, "liquidity": liquidity,
            "created_at": self.now_ms(), "fill_type": "FILL", "flags": [], "remaining_size": text(order.left),
        }  # fmt: skip
        account.fills.append(row)
        signed = size if order.side == "BUY" else -size
        qty, _ = account.positions.get(order.symbol, (D(0), D(0)))
        account.positions[order.symbol] = (qty + signed, price)
        account.balances[market.settle] = account.balances.get(market.settle, D(0)) - fee
        self._push(account, "fills", row)
        held = text(account.balances[market.settle])
        event = {"settlement_asset_name": market.settle, "settlement_asset_balance_after": held}
        self._push(account, "balance_events", event)
        self._push(account, "account", self._account_row(account))

    def _account_row(self, account: FakeAccount) -> dict[str, Any]:
        settle = next(iter(self.markets.values())).settle
        held = account.balances.get(settle, D(0))
        return {"account": account.address, "free_collateral": text(held), "settlement_asset": settle}

    # ------------------------------------------------------------------ pushes

    def _tell(self, order: Order) -> None:
        with self.lock:
            self._number += 1
            order.seq, order.changed_ms = self._number, self.now_ms()
            if not self.hold_orders:
                self._push(order.account, "orders", self.row(order))

    def _push(self, account: FakeAccount, kind: str, row: dict[str, Any]) -> None:
        with self.lock:
            self._pending.append((account, kind, row))

    def flush(self) -> None:
        """Send what was put aside: after the answer, as the venue does it, unless told otherwise."""
        with self.lock:
            pending, self._pending = self._pending, []
            for account, kind, row in pending:
                if self.drop_pushes and kind in ("orders", "fills"):
                    self.drop_pushes -= 1
                    continue
                times = 1
                if self.repeat_pushes and kind in ("orders", "fills"):
                    self.repeat_pushes -= 1
                    times = 2
                for conn in list(self.sockets):
                    for channel in (f"{kind}.ALL", kind):
                        if conn.account is account and channel in conn.channels:
                            for _ in range(times):
                                conn.tell(
                                    {"method": "subscription", "params": {"channel": channel, "data": row}}
                                )

    def _later(self, seconds: float, what: Any) -> None:
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()


TYPES = {
    "Order": "Order(timestamp:felt,market:felt,side:felt,orderType:felt,size:felt,price:felt)",
    "ModifyOrder": (
        "ModifyOrder(timestamp:felt,market:felt,side:felt,orderType:felt,size:felt,price:felt,id:felt)"
    ),
    "Request": "Request(method:felt,path:felt,body:felt,timestamp:felt,expiration:felt)",
    "Constant": "Constant(action:felt)",
}
_KECCAK: dict[str, int] = {}


def starknet_keccak(name: str) -> int:
    if name not in _KECCAK:
        from Crypto.Hash import keccak

        digest = keccak.new(digest_bits=256, data=name.encode()).digest()
        _KECCAK[name] = int.from_bytes(digest, "big") % 2**250
    return _KECCAK[name]
