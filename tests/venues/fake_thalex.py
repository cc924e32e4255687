"""Thalex on this machine: its JSON-RPC over WebSocket and the public part of its REST, around a small
matching core. Shares no code with the adapter.

Written from the fact sheet and the API description: the login token is verified (RS512 over exactly what
was sent, `kid`, `iat` near our clock); client order ids live in one session and are refused twice (2);
`post_only` alone moves a crossing price, with `reject_post_only` the order ends with `immediate_cancel`; a
session that was armed deletes the orders sent after that when it ends or falls silent; the history leaves
out orders that ended unfilled. A market is moved by the test: `book` sets what strangers rest, `trade` lets
a stranger take.

`fault` makes the next requests of a method go wrong; `calls` remembers every request that was understood.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

D = Decimal
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
REST_PREFIX = "/api/v2"
SOCKET_PATH = "/ws/api/v2"


class No(Exception):
    """A refusal by code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class Market:
    name: str
    kind: str = "perpetual"
    tick: Decimal = D("0.01")
    lot: Decimal = D("0.001")
    least: Decimal = D("0.002")
    underlying: str = "BTCUSD"
    product: str = "FBTCUSD"
    expiry: str = ""
    collar: tuple[Decimal, Decimal] = (D(0), D(10**9))
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        told = {
            "instrument_name": self.name,
            "product": self.product,
            "tick_size": self.tick,
            "volume_tick_size": self.lot,
            "min_order_amount": self.least,
            "underlying": self.underlying,
            "type": self.kind,
            "base_currency": "USD",
            "create_time": 1631250800.103645,
        }
        if self.expiry:
            told |= {"expiry_date": self.expiry, "expiration_timestamp": 1893456000}
        return told


