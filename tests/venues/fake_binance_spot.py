"""Binance spot on this machine: its REST and WebSocket API around a small matching core. Shares no code
with the adapter.

Written from the fact sheet and the documents' payloads: signatures are verified over exactly what was sent
(HMAC and Ed25519), time windows are kept, parameters that a method does not know are refused, filters,
weights, order counts and bans are counted, events are pushed to `userDataStream.subscribe.signature`. A
market is moved by the test: `book` sets what strangers rest, `trade` lets a stranger take. Orders of ours
wait behind what stood there when they came.

`fault` makes the next requests of a method go wrong; `calls` remembers every request that was understood.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

D = Decimal
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FINAL = ("FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH")

WEIGHTS = {
    "ping": 1,
    "time": 1,
    "exchangeInfo": 20,
    "order.place": 1,
    "order.cancel": 1,
    "order.amend.keepPriority": 4,
    "openOrders.cancelAll": 1,
    "order.status": 4,
    "openOrders.status": 6,
    "allOrders": 20,
    "myTrades": 20,
    "account.status": 20,
    "account.commission": 20,
    "userDataStream.subscribe.signature": 2,
}
FREE_WHEN_DONE = ("order.place", "order.cancel", "openOrders.cancelAll")
ROUTES = {
    ("GET", "/api/v3/ping"): "ping",
    ("GET", "/api/v3/time"): "time",
    ("GET", "/api/v3/exchangeInfo"): "exchangeInfo",
    ("POST", "/api/v3/order"): "order.place",
    ("DELETE", "/api/v3/order"): "order.cancel",
    ("PUT", "/api/v3/order/amend/keepPriority"): "order.amend.keepPriority",
    ("DELETE", "/api/v3/openOrders"): "openOrders.cancelAll",
    ("GET", "/api/v3/order"): "order.status",
    ("GET", "/api/v3/openOrders"): "openOrders.status",
    ("GET", "/api/v3/allOrders"): "allOrders",
    ("GET", "/api/v3/myTrades"): "myTrades",
    ("GET", "/api/v3/account"): "account.status",
    ("GET", "/api/v3/account/commission"): "account.commission",
}
PUBLIC = ("ping", "time", "exchangeInfo")
KNOWN: dict[str, set[str]] = {
    "ping": set(),
    "time": set(),
    "exchangeInfo": {"symbol", "symbols"},
    "order.place": {
        *("symbol", "side", "type", "timeInForce", "quantity", "price", "newClientOrderId"),
        *("newOrderRespType", "selfTradePreventionMode"),
    },
    "order.cancel": {"symbol", "orderId", "origClientOrderId", "newClientOrderId"},
    "order.amend.keepPriority": {"symbol", "orderId", "origClientOrderId", "newClientOrderId", "newQty"},
    "openOrders.cancelAll": {"symbol"},
    "order.status": {"symbol", "orderId", "origClientOrderId"},
    "openOrders.status": {"symbol"},
    "allOrders": {"symbol", "orderId", "startTime", "endTime", "limit"},
    "myTrades": {"symbol", "orderId", "startTime", "endTime", "fromId", "limit"},
    "account.status": {"omitZeroBalances"},
    "account.commission": {"symbol"},
    "userDataStream.subscribe.signature": set(),
}
NEEDED = {
    "order.place": ("symbol", "side", "type", "quantity", "price"),
    "order.cancel": ("symbol",),
    "order.amend.keepPriority": ("symbol", "newQty"),
    "openOrders.cancelAll": ("symbol",),
    "order.status": ("symbol",),
    "allOrders": ("symbol",),
    "myTrades": ("symbol",),
    "account.commission": ("symbol",),
}


class No(Exception):
    """A refusal."""

    def __init__(self, code: int, msg: str, status: int = 400, retry_s: float | None = None) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status, self.retry_s = code, msg, status, retry_s


@dataclass
class Symbol:
    name: str
    base: str
    quote: str
    tick: Decimal = D("0.01")
    step: Decimal = D("0.001")
    min_qty: Decimal = D("0.002")
    max_qty: Decimal = D(1000)
    min_notional: Decimal = D(5)
    max_orders: int = 200
    status: str = "TRADING"
    amend: bool = True
    stp: tuple[str, ...] = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT")
    old_notional: bool = False
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)


@dataclass(eq=False)
class Order:
    number: int
    client_id: str
    symbol: Symbol
    side: str
    kind: str
    tif: str
    price: Decimal
    qty: Decimal
    stp: str
    at_ms: int
    status: str = "NEW"
    done: Decimal = D(0)
    value: Decimal = D(0)
    ahead: Decimal = D(0)
    changed_ms: int = 0

    @property
    def left(self) -> Decimal:
        return self.qty - self.done


@dataclass
class Fault:
    kind: str
    on: str | None
    args: dict[str, Any]


class FakeAccount:
    """One API key with its balances, orders and trades."""

    def __init__(
        self, api_key: str, check: Callable[[bytes, str], bool], balances: dict[str, Decimal]
    ) -> None:
        self.api_key = api_key
        self.check = check
        self.free = dict(balances)
        self.locked: dict[str, Decimal] = dict.fromkeys(balances, D(0))
        self.orders: list[Order] = []
        self.trades: list[dict[str, Any]] = []
        self.counts: dict[str, tuple[int, int]] = {}
        self.can_trade = True
        self.revoked = False

    def open(self, symbol: Symbol | None = None) -> list[Order]:
        return [o for o in self.orders if o.status not in FINAL and symbol in (None, o.symbol)]


class FakeBinanceSpot:
    """See the module docstring. Listens on 127.0.0.1 from the moment it is made until `close`."""

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        self.symbols = {s.name: s for s in symbols or (Symbol("BTCUSDT", "BTC", "USDT"),)}
        self.accounts: dict[str, FakeAccount] = {}
        self.lock = threading.RLock()
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.skew_ms = 0
        self.weight_limit = 6000
        self.orders_limit = 100
        self.maker, self.taker = D("0.0002"), D("0.0005")
        self.pushes_first = False
        self.drop_pushes = 0
        self.repeat_pushes = 0
        self.refuse_sockets = False
        self.stp_said: str | None = None
        self.banned_until = 0.0
        self.retry_s = 1.0
        self.page = 1000
        self.connections = 0
        self._faults: list[Fault] = []
        self._numbers = 100
        self._trade_ids = 1000
        self._weight = (0, 0)
        self._blocked_until = 0.0
        self._subs: list[_WebSocket] = []
        self._open: set[_Connection] = set()
        self._timers: list[threading.Timer] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.rest = f"http://127.0.0.1:{self.port}/api"
        self.socket = f"ws://127.0.0.1:{self.port}/ws-api/v3"
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    # ------------------------------------------------------------------ for tests

    def hmac_account(self, api_key: str, secret: str, **balances: str) -> FakeAccount:
        def check(payload: bytes, signature: str) -> bool:
            made = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
            return hmac.compare_digest(made, signature.lower())

        return self._account(api_key, check, balances)

    def ed25519_account(self, api_key: str, public: Any, **balances: str) -> FakeAccount:
        from cryptography.exceptions import InvalidSignature

        def check(payload: bytes, signature: str) -> bool:
            try:
                public.verify(base64.b64decode(signature, validate=True), payload)
            except (InvalidSignature, ValueError):
                return False
            return True

        return self._account(api_key, check, balances)

    def _account(
        self, api_key: str, check: Callable[[bytes, str], bool], balances: dict[str, str]
    ) -> FakeAccount:
        made = FakeAccount(api_key, check, {asset: D(amount) for asset, amount in balances.items()})
        self.accounts[api_key] = made
        return made

    def fault(self, kind: str, on: str | None = None, n: int = 1, **args: Any) -> None:
        with self.lock:
            self._faults += [Fault(kind, on, args) for _ in range(n)]

    def book(self, symbol: str, bids: dict[str, str], asks: dict[str, str]) -> None:
        """What strangers rest; orders of ours keep what stands before them, never more than there is."""
        with self.lock:
            market = self.symbols[symbol]
            market.bids = {D(p): D(q) for p, q in bids.items()}
            market.asks = {D(p): D(q) for p, q in asks.items()}
            for account in self.accounts.values():
                for order in account.open(market):
                    side = market.bids if order.side == "BUY" else market.asks
                    order.ahead = min(order.ahead, side.get(order.price, D(0)))

    def trade(self, symbol: str, side: str, price: str, qty: str) -> None:
        """A stranger takes up to `qty` at `price` or better for him."""
        with self.lock:
            market, limit, left = self.symbols[symbol], D(price), D(qty)
            ours = "SELL" if side == "BUY" else "BUY"
            resting = [
                (order, account)
                for account in self.accounts.values()
                for order in account.open(market)
                if order.side == ours and (order.price <= limit if ours == "SELL" else order.price >= limit)
            ]
            resting.sort(
                key=lambda pair: (pair[0].price if ours == "SELL" else -pair[0].price, pair[0].number)
            )
            for order, account in resting:
                if order.price == limit:
                    passed = min(order.ahead, left)
                    order.ahead -= passed
                    for other, _ in resting:
                        if other is not order and other.price == order.price:
                            other.ahead = max(D(0), other.ahead - passed)
                    left -= passed
                part = min(left, order.left)
                if part > 0:
                    left -= part
                    self._push_all(account, self._fill(account, order, order.price, part, True))

    def cut(self) -> None:
        """Cut every WebSocket."""
        for sub in self._sockets():
            sub.drop()

    def mute(self) -> None:
        """Every WebSocket that is open now stays open, and nothing comes over it any more, pongs neither."""
        for sub in self._sockets():
            sub.is_mute = True

    def tell_all(self, event: dict[str, Any], *, wrapped: bool = True) -> None:
        for sub in self._sockets():
            sub.send_json({"subscriptionId": 0, "event": event} if wrapped else event)

    def tell_raw(self, text: bytes) -> None:
        for sub in self._sockets():
            sub.send_raw(text)

    def end_subscriptions(self) -> None:
        for sub in self._sockets():
            sub.end_subscription()

    def pongs(self) -> int:
        return sum(len(sub.pongs) for sub in self._sockets())

    def ping_all(self) -> None:
        for sub in self._sockets():
            sub.send_frame(0x9, b"are you there")

    @property
    def subscribed(self) -> int:
        with self.lock:
            return len([sub for sub in self._subs if sub.account is not None])

    @property
    def sockets(self) -> int:
        return len(self._sockets())

    def methods(self, transport: str | None = None) -> list[str]:
        return [method for how, method, _ in self.calls if transport in (None, how)]

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        for timer in self._timers:
            timer.cancel()
        for connection in list(self._open):
            connection.drop()

    def _sockets(self) -> list[_WebSocket]:
        with self.lock:
            return [c for c in self._open if isinstance(c, _WebSocket)]

    # ------------------------------------------------------------------ the core

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew_ms

    def handle(
        self, method: str, params: dict[str, str], account: FakeAccount | None
    ) -> tuple[Any, list[Any]]:
        """(result, pushes)."""
        unknown = set(params) - KNOWN[method] - {"apiKey", "timestamp", "recvWindow", "signature"}
        if unknown:
            raise No(-1104, f"Not all sent parameters were read; sent {sorted(unknown)}.")
        for name in NEEDED.get(method, ()):
            if not params.get(name):
                raise No(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        if "symbol" in params and params["symbol"] not in self.symbols:
            raise No(-1121, "Invalid symbol.")
        if method == "ping":
            return {}, []
        if method == "time":
            return {"serverTime": self.now_ms()}, []
        if method == "exchangeInfo":
            return self._exchange_info(), []
        assert account is not None
        result = getattr(self, "_" + method.replace(".", "_"))(params, account)
        return result if isinstance(result, tuple) else (result, [])

    def check_time(self, params: dict[str, str]) -> None:
        if "timestamp" not in params:
            raise No(-1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.")
        stamp, window = int(params["timestamp"]), float(params.get("recvWindow", 5000))
        now = self.now_ms()
        if stamp >= now + 1000:
            raise No(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now - stamp > window:
            raise No(-1021, "Timestamp for this request is outside of the recvWindow.")

    def find_account(self, api_key: str | None) -> FakeAccount:
        if not api_key:
            raise No(-2014, "API-key format invalid.", 401)
        account = self.accounts.get(api_key)
        if account is None or account.revoked:
            raise No(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        return account

    def weigh(self, method: str, params: dict[str, str]) -> None:
        """Count the request; 429 when too many, 418 for who goes on."""
        now = time.time()
        if now < self.banned_until:
            until = int(self.banned_until * 1000)
            raise No(
                -1003,
                f"Way too much request weight used; IP banned until {until}.",
                418,
                self.banned_until - now,
            )
        if now < self._blocked_until:
            self.banned_until = now + 2.0
            raise No(
                -1003,
                f"Way too much request weight used; IP banned until {int(now * 1000) + 2000}.",
                418,
                2.0,
            )
        weight = WEIGHTS[method]
        if method == "openOrders.status" and "symbol" not in params:
            weight = 80
        minute, used = self._weight
        if int(now // 60) != minute:
            minute, used = int(now // 60), 0
        self._weight = (minute, used + weight)
        if used + weight > self.weight_limit:
            self._blocked_until = now + self.retry_s
            raise No(-1003, "Too much request weight used; current limit is exceeded.", 429, self.retry_s)

    def give_back(self, method: str) -> None:
        if method in FREE_WHEN_DONE:
            self._weight = (self._weight[0], max(0, self._weight[1] - WEIGHTS[method]))

    def rate_limits(self, account: FakeAccount | None) -> list[dict[str, Any]]:
        rows = [("REQUEST_WEIGHT", "MINUTE", 1, self.weight_limit, self._weight[1])]
        if account is not None:
            rows.append(("ORDERS", "SECOND", 10, self.orders_limit, self._order_count(account)))
            rows.append(("ORDERS", "DAY", 1, 200_000, len(account.orders)))
        return [
            {"rateLimitType": k, "interval": i, "intervalNum": n, "limit": limit, "count": count}
            for k, i, n, limit, count in rows
        ]

    def _order_count(self, account: FakeAccount, add: int = 0) -> int:
        window, count = account.counts.get("10s", (0, 0))
        now = int(time.time() // 10)
        if window != now:
            count = 0
        account.counts["10s"] = (now, count + add)
        return count + add

    def _exchange_info(self) -> dict[str, Any]:
        limits = [
            {k: v for k, v in row.items() if k != "count"}
            for row in self.rate_limits(FakeAccount("", lambda a, b: False, {}))
        ]
        return {
            "timezone": "UTC",
            "serverTime": self.now_ms(),
            "rateLimits": limits,
            "exchangeFilters": [],
            "symbols": [self._symbol_row(symbol) for symbol in self.symbols.values()],
        }

    def _symbol_row(self, s: Symbol) -> dict[str, Any]:
        notional: dict[str, Any] = {
            "filterType": "NOTIONAL",
            "minNotional": f"{s.min_notional:.8f}",
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        }
        if s.old_notional:
            notional = {"filterType": "MIN_NOTIONAL", "minNotional": f"{s.min_notional:.8f}"}
            notional |= {"applyToMarket": True, "avgPriceMins": 5}
        return {
            "symbol": s.name,
            "status": s.status,
            "baseAsset": s.base,
            "baseAssetPrecision": 8,
            "quoteAsset": s.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "isSpotTradingAllowed": True,
            "amendAllowed": s.amend,
            "cancelReplaceAllowed": True,
            "permissionSets": [["SPOT"]],
            "permissions": [],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER" if "EXPIRE_MAKER" in s.stp else "NONE",
            "allowedSelfTradePreventionModes": list(s.stp),
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": f"{s.tick:.8f}",
                    "maxPrice": "1000000.00000000",
                    "tickSize": f"{s.tick:.8f}",
                },
                {
                    "filterType": "LOT_SIZE",
                    "minQty": f"{s.min_qty:.8f}",
                    "maxQty": f"{s.max_qty:.8f}",
                    "stepSize": f"{s.step:.8f}",
                },
                {"filterType": "ICEBERG_PARTS", "limit": 10},
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": "0.00000000",
                    "maxQty": "100.0",
                    "stepSize": "0.00000000",
                },
                notional,
                {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": s.max_orders},
                {"filterType": "A_FILTER_OF_TOMORROW", "limit": "7"},
            ],
        }

    # orders

    def _order_place(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:
        market = self.symbols[p["symbol"]]
        side, kind, tif = p["side"], p["type"], p.get("timeInForce", "")
        if kind not in ("LIMIT", "LIMIT_MAKER"):
            raise No(-1116, "Invalid orderType.")
        if kind == "LIMIT_MAKER" and tif:
            raise No(-1106, "Parameter 'timeInForce' sent when not required.")
        if kind == "LIMIT" and tif not in ("GTC", "IOC", "FOK"):
            raise No(-1115, "Invalid timeInForce.")
        if side not in ("BUY", "SELL"):
            raise No(-1117, "Invalid side.")
        mode = p.get("selfTradePreventionMode", "EXPIRE_MAKER")
        if mode not in market.stp:
            raise No(-1130, "Data sent for parameter 'selfTradePreventionMode' is not valid.")
        price, qty = D(p["price"]), D(p["quantity"])
        client_id = p.get("newClientOrderId") or f"fake{self._numbers}"
        if not account.can_trade:
            raise No(-2010, "This account may not place or cancel orders.")
        if market.status != "TRADING":
            raise No(-1013, "Market is closed.")
        self._filters(market, price, qty, len(account.open(market)))
        if any(o.client_id == client_id for o in account.open()):
            raise No(-2010, "Duplicate order sent.")
        if self._order_count(account) >= self.orders_limit:
            raise No(
                -1015, f"Too many new orders; current limit is {self.orders_limit} orders per 10 SECOND.", 429
            )
        theirs = market.asks if side == "BUY" else market.bids
        mine = sorted(
            (o for o in account.open(market) if o.side != side),
            key=lambda o: (o.price if side == "BUY" else -o.price, o.number),
        )

        def crosses(other: Decimal) -> bool:
            return other <= price if side == "BUY" else other >= price

        if kind == "LIMIT_MAKER" and (
            any(crosses(at) for at in theirs) or any(crosses(o.price) for o in mine)
        ):
            raise No(-2010, "Order would immediately match and take.")
        asset, amount = (market.quote, price * qty) if side == "BUY" else (market.base, qty)
        if account.free.get(asset, D(0)) < amount:
            raise No(-2010, "Account has insufficient balance for requested action.")
        self._numbers += 1
        self._order_count(account, 1)
        now = self.now_ms()
        order = Order(self._numbers, client_id, market, side, kind, tif or "GTC", price, qty, mode, now)
        order.changed_ms = now
        account.orders.append(order)
        account.free[asset] -= amount
        account.locked[asset] = account.locked.get(asset, D(0)) + amount
        pushes = [self._report(order, "NEW")]
        available = sum((q for at, q in theirs.items() if crosses(at)), D(0))
        available += sum((o.left for o in mine if crosses(o.price)), D(0))
        if order.tif == "FOK" and available < qty:
            pushes += self._end(account, order, "EXPIRED", "EXPIRED")
        else:
            pushes += self._take(account, order, theirs, mine, crosses)
        if order.status not in FINAL:
            if order.tif in ("IOC", "FOK"):
                pushes += self._end(account, order, "EXPIRED", "EXPIRED")
            else:
                order.ahead = (market.bids if side == "BUY" else market.asks).get(price, D(0))
        pushes.append(self._position(account, market))
        return self._place_row(order), pushes

    def _take(
        self,
        account: FakeAccount,
        order: Order,
        theirs: dict[Decimal, Decimal],
        mine: list[Order],
        crosses: Callable[[Decimal], bool],
    ) -> list[Any]:
        pushes: list[Any] = []
        prices = sorted({*theirs, *(o.price for o in mine)}, reverse=order.side == "SELL")
        for at in prices:
            if not crosses(at) or order.left <= 0:
                break
            part = min(order.left, theirs.get(at, D(0)))
            if part > 0:
                theirs[at] -= part
                if not theirs[at]:
                    del theirs[at]
                pushes += self._fill(account, order, at, part, False)
            for own in mine:
                if own.price != at or order.left <= 0 or own.status in FINAL:
                    continue
                if order.stp == "NONE":
                    part = min(order.left, own.left)
                    pushes += self._fill(account, own, at, part, True)
                    pushes += self._fill(account, order, at, part, False)
                    continue
                if order.stp in ("EXPIRE_MAKER", "EXPIRE_BOTH"):
                    pushes += self._end(account, own, "TRADE_PREVENTION", "EXPIRED_IN_MATCH")
                if order.stp in ("EXPIRE_TAKER", "EXPIRE_BOTH"):
                    return pushes + self._end(account, order, "TRADE_PREVENTION", "EXPIRED_IN_MATCH")
        return pushes

    def _filters(self, market: Symbol, price: Decimal, qty: Decimal, resting: int) -> None:
        if price <= 0 or price % market.tick or price > 1_000_000:
            raise No(-1013, "Filter failure: PRICE_FILTER")
        if qty < market.min_qty or qty > market.max_qty or qty % market.step:
            raise No(-1013, "Filter failure: LOT_SIZE")
        if price * qty < market.min_notional:
            raise No(
                -1013, "Filter failure: MIN_NOTIONAL" if market.old_notional else "Filter failure: NOTIONAL"
            )
        if resting >= market.max_orders:
            raise No(-2010, "Filter failure: MAX_NUM_ORDERS")

    def _find(self, p: dict[str, str], account: FakeAccount, code: int, msg: str) -> Order:
        number, client_id = p.get("orderId"), p.get("origClientOrderId")
        if not number and not client_id:
            raise No(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        for order in reversed(account.orders):
            if order.symbol.name == p["symbol"] and (
                str(order.number) == number if number else order.client_id == client_id
            ):
                return order
        raise No(code, msg)

    def _order_cancel(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:
        order = self._find(p, account, -2011, "Unknown order sent.")
        if order.status in FINAL:
            raise No(-2011, "Unknown order sent.")
        pushes = self._end(account, order, "CANCELED", "CANCELED", p.get("newClientOrderId"))
        pushes.append(self._position(account, order.symbol))
        return self._cancel_row(order), pushes

    def _openOrders_cancelAll(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:  # noqa: N802
        orders = account.open(self.symbols[p["symbol"]])
        if not orders:
            raise No(-2011, "Unknown order sent.")
        rows, pushes = [], []
        for order in orders:
            pushes += self._end(account, order, "CANCELED", "CANCELED")
            rows.append(self._cancel_row(order))
        pushes.append(self._position(account, orders[0].symbol))
        return rows, pushes

    def _order_amend_keepPriority(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:  # noqa: N802
        order = self._find(p, account, -2013, "Order does not exist.")
        qty = D(p["newQty"])
        if not order.symbol.amend:
            raise No(-2038, "Order amend is not supported for this symbol.")
        if order.status in FINAL:
            raise No(-2038, "Order does not exist.")
        if qty >= order.qty:
            raise No(-2038, "Order amend (quantity increase) is not supported.")
        if qty <= order.done or qty % order.symbol.step:
            raise No(-1013, "Filter failure: LOT_SIZE")
        market, was = order.symbol, order.qty
        asset = market.quote if order.side == "BUY" else market.base
        freed = (was - qty) * (order.price if order.side == "BUY" else D(1))
        account.locked[asset] -= freed
        account.free[asset] += freed
        old_id = order.client_id
        order.qty = qty
        order.client_id = p.get("newClientOrderId") or f"amended{self._numbers}"
        order.changed_ms = self.now_ms()
        report = self._report(order, "REPLACED") | {"C": old_id}
        amended = {
            "symbol": market.name,
            "orderId": order.number,
            "orderListId": -1,
            "origClientOrderId": old_id,
            "clientOrderId": order.client_id,
            "price": f"{order.price:.8f}",
            "qty": f"{qty:.8f}",
            "executedQty": f"{order.done:.8f}",
            "preventedQty": "0.00000000",
            "status": order.status,
            "timeInForce": order.tif,
            "type": order.kind,
            "side": order.side,
            "workingTime": order.at_ms,
            "selfTradePreventionMode": order.stp,
        }
        answer = {"transactTime": order.changed_ms, "executionId": 75, "amendedOrder": amended}
        return answer, [report, self._position(account, market)]

    def _order_status(self, p: dict[str, str], account: FakeAccount) -> Any:
        return self._row(self._find(p, account, -2013, "Order does not exist."))

    def _openOrders_status(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        market = self.symbols[p["symbol"]] if "symbol" in p else None
        return [self._row(order) for order in account.open(market)]

    def _allOrders(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        rows = [
            o for o in account.orders if o.symbol.name == p["symbol"] and o.number >= int(p.get("orderId", 0))
        ]
        return [self._row(order) for order in rows[: min(int(p.get("limit", 500)), self.page)]]

    def _myTrades(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        start, end = int(p.get("startTime", 0)), int(p.get("endTime", 1 << 62))
        if "fromId" in p and ("startTime" in p or "endTime" in p):
            raise No(-1128, "Combination of optional parameters invalid.")
        if "startTime" in p and "endTime" in p and end - start > 86_400_000:
            raise No(-1127, "More than 24 hours between startTime and endTime.")
        rows = [
            t
            for t in account.trades
            if t["symbol"] == p["symbol"] and start <= t["time"] <= end and t["id"] >= int(p.get("fromId", 0))
        ]
        limit = min(int(p.get("limit", 500)), self.page)
        return rows[:limit] if "fromId" in p or "startTime" in p else rows[-limit:]

    def _account_status(self, p: dict[str, str], account: FakeAccount) -> Any:
        is_short = p.get("omitZeroBalances") == "true"
        assets = sorted({*account.free, *account.locked})
        return {
            "makerCommission": int(self.maker * 10_000),
            "takerCommission": int(self.taker * 10_000),
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {
                "maker": f"{self.maker:.8f}",
                "taker": f"{self.taker:.8f}",
                "buyer": "0.00000000",
                "seller": "0.00000000",
            },
            "canTrade": account.can_trade,
            "requireSelfTradePrevention": False,
            "updateTime": self.now_ms(),
            "accountType": "SPOT",
            "balances": [
                {
                    "asset": a,
                    "free": f"{account.free.get(a, D(0)):.8f}",
                    "locked": f"{account.locked.get(a, D(0)):.8f}",
                }
                for a in assets
                if not is_short or account.free.get(a) or account.locked.get(a)
            ],
            "uid": 354937868,
        }

    def _account_commission(self, p: dict[str, str], account: FakeAccount) -> Any:
        none = {"maker": "0.00000000", "taker": "0.00000000", "buyer": "0.00000000", "seller": "0.00000000"}
        return {
            "symbol": p["symbol"],
            "standardCommission": none | {"maker": f"{self.maker:.8f}", "taker": f"{self.taker:.8f}"},
            "specialCommission": none | {"maker": "0.00000100"},
            "taxCommission": none,
            "discount": {
                "enabledForAccount": True,
                "enabledForSymbol": True,
                "discountAsset": "BNB",
                "discount": "0.75000000",
            },
        }

    # what happens to an order

    def _fill(
        self, account: FakeAccount, order: Order, price: Decimal, qty: Decimal, is_maker: bool
    ) -> list[Any]:
        market = order.symbol
        order.done += qty
        order.value += price * qty
        order.status = "FILLED" if order.left == 0 else "PARTIALLY_FILLED"
        order.changed_ms = self.now_ms()
        rate = self.maker if is_maker else self.taker
        if order.side == "BUY":
            account.locked[market.quote] -= order.price * qty
            account.free[market.quote] += (order.price - price) * qty
            fee, fee_asset = qty * rate, market.base
            account.free[market.base] = account.free.get(market.base, D(0)) + qty - fee
        else:
            account.locked[market.base] -= qty
            fee, fee_asset = price * qty * rate, market.quote
            account.free[market.quote] = account.free.get(market.quote, D(0)) + price * qty - fee
        self._trade_ids += 1
        account.trades.append(
            {
                "symbol": market.name,
                "id": self._trade_ids,
                "orderId": order.number,
                "orderListId": -1,
                "price": f"{price:.8f}",
                "qty": f"{qty:.8f}",
                "quoteQty": f"{price * qty:.8f}",
                "commission": f"{fee:.8f}",
                "commissionAsset": fee_asset,
                "time": order.changed_ms,
                "isBuyer": order.side == "BUY",
                "isMaker": is_maker,
                "isBestMatch": True,
            }
        )
        report = self._report(order, "TRADE") | {
            "l": f"{qty:.8f}",
            "L": f"{price:.8f}",
            "n": f"{fee:.8f}",
            "N": fee_asset,
            "t": self._trade_ids,
            "m": is_maker,
        }
        return [report, self._position(account, market)] if is_maker else [report]

    def _end(
        self, account: FakeAccount, order: Order, execution: str, status: str, cancel_id: str | None = None
    ) -> list[Any]:
        market = order.symbol
        asset, amount = (
            (market.quote, order.price * order.left) if order.side == "BUY" else (market.base, order.left)
        )
        account.locked[asset] -= amount
        account.free[asset] += amount
        order.status = status
        order.changed_ms = self.now_ms()
        report = self._report(order, execution)
        if execution == "CANCELED":
            report |= {"C": order.client_id, "c": cancel_id or f"cancel{order.number}"}
        return [report]

    # shapes

    def _place_row(self, order: Order) -> dict[str, Any]:
        return self._base_row(order) | {
            "clientOrderId": order.client_id,
            "transactTime": order.at_ms,
            "workingTime": order.at_ms,
            "selfTradePreventionMode": self.stp_said or order.stp,
        }

    def _cancel_row(self, order: Order) -> dict[str, Any]:
        return self._base_row(order) | {
            "origClientOrderId": order.client_id,
            "clientOrderId": f"cancel{order.number}",
            "transactTime": order.changed_ms,
            "selfTradePreventionMode": order.stp,
        }

    def _row(self, order: Order) -> dict[str, Any]:
        return self._base_row(order) | {
            "clientOrderId": order.client_id,
            "stopPrice": "0.00000000",
            "icebergQty": "0.00000000",
            "time": order.at_ms,
            "updateTime": order.changed_ms,
            "isWorking": True,
            "workingTime": order.at_ms,
            "selfTradePreventionMode": order.stp,
        }

    def _base_row(self, order: Order) -> dict[str, Any]:
        return {
            "symbol": order.symbol.name,
            "orderId": order.number,
            "orderListId": -1,
            "price": f"{order.price:.8f}",
            "origQty": f"{order.qty:.8f}",
            "executedQty": f"{order.done:.8f}",
            "origQuoteOrderQty": "0.00000000",
            "cummulativeQuoteQty": f"{order.value:.8f}",
            "status": order.status,
            "timeInForce": order.tif,
            "type": order.kind,
            "side": order.side,
        }

    def _report(self, order: Order, execution: str) -> dict[str, Any]:
        now = self.now_ms()
        return {
            "e": "executionReport",
            "E": now,
            "s": order.symbol.name,
            "c": order.client_id,
            "S": order.side,
            "o": order.kind,
            "f": order.tif,
            "q": f"{order.qty:.8f}",
            "p": f"{order.price:.8f}",
            "P": "0.00000000",
            "F": "0.00000000",
            "g": -1,
            "C": "",
            "x": execution,
            "X": order.status,
            "r": "NONE",
            "i": order.number,
            "l": "0.00000000",
            "z": f"{order.done:.8f}",
            "L": "0.00000000",
            "n": "0",
            "N": None,
            "T": order.changed_ms,
            "t": -1,
            "I": 8641984,
            "w": order.status in ("NEW", "PARTIALLY_FILLED"),
            "m": False,
            "M": False,
            "O": order.at_ms,
            "Z": f"{order.value:.8f}",
            "Y": "0.00000000",
            "Q": "0.00000000",
            "W": order.at_ms,
            "V": order.stp,
        }

    def _position(self, account: FakeAccount, market: Symbol) -> dict[str, Any]:
        now = self.now_ms()
        return {
            "e": "outboundAccountPosition",
            "E": now,
            "u": now,
            "B": [
                {
                    "a": a,
                    "f": f"{account.free.get(a, D(0)):.8f}",
                    "l": f"{account.locked.get(a, D(0)):.8f}",
                }
                for a in (market.base, market.quote)
            ],
        }

    def _push_all(self, account: FakeAccount, events: list[Any]) -> None:
        for event in events:
            if self.drop_pushes > 0 and event["e"] == "executionReport":
                self.drop_pushes -= 1
                continue
            times = 1
            if self.repeat_pushes > 0 and event["e"] == "executionReport":
                self.repeat_pushes -= 1
                times = 2
            for sub in list(self._subs):
                if sub.account is account:
                    for _ in range(times):
                        sub.send_json({"subscriptionId": 0, "event": event})

    # ------------------------------------------------------------------ transport

    def take_fault(self, method: str) -> Fault | None:
        for index, fault in enumerate(self._faults):
            if fault.on in (None, method):
                return self._faults.pop(index)
        return None

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            threading.Thread(target=self._serve, args=(made,), daemon=True).start()

    def _serve(self, made: socket.socket) -> None:
        connection: _Connection = _Connection(self, made)
        with self.lock:
            self._open.add(connection)
        try:
            connection.serve()
        except OSError:
            pass
        finally:
            connection.drop()
            with self.lock:
                self._open.discard(connection)


class _Connection:
    """HTTP/1.1 on one socket, until it becomes a WebSocket."""

    def __init__(self, fake: FakeBinanceSpot, made: socket.socket) -> None:
        self.fake, self.made = fake, made
        self.data = b""

    def drop(self) -> None:
        try:
            self.made.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.made.close()

    def more(self) -> None:
        piece = self.made.recv(65536)
        if not piece:
            raise OSError("gone")
        self.data += piece

    def serve(self) -> None:
        while True:
            while b"\r\n\r\n" not in self.data:
                self.more()
            head, self.data = self.data.split(b"\r\n\r\n", 1)
            first, *lines = head.decode("latin-1").split("\r\n")
            verb, target, _ = first.split(" ")
            headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            if headers.get("upgrade", "").lower() == "websocket":
                self._upgrade(headers)
                return
            size = int(headers.get("content-length", "0"))
            while len(self.data) < size:
                self.more()
            body, self.data = self.data[:size], self.data[size:]
            if not self._http(verb, target, headers, body.decode()):
                return

    def _upgrade(self, headers: dict[str, str]) -> None:
        fake = self.fake
        if fake.refuse_sockets:
            self.made.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        accept = base64.b64encode(
            hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()
        ).decode()
        self.made.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        ws = _WebSocket(fake, self.made, self.data)
        with fake.lock:
            fake._open.add(ws)
        try:
            ws.serve()
        finally:
            with fake.lock:
                fake._open.discard(ws)
                if ws in fake._subs:
                    fake._subs.remove(ws)

    def _http(self, verb: str, target: str, headers: dict[str, str], body: str) -> bool:
        """False: the connection ends."""
        fake = self.fake
        path, _, query = target.partition("?")
        method = ROUTES.get((verb, path))
        if method is None:
            self._reply(404, b"<html><body>404 Not found</body></html>", None, kind="text/html")
            return True
        payload = query + body
        params = dict(parse_qsl(payload, keep_blank_values=True))
        with fake.lock:
            fault = fake.take_fault(method)
            kind = fault.kind if fault else ""
            if kind == "close_before":
                return False
            if kind == "lose_command":
                fake.later(5.0, self.drop)
                return True
            account: FakeAccount | None = None
            pushes: list[Any] = []
            try:
                if kind == "error":
                    assert fault is not None
                    raise No(**fault.args)
                fake.weigh(method, params)
                if method not in PUBLIC:
                    account = fake.find_account(headers.get("x-mbx-apikey"))
                    signed, mark, signature = payload.rpartition("&signature=")
                    if not mark or not account.check(signed.encode(), dict(parse_qsl("s=" + signature))["s"]):
                        raise No(-1022, "Signature for this request is not valid.")
                    fake.check_time(params)
                if kind not in ("html", "redirect"):
                    fake.calls.append(("http", method, params))
                    result, pushes = fake.handle(method, params, account)
                    fake.give_back(method)
                    status, answer, retry = 200, json.dumps(result, separators=(",", ":")).encode(), None
            except No as no:
                status, retry = no.status, no.retry_s
                answer = json.dumps({"code": no.code, "msg": no.msg}).encode()
            if kind == "html":
                assert fault is not None
                self._reply(
                    fault.args.get("status", 502), b"<html>Bad Gateway</html>", None, kind="text/html"
                )
                return True
            if kind == "redirect":
                self._reply(302, b"", None, extra="Location: http://127.0.0.1:1/api\r\n")
                return True
            if kind == "error_after":
                assert fault is not None
                status = fault.args["status"]
                answer = json.dumps({"code": fault.args["code"], "msg": fault.args["msg"]}).encode()
            if kind == "garbage":
                answer = b'{"surprise":1}'
            if account is not None and pushes:
                fake._push_all(account, pushes)
            extra = f"X-MBX-USED-WEIGHT-1M: {fake._weight[1]}\r\n"
            if account is not None and method == "order.place":
                extra += f"X-MBX-ORDER-COUNT-10S: {fake._order_count(account)}\r\n"
        if kind == "close_after":
            return False
        if kind == "lose_answer":
            fake.later(5.0, self.drop)
            return True
        if kind == "late_answer":
            assert fault is not None
            time.sleep(fault.args.get("late_s", 0.7))
        if kind == "truncate":
            self.made.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer[:-20])
            )
            return False
        if kind == "chunked":
            half = len(answer) // 2
            self.made.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
                % (half, answer[:half], len(answer) - half, answer[half:])
            )
            return True
        self._reply(status, answer, retry, extra=extra)
        return True

    def _reply(
        self,
        status: int,
        body: bytes,
        retry: float | None,
        *,
        kind: str = "application/json",
        extra: str = "",
    ) -> None:
        if retry is not None:
            extra += f"Retry-After: {max(1, round(retry))}\r\n"
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self.made.sendall(head.encode() + body)


class _WebSocket(_Connection):
    """The WS API on one socket."""

    def __init__(self, fake: FakeBinanceSpot, made: socket.socket, data: bytes) -> None:
        super().__init__(fake, made)
        self.data = data
        self.account: FakeAccount | None = None
        self.is_mute = False
        self.pongs: deque[bytes] = deque(maxlen=100)
        self._write = threading.Lock()
        self._subscriptions = 0

    def send_frame(self, opcode: int, payload: bytes) -> None:
        if self.is_mute:
            return
        size = len(payload)
        head = bytes((0x80 | opcode,))
        head += (
            bytes((size,))
            if size < 126
            else (b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big"))
        )
        try:
            with self._write:
                self.made.sendall(head + payload)
        except OSError:
            pass

    def send_json(self, message: Any) -> None:
        self.send_raw(json.dumps(message, separators=(",", ":")).encode())

    def send_raw(self, text: bytes) -> None:
        self.send_frame(0x1, text)

    def _exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            self.more()
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def serve(self) -> None:
        while True:
            first, second = self._exactly(2)
            assert second & 0x80, "a client must mask"
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
            mask = self._exactly(4)
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self._exactly(size)))
            opcode = first & 0x0F
            if opcode == 0x8:
                self.send_frame(0x8, payload)
                return
            if opcode == 0x9:
                self.send_frame(0xA, payload)
            elif opcode == 0xA:
                self.pongs.append(payload)
            elif not self._request(payload):
                return

    def _request(self, raw: bytes) -> bool:
        fake = self.fake
        try:
            asked = json.loads(raw)
            number, method = asked["id"], asked["method"]
        except (ValueError, KeyError, TypeError):
            self.send_json(
                {"id": None, "status": 400, "error": {"code": -1135, "msg": "Invalid JSON Request"}}
            )
            return True
        params = {k: str(v) for k, v in asked.get("params", {}).items()}
        with fake.lock:
            fault = fake.take_fault(method)
            kind = fault.kind if fault else ""
            if kind == "close_before":
                return False
            if kind == "lose_command":
                return True
            account: FakeAccount | None = None
            pushes: list[Any] = []
            answer: dict[str, Any] = {"id": number, "status": 200}
            is_subscribed = False
            try:
                if kind == "error":
                    assert fault is not None
                    raise No(**fault.args)
                if method not in KNOWN:
                    raise No(-1020, "This operation is not supported.")
                fake.weigh(method, params)
                if method not in PUBLIC:
                    account = fake.find_account(params.get("apiKey"))
                    signed = "&".join(f"{k}={params[k]}" for k in sorted(params) if k != "signature")
                    if not account.check(signed.encode(), params.get("signature", "")):
                        raise No(-1022, "Signature for this request is not valid.")
                    fake.check_time(params)
                fake.calls.append(("socket", method, params))
                if method == "userDataStream.subscribe.signature":
                    if self.account is not None:
                        raise No(-2035, "User Data Stream subscription already active.")
                    answer["result"] = {"subscriptionId": self._subscriptions}
                    self._subscriptions += 1
                    is_subscribed = True
                else:
                    answer["result"], pushes = fake.handle(method, params, account)
                    fake.give_back(method)
            except No as no:
                answer["status"] = no.status
                answer["error"] = {"code": no.code, "msg": no.msg}
                if no.retry_s is not None:
                    now = fake.now_ms()
                    answer["error"]["data"] = {"serverTime": now, "retryAfter": now + int(no.retry_s * 1000)}
            if kind == "error_after":
                assert fault is not None
                answer.pop("result", None)
                answer["status"] = fault.args["status"]
                answer["error"] = {"code": fault.args["code"], "msg": fault.args["msg"]}
            if kind == "garbage":
                answer["result"] = {"surprise": 1}
            answer["rateLimits"] = fake.rate_limits(account)
            if kind == "close_after":
                return False
            if fake.pushes_first and account is not None:
                fake._push_all(account, pushes)
            if kind == "cut_after":
                self.send_json(answer)
                return False
            if kind == "late_answer":
                assert fault is not None
                fake.later(fault.args.get("late_s", 0.7), lambda: self.send_json(answer))
            elif kind == "truncate":
                self.send_raw(json.dumps(answer).encode()[:-20])
            elif kind != "lose_answer":
                self.send_json(answer)
            if is_subscribed:
                self.account = account
                if self not in fake._subs:
                    fake._subs.append(self)
            if not fake.pushes_first and account is not None:
                fake._push_all(account, pushes)
        return True

    def end_subscription(self) -> None:
        self.account = None
        self.send_json(
            {"subscriptionId": 0, "event": {"e": "eventStreamTerminated", "E": self.fake.now_ms()}}
        )