@dataclass(eq=False)
class Order:
    order_id: str
    market: Market
    side: str
    price: Decimal
    amount: Decimal
    p: dict[str, Any]
    session: _Session
    persistent: bool
    created: float
    done: Decimal = D(0)
    ahead: Decimal = D(0)
    status: str = "open"
    delete_reason: str = ""
    closed: float = 0.0
    fills: list[dict[str, Any]] = field(default_factory=list)

    @property
    def left(self) -> Decimal:
        return self.amount - self.done if self.is_open else D(0)

    @property
    def is_open(self) -> bool:
        return self.status in ("open", "partially_filled")

    def row(self, why: str, fills: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        told: dict[str, Any] = {
            "order_id": self.order_id,
            "order_type": "limit",
            "time_in_force": self.p.get("time_in_force", "good_till_cancelled"),
            "instrument_name": self.market.name,
            "direction": self.side,
            "price": self.price,
            "amount": self.amount,
            "filled_amount": self.done,
            "remaining_amount": self.left,
            "status": self.status,
            "fills": self.fills if why == "existing" else (fills or []),
            "change_reason": why,
            "insert_reason": "client_request",
            "create_time": self.created,
            "persistent": self.persistent,
        }
        for name in ("label", "client_order_id"):
            if name in self.p:
                told[name] = self.p[name]
        if not self.is_open:
            told |= {"delete_reason": self.delete_reason, "close_time": self.closed}
        return told


@dataclass
class Fault:
    kind: str
    on: str | None
    args: dict[str, Any]


class FakeAccount:
    """One account with its orders, trades and position."""

    def __init__(self, number: str, cash: dict[str, Decimal]) -> None:
        self.number = number
        self.cash = dict(cash)
        self.orders: list[Order] = []
        self.trades: list[dict[str, Any]] = []
        self.transactions: list[dict[str, Any]] = []
        self.positions: dict[str, tuple[Decimal, Decimal]] = {}
        self.may_trade = True

    def open(self) -> list[Order]:
        return [order for order in self.orders if order.is_open]


def text(told: Any) -> str:
    """JSON with decimals as the numbers they are."""
    return json.dumps(told, default=lambda value: float(value) if isinstance(value, Decimal) else None)


def unpack(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class FakeThalex:
    """See the module docstring. Listens on 127.0.0.1 from the moment it is made until `close`."""

    def __init__(self, markets: Iterable[Market] = ()) -> None:
        made = list(markets) or [Market("BTC-PERPETUAL")]
        self.markets = {market.name: market for market in made}
        self.lock = threading.RLock()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.keys: dict[str, tuple[rsa.RSAPublicKey, FakeAccount]] = {}
        self.skew_s = 0.0
        self.token_window_s = 5.0
        self.tells_date = True
        self.maker, self.taker = D("0.0002"), D("0.0005")
        self.margin_share = D("0.1")
        self.tells_fees = True
        self.page = 1000
        self.hides_unfilled = True
        self.pushes_first = False
        self.drop_pushes = 0
        self.repeat_pushes = 0
        self.refuse_sockets = False
        self.answers_pings = True
        self.stale_until = 0.0
        self.logins = 0
        self._stale: list[dict[str, Any]] = []
        self._faults: list[Fault] = []
        self._http_faults: deque[tuple[int, str, dict[str, str]]] = deque()
        self._serial = 1000
        self._sessions: set[_Session] = set()
        self._timers: set[threading.Timer] = set()
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.rest = f"http://127.0.0.1:{self.port}{REST_PREFIX}"
        self.socket = f"ws://127.0.0.1:{self.port}{SOCKET_PATH}"
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    # ------------------------------------------------------------------ what a test does

    def add_key(self, kid: str, public_pem: str, cash: dict[str, Decimal], number: str = "A1") -> FakeAccount:
        public = serialization.load_pem_public_key(public_pem.encode())
        assert isinstance(public, rsa.RSAPublicKey)
        account = FakeAccount(number, cash)
        self.keys[kid] = (public, account)
        return account

    def book(self, name: str, bids: dict[str, str], asks: dict[str, str]) -> None:
        with self.lock:
            market = self.markets[name]
            market.bids = {D(price): D(size) for price, size in bids.items()}
            market.asks = {D(price): D(size) for price, size in asks.items()}

    def trade(self, name: str, side: str, price: str, amount: str) -> None:
        """A stranger takes at this price."""
        with self.lock:
            self._take(self.markets[name], side, D(price), D(amount))

    def fault(self, kind: str, on: str | None = None, n: int = 1, **args: Any) -> None:
        with self.lock:
            self._faults.extend(Fault(kind, on, args) for _ in range(n))

    def http_fault(self, status: int, body: str, **headers: str) -> None:
        self._http_faults.append((status, body, headers))

    def cut(self, for_s: float = 0.0) -> None:
        with self.lock:
            for session in list(self._sessions):
                session.drop()
            if for_s:
                self.refuse_sockets = True
                self.later(for_s, self._let_in)

    def _let_in(self) -> None:
        self.refuse_sockets = False

    def announce_end(self) -> None:
        self.push_raw("system", {"event": "reconnect"})

    def push_raw(self, channel: str, notification: Any, raw: str | None = None) -> None:
        with self.lock:
            for session in self._sessions:
                if channel in session.channels:
                    told = {"channel_name": channel, "notification": notification}
                    session.send(raw if raw is not None else text(told))

    def asked(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in list(self.calls) if name == method]

    @property
    def open_sessions(self) -> int:
        return len(self._sessions)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        self._timers.add(timer)
        timer.start()

    def close(self) -> None:
        self._closed.set()
        for timer in self._timers:
            timer.cancel()
        self._listener.close()
        with self.lock:
            for session in list(self._sessions):
                session.drop()

    def now(self) -> float:
        return time.time() + self.skew_s

    def now_exact(self) -> Decimal:
        return D(f"{self.now():.6f}")

    # ------------------------------------------------------------------ connections

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(made,), daemon=True).start()

    def _serve(self, made: socket.socket) -> None:
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    piece = made.recv(65536)
                    if not piece:
                        return
                    data += piece
                head, data = data.split(b"\r\n\r\n", 1)
                first, *rest = head.decode().split("\r\n")
                headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in rest}
                verb, target, _ = first.split(" ")
                if headers.get("upgrade", "").lower() == "websocket":
                    self._socket(made, headers, target, data)
                    return
                self._http(made, verb, target)
        except OSError:
            pass
        finally:
            made.close()

    def _socket(self, made: socket.socket, headers: dict[str, str], target: str, data: bytes) -> None:
        if self.refuse_sockets or target != SOCKET_PATH:
            made.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest())
        made.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        session = _Session(self, made, data)
        with self.lock:
            self._sessions.add(session)
        try:
            session.serve()
        finally:
            with self.lock:
                self._sessions.discard(session)
                self.end_session(session)

    def _http(self, made: socket.socket, verb: str, target: str) -> None:
        parts = urlsplit(target)
        status, kind = 200, "application/json"
        extra: dict[str, str] = {}
        if self._http_faults:
            status, body, extra = self._http_faults.popleft()
            kind = "text/html"
        elif verb != "GET" or not parts.path.startswith(f"{REST_PREFIX}/public/"):
            status, body, kind = 404, "<html>404</html>", "text/html"
        else:
            method = parts.path.removeprefix(f"{REST_PREFIX}/")
            try:
                params = dict(parse_qsl(parts.query))
                self.calls.append((method, params))
                body = text({"result": self._public(method, params)})
            except No as no:
                body = text({"error": {"code": no.code, "message": no.message}})
        lines = {"Content-Type": kind, "Content-Length": str(len(body.encode())), **extra}
        if self.tells_date:
            lines["Date"] = formatdate(self.now(), usegmt=True)
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        made.sendall(f"HTTP/1.1 {status} OK\r\n{head}\r\n{body}".encode())

    def _watch(self) -> None:
        """Sessions that were armed and fell silent end."""
        while not self._closed.wait(0.02):
            with self.lock:
                for session in list(self._sessions):
                    if session.timeout_s and time.monotonic() - session.heard_at > session.timeout_s:
                        session.drop()

    def end_session(self, session: _Session) -> None:
        if not session.timeout_s or session.account is None:
            return
        for order in session.account.open():
            if order.session is session and not order.persistent:
                self.remove(session.account, order, "session_end")

    # ------------------------------------------------------------------ requests

    def handle(self, session: _Session, raw: str) -> None:
        asked = json.loads(raw, parse_float=D)
        method, params, number = asked["method"], asked.get("params", {}), asked["id"]
        with self.lock:
            self.calls.append((method, params))
            fault = next((f for f in self._faults if f.on in (None, method)), None)
            if fault is not None:
                self._faults.remove(fault)
            kind = fault.kind if fault is not None else ""
            args = fault.args if fault is not None else {}
            if kind == "lose_command":
                return
            if kind == "cut_before":
                session.drop()
                return
            if kind == "error":
                told = {"code": args["code"], "message": args.get("message", "")}
                session.send(text({"id": number, "error": told}))
                return
            session.pending = []
            try:
                answer = {"id": number, "result": self._answer(session, method, params)}
            except No as no:
                answer = {"id": number, "error": {"code": no.code, "message": no.message}}
            pushes, session.pending = session.pending, None
            if kind == "error_after":
                answer = {"id": number, "error": {"code": args["code"], "message": args.get("message", "")}}
            if kind == "result":
                answer = {"id": number, "result": args["result"]}
            reply = args["raw"].replace("NUMBER", str(number)) if kind == "raw" else text(answer)
            if kind == "cut_after":
                session.drop()
                return
            if kind == "early_push" or self.pushes_first:
                self._flush(pushes)
                pushes = []
            if kind == "late" or kind == "early_push":
                self.later(args.get("seconds", 0.05), lambda: session.send(reply))
            elif kind != "lose_answer":
                session.send(reply)
            self._flush(pushes)

    def _flush(self, pushes: list[tuple[_Session, str]]) -> None:
        for target, message in pushes:
            target.send(message)

    def _answer(self, session: _Session, method: str, p: dict[str, Any]) -> Any:
        if method == "public/login":
            return self._login(session, p)
        if method.startswith("public/") or method == "unsubscribe":
            if method == "public/subscribe":
                session.channels |= set(p["channels"])
                return p["channels"]
            return self._public(method, p)
        account = session.account
        if account is None:
            raise No(7, "not logged in")
        handlers: dict[str, Callable[[_Session, FakeAccount, dict[str, Any]], Any]] = {
            "private/set_cancel_on_disconnect": self._arm,
            "private/cancel_session": self._cancel_session,
            "private/subscribe": self._subscribe,
            "private/insert": self._insert,
            "private/amend": self._amend,
            "private/cancel": self._cancel,
            "private/cancel_all": self._cancel_all,
            "private/open_orders": self._open_orders,
            "private/order_history": self._order_history,
            "private/trade_history": self._trade_history,
            "private/transaction_history": self._transactions,
            "private/portfolio": self._portfolio,
            "private/account_summary": lambda _session, account, _p: self.summary(account),
        }
        handler = handlers.get(method)
        if handler is None:
            raise No(31, "unknown method")
        return handler(session, account, p)

    def _public(self, method: str, p: dict[str, Any]) -> Any:
        if method == "public/instruments":
            return [market.row() for market in self.markets.values()]
        if method == "public/system_info":
            return {"environment": "test", "api_version": "2.52.0", "banners": []}
        raise No(31, "unknown method")

    def _login(self, session: _Session, p: dict[str, Any]) -> Any:
        try:
            head, body, signature = p["token"].split(".")
            header, claims = json.loads(unpack(head)), json.loads(unpack(body))
            public, account = self.keys[header["kid"]]
            if header["alg"] != "RS512" or header["typ"] != "JWT":
                raise No(19, "authentication failed")
            signed = f"{head}.{body}".encode()
            public.verify(unpack(signature), signed, padding.PKCS1v15(), hashes.SHA512())
        except (KeyError, ValueError, InvalidSignature):
            raise No(19, "authentication failed") from None
        if abs(claims["iat"] - self.now()) > self.token_window_s:
            raise No(19, "authentication failed: token time")
        if p.get("account", account.number) != account.number:
            raise No(28, "unauthorized")
        session.account = account
        self.logins += 1
        return {"account_number": account.number}

    def _arm(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        if not isinstance(p.get("timeout_secs"), int) or p["timeout_secs"] < 1:
            raise No(6, "invalid request")
        session.timeout_s = p["timeout_secs"]
        return {"message_rate": 50}

    def _cancel_session(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        if not session.timeout_s:
            raise No(52, "persistent session")
        self.end_session(session)
        return None

    def _subscribe(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        for channel in p["channels"]:
            session.channels.add(channel)
            told: Any = None
            if channel == "account.orders":
                told = [order.row("existing") for order in account.open()]
            elif channel == "account.summary":
                told = self.summary(account)
            if told is not None:
                body = {"channel_name": channel, "notification": told, "snapshot": True}
                session.tell(text(body))
        return p["channels"]

    # ------------------------------------------------------------------ orders

    def _insert(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        if not account.may_trade:
            raise No(28, "unauthorized")
        market = self.markets.get(p.get("instrument_name", ""))
        if market is None:
            raise No(5, "unknown instrument")
        price, amount, side = D(p["price"]), D(p["amount"]), p["direction"]
        tif = p.get("time_in_force", "good_till_cancelled")
        if tif not in ("good_till_cancelled", "immediate_or_cancel"):
            raise No(25, "invalid time in force")
        if tif == "immediate_or_cancel" and p.get("post_only"):
            raise No(6, "invalid request: IOC post order")
        self._check(market, side, price, amount, p.get("collar", "reject"))
        number = p.get("client_order_id")
        if number is not None:
            if not isinstance(number, int) or not 0 <= number < 1 << 64:
                raise No(12, "invalid order id")
            if number in session.numbers:
                raise No(2, "duplicate order id")
            session.numbers.add(number)
        if p.get("reduce_only"):
            held = self._held(account, market.name)
            if held == 0 or (held > 0) == (side == "buy"):
                raise No(37, "invalid state: reduce only")
            amount = min(amount, abs(held))
        elif self._spare(account) < self.margin_share * price * amount:
            raise No(24, "insufficient margin")
        created = float(self.now())
        order = Order(
            self.serial("00"), market, side, price, amount, p, session, not session.timeout_s, created
        )
        touch = self._touch(account, market, side)
        if p.get("post_only") and touch is not None and self._crosses(side, price, touch):
            if p.get("reject_post_only"):
                account.orders.append(order)
                self.remove(account, order, "immediate_cancel", why="insert")
                return order.row("insert")
            order.price = touch - market.tick if side == "buy" else touch + market.tick
        account.orders.append(order)
        fills = self._meet(account, order)
        if order.is_open and order.left > 0 and tif == "immediate_or_cancel":
            self.remove(account, order, "immediate_cancel", why="insert", fills=fills)
        elif order.is_open:
            displayed = market.bids if side == "buy" else market.asks
            order.ahead = displayed.get(order.price, D(0))
            self.push_order(account, order, "insert", fills)
        return order.row("insert", fills)

    def _check(self, market: Market, side: str, price: Decimal, amount: Decimal, collar: str) -> None:
        if price <= 0:
            raise No(13, "bad price")
        if price % market.tick:
            raise No(15, "price not on tick")
        if amount < market.least or amount % market.lot:
            raise No(14, "bad amount")
        low, high = market.collar
        if collar == "reject" and (price > high if side == "buy" else price < low):
            raise No(43, "price collar breach")

    def _find(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Order:
        if ("order_id" in p) == ("client_order_id" in p):
            raise No(6, "invalid request: one of order_id, client_order_id")
        for order in account.open():
            if "order_id" in p and order.order_id == p["order_id"]:
                return order
            is_ours = order.session is session
            if is_ours and "client_order_id" in p and order.p.get("client_order_id") == p["client_order_id"]:
                return order
        raise No(1, "order not found")

    def _amend(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        order = self._find(session, account, p)
        price, amount = D(p["price"]), D(p["amount"])
        self._check(order.market, order.side, price, amount, p.get("collar", "reject"))
        if amount <= order.done:
            self.remove(account, order, "client_cancel", why="amend")
            return order.row("amend")
        keeps = price == order.price and amount <= order.amount
        order.price, order.amount = price, amount
        fills: list[dict[str, Any]] = []
        if not keeps:
            displayed = order.market.bids if order.side == "buy" else order.market.asks
            order.ahead = displayed.get(price, D(0))
            fills = self._meet(account, order)
        if order.is_open:
            self.push_order(account, order, "amend", fills)
        return order.row("amend", fills)

    def _cancel(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        order = self._find(session, account, p)
        self.remove(account, order, "client_cancel")
        return order.row("cancel")

    def _cancel_all(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        orders = account.open()
        for order in orders:
            self.remove(account, order, "client_bulk_cancel")
        return len(orders)

    def remove(
        self,
        account: FakeAccount,
        order: Order,
        reason: str,
        why: str = "cancel",
        fills: list[dict[str, Any]] | None = None,
    ) -> None:
        order.status = "cancelled_partially_filled" if order.done else "cancelled"
        order.delete_reason, order.closed = reason, float(self.now())
        self.push_order(account, order, why, fills)

    # ------------------------------------------------------------------ matching

    @staticmethod
    def _crosses(side: str, price: Decimal, other: Decimal) -> bool:
        return price >= other if side == "buy" else price <= other

    def _touch(self, account: FakeAccount, market: Market, side: str) -> Decimal | None:
        """The best price on the other side, own orders included."""
        other = market.asks if side == "buy" else market.bids
        own = [o.price for o in account.open() if o.market is market and o.side != side]
        prices = [*other, *own]
        if not prices:
            return None
        return min(prices) if side == "buy" else max(prices)

    def _meet(self, account: FakeAccount, order: Order) -> list[dict[str, Any]]:
        """An order of ours takes what rests."""
        fills: list[dict[str, Any]] = []
        market, side = order.market, order.side
        other = market.asks if side == "buy" else market.bids
        while order.is_open and order.left > 0:
            touch = self._touch(account, market, side)
            if touch is None or not self._crosses(side, order.price, touch):
                break
            is_own = any(o.market is market and o.side != side and o.price == touch for o in account.open())
            if is_own:
                self.remove(account, order, "self_trade_prevention", why="insert", fills=fills)
                break
            size = min(order.left, other[touch])
            other[touch] -= size
            if not other[touch]:
                del other[touch]
            fills.append(self._fill(account, order, touch, size, "taker"))
        if not order.is_open and order.status == "filled":
            self.push_order(account, order, "insert", fills)
        return fills

    def _take(self, market: Market, side: str, price: Decimal, amount: Decimal) -> None:
        """A stranger's trade at this price: own orders at better ones stood before it, those at it wait for
        what was there when they came.
        """
        accounts = {id(account): account for _, account in self.keys.values()}.values()
        own = [
            (account, order)
            for account in accounts
            for order in account.open()
            if order.market is market and order.side != side and self._crosses(side, price, order.price)
        ]
        own.sort(key=lambda pair: pair[1].price, reverse=side == "sell")
        resting = market.bids if side == "sell" else market.asks
        left = amount
        for account, order in own:
            if order.price == price:
                before = min(order.ahead, left)
                order.ahead -= before
                left -= before
                if price in resting:
                    resting[price] = max(D(0), resting[price] - before)
            size = min(order.left, left)
            if size > 0:
                left -= size
                fill = self._fill(account, order, order.price, size, "maker")
                self.push_order(account, order, "fill", [fill])

    def _fill(
        self, account: FakeAccount, order: Order, price: Decimal, size: Decimal, role: str
    ) -> dict[str, Any]:
        order.done += size
        at = float(self.now_exact())
        order.status = "filled" if order.done >= order.amount else "partially_filled"
        if order.status == "filled":
            order.delete_reason, order.closed = "filled", at
        trade_id = self.serial("TT")
        fill = {
            "trade_id": trade_id,
            "price": price,
            "amount": size,
            "maker_taker": role,
            "time": at,
            "leg_index": 0,
        }
        order.fills.append(fill)
        rate = self.maker if role == "maker" else self.taker
        signed = size if order.side == "buy" else -size
        held, average = self.positions_of(account, order.market.name)
        account.positions[order.market.name] = (held + signed, price if held == 0 else average)
        trade = {
            "trade_type": "normal",
            "trade_id": trade_id,
            "order_id": order.order_id,
            "instrument_name": order.market.name,
            "direction": order.side,
            "price": price,
            "amount": size,
            "time": at,
            "position_after": held + signed,
            "maker_taker": role,
            "leg_index": 0,
        }
        if self.tells_fees:
            trade |= {"fee": rate * price * size, "fee_rate": rate, "fee_basis": price}
        for name in ("label", "client_order_id"):
            if name in order.p:
                trade[name] = order.p[name]
        account.trades.append(trade)
        if "USD" in account.cash:
            account.cash["USD"] -= rate * price * size
        self.push(account, "account.trade_history", [trade])
        self.push(account, "account.summary", self.summary(account))
        return fill

    def positions_of(self, account: FakeAccount, name: str) -> tuple[Decimal, Decimal]:
        return account.positions.get(name, (D(0), D(0)))

    def _held(self, account: FakeAccount, name: str) -> Decimal:
        return self.positions_of(account, name)[0]

    def _worth(self, account: FakeAccount) -> Decimal:
        return sum(account.cash.values(), D(0))

    def _spare(self, account: FakeAccount) -> Decimal:
        used = sum((order.price * order.left for order in account.open()), D(0))
        return self._worth(account) - self.margin_share * used

    def serial(self, prefix: str) -> str:
        self._serial += 1
        return f"{prefix}1E57{self._serial:08X}"

    # ------------------------------------------------------------------ pushes and reads

    def push_order(
        self, account: FakeAccount, order: Order, why: str, fills: list[dict[str, Any]] | None = None
    ) -> None:
        self.push(account, "account.orders", [order.row(why, fills)])

    def push(self, account: FakeAccount, channel: str, notification: Any) -> None:
        if self.drop_pushes and channel != "account.summary":
            self.drop_pushes -= 1
            return
        times = 1
        if self.repeat_pushes and channel != "account.summary":
            self.repeat_pushes -= 1
            times = 2
        message = text({"channel_name": channel, "notification": notification})
        for session in self._sessions:
            if session.account is account and channel in session.channels:
                for _ in range(times):
                    waiting = next((s.pending for s in self._sessions if s.pending is not None), None)
                    if waiting is not None:
                        waiting.append((session, message))
                    else:
                        session.send(message)

    def summary(self, account: FakeAccount) -> dict[str, Any]:
        rows = [
            {
                "currency": name,
                "balance": amount,
                "collateral_factor": 1,
                "collateral_index_price": None,
                "transactable": True,
            }
            for name, amount in account.cash.items()
        ]
        worth = self._worth(account)
        return {
            "cash": rows,
            "unrealised_pnl": 0,
            "session_realised_pnl": 0,
            "cash_collateral": worth,
            "margin": worth,
            "required_margin": 0,
            "remaining_margin": worth,
        }

    def freeze_lists(self, seconds: float) -> None:
        """`open_orders` shows what it shows now for so long."""
        with self.lock:
            self.stale_until = time.monotonic() + seconds
            self._stale = [o.row("existing") for _, a in self.keys.values() for o in a.open()]

    def _open_orders(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        if time.monotonic() < self.stale_until:
            return self._stale
        return [order.row("existing") for order in account.open()]

    def _paged(self, rows: list[dict[str, Any]], p: dict[str, Any], time_name: str) -> tuple[Any, Any]:
        names = p.get("instrument_names", "")
        low = p.get("time_low", 0)
        kept = [
            row
            for row in rows
            if (not names or row.get("instrument_name") in names.split(","))
            and row[time_name] >= low
            and ("label" not in p or row.get("label") == p["label"])
        ]
        kept.sort(key=lambda row: row[time_name], reverse=p.get("sort", "descending") == "descending")
        start = int(p.get("bookmark", "0"))
        size = min(p.get("limit", 1000), self.page)
        end = start + size
        return kept[start:end], str(end) if end < len(kept) else None

    def _order_history(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        ended = [o for o in account.orders if not o.is_open and (o.done or not self.hides_unfilled)]
        rows = [order.row("existing") for order in ended]
        for row in rows:
            del row["remaining_amount"], row["change_reason"]
        kept, bookmark = self._paged(rows, p, "close_time")
        return {"orders": kept, "bookmark": bookmark}

    def _trade_history(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        kept, bookmark = self._paged(account.trades, p, "time")
        return {"trades": kept, "bookmark": bookmark}

    def _transactions(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        kept, bookmark = self._paged(account.transactions, p, "time")
        return {"transactions": kept, "bookmark": bookmark}

    def _portfolio(self, session: _Session, account: FakeAccount, p: dict[str, Any]) -> Any:
        return [
            {"instrument_name": name, "position": held, "average_price": average, "mark_price": average}
            for name, (held, average) in account.positions.items()
        ]


class _Session:
    """One WebSocket of one client."""

    def __init__(self, fake: FakeThalex, made: socket.socket, data: bytes) -> None:
        self.fake = fake
        self.account: FakeAccount | None = None
        self.channels: set[str] = set()
        self.numbers: set[int] = set()
        self.timeout_s = 0
        self.heard_at = time.monotonic()
        self.pending: list[tuple[_Session, str]] | None = None
        self._made = made
        self._data = data
        self._out = threading.Lock()

    def tell(self, message: str) -> None:
        """After the answer of the request that is being handled."""
        if self.pending is not None:
            self.pending.append((self, message))
        else:
            self.send(message)

    def send(self, message: str) -> None:
        self._frame(1, message.encode())

    def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes((0x80 | opcode,))
        if size < 126:
            head += bytes((size,))
        elif size < 1 << 16:
            head += bytes((126,)) + size.to_bytes(2, "big")
        else:
            head += bytes((127,)) + size.to_bytes(8, "big")
        with self._out:
            try:
                self._made.sendall(head + payload)
            except OSError:
                pass

    def drop(self) -> None:
        try:
            self._made.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _read(self, size: int) -> bytes:
        while len(self._data) < size:
            piece = self._made.recv(65536)
            if not piece:
                raise OSError("ended")
            self._data += piece
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def serve(self) -> None:
        while True:
            try:
                first, second = self._read(2)
                size = second & 0x7F
                if size == 126:
                    size = int.from_bytes(self._read(2), "big")
                elif size == 127:
                    size = int.from_bytes(self._read(8), "big")
                mask = self._read(4)
                raw = self._read(size)
            except OSError:
                return
            payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(raw))
            self.heard_at = time.monotonic()
            opcode = first & 0x0F
            if opcode == 8:
                return
            if opcode == 9 and self.fake.answers_pings:
                self._frame(10, payload)
            elif opcode == 1:
                self.fake.handle(self, payload.decode())
