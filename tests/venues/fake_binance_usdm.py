"""Binance USDT-M futures on this machine: its REST, its WebSocket API, its private and public streams around
a small matching core. Shares no code with the adapter. `fake_aster` is the same venue with other prefixes and
signatures.

Written from the fact sheet and the documents' payloads: signatures are verified over exactly what was sent,
time windows are kept, parameters that a method does not know are refused, filters, weights, order counts and
bans are counted, events are pushed to who holds a living listen key, a class of WebSocket address carries its
own streams only. A market is moved by the test: `book` sets what strangers rest, `trade` lets a stranger
take. Orders of ours wait behind what stood there when they came.

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
from urllib.parse import parse_qsl, unquote

D = Decimal
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FINAL = ("FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH")
WEEK_MS = 7 * 86_400_000
ORDER_FIELDS = {
    *("symbol", "side", "positionSide", "type", "timeInForce", "quantity", "price", "reduceOnly"),
    *("newClientOrderId", "newOrderRespType"),
}
METHODS: dict[tuple[str, str], tuple[str, int, set[str]]] = {
    ("GET", "{v}/ping"): ("ping", 1, set()),
    ("GET", "{v}/time"): ("time", 1, set()),
    ("GET", "{v}/exchangeInfo"): ("exchangeInfo", 1, set()),
    ("GET", "{v}/depth"): ("depth", 20, {"symbol", "limit"}),
    ("POST", "{v}/order"): ("order.place", 1, ORDER_FIELDS),
    ("PUT", "{v}/order"): (
        "order.modify",
        1,
        {"symbol", "side", "quantity", "price", "orderId", "origClientOrderId"},
    ),
    ("DELETE", "{v}/order"): ("order.cancel", 1, {"symbol", "orderId", "origClientOrderId"}),
    ("GET", "{v}/order"): ("order.status", 1, {"symbol", "orderId", "origClientOrderId"}),
    ("POST", "{v}/batchOrders"): ("batch.place", 5, {"batchOrders"}),
    ("DELETE", "{v}/batchOrders"): ("batch.cancel", 1, {"symbol", "orderIdList", "origClientOrderIdList"}),
    ("DELETE", "{v}/allOpenOrders"): ("cancelAll", 1, {"symbol"}),
    ("GET", "{v}/openOrders"): ("openOrders", 1, {"symbol"}),
    ("GET", "{v}/allOrders"): ("allOrders", 5, {"symbol", "orderId", "startTime", "endTime", "limit"}),
    ("GET", "{v}/userTrades"): ("userTrades", 5, {"symbol", "startTime", "endTime", "fromId", "limit"}),
    ("GET", "{v}/income"): ("income", 30, {"symbol", "incomeType", "startTime", "endTime", "limit"}),
    ("GET", "{v}/commissionRate"): ("commissionRate", 20, {"symbol"}),
    ("GET", "{v}/positionSide/dual"): ("dual", 30, set()),
    ("GET", "{v}/multiAssetsMargin"): ("multiAssets", 30, set()),
    ("GET", "{v}/accountConfig"): ("accountConfig", 5, set()),
    ("POST", "{v}/countdownCancelAll"): ("countdown", 10, {"symbol", "countdownTime"}),
    ("POST", "{v}/listenKey"): ("listenKey.start", 1, set()),
    ("PUT", "{v}/listenKey"): ("listenKey.keep", 1, set()),
    ("DELETE", "{v}/listenKey"): ("listenKey.close", 1, set()),
    ("GET", "{w}/balance"): ("balance", 5, set()),
    ("GET", "{w}/positionRisk"): ("positionRisk", 5, {"symbol"}),
    ("GET", "/sapi/v1/account/apiRestrictions"): ("apiRestrictions", 1, set()),
}
PUBLIC = ("ping", "time", "exchangeInfo", "depth")
OVER_SOCKET = ("time", "ping", "order.place", "order.modify", "order.cancel", "order.status")
NEEDED = {
    "order.place": ("symbol", "side", "type", "quantity"),
    "order.modify": ("symbol", "side", "quantity", "price"),
    "order.cancel": ("symbol",),
    "order.status": ("symbol",),
    "batch.place": ("batchOrders",),
    "cancelAll": ("symbol",),
    "allOrders": ("symbol",),
    "userTrades": ("symbol",),
    "commissionRate": ("symbol",),
    "countdown": ("symbol", "countdownTime"),
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
    status: str = "TRADING"
    contract: str = "PERPETUAL"
    delivery_ms: int = 4133404800000
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)
    update_id: int = 1000


@dataclass(eq=False)
class Order:
    number: int
    client_id: str
    symbol: Symbol
    side: str
    position_side: str
    tif: str
    price: Decimal
    qty: Decimal
    reduce_only: bool
    stp: str
    at_ms: int
    status: str = "NEW"
    done: Decimal = D(0)
    ahead: Decimal = D(0)
    changed_ms: int = 0

    @property
    def left(self) -> Decimal:
        return self.qty - self.done

    @property
    def sign(self) -> int:
        return 1 if self.side == "BUY" else -1


@dataclass
class Fault:
    kind: str
    on: str | None
    args: dict[str, Any]


class FakeAccount:
    """One key with its wallet, positions, orders and trades."""

    def __init__(
        self, api_key: str, check: Callable[[bytes, str], bool], balances: dict[str, Decimal]
    ) -> None:
        self.api_key = api_key
        self.check = check
        self.wallet = dict(balances)
        self.positions: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        self.orders: list[Order] = []
        self.trades: list[dict[str, Any]] = []
        self.income: list[dict[str, Any]] = []
        self.counts: dict[int, tuple[int, int]] = {}
        self.countdowns: dict[str, threading.Timer] = {}
        self.hedge = False
        self.multi = False
        self.revoked = False
        self.can_trade: bool | None = True
        self.leverage = D(1)
        self.listen_key: str | None = None
        self.signer = ""

    def open(self, symbol: Symbol | None = None) -> list[Order]:
        return [o for o in self.orders if o.status not in FINAL and symbol in (None, o.symbol)]

    def position(self, symbol: str, side: str = "BOTH") -> Decimal:
        return self.positions.get((symbol, side), (D(0), D(0)))[0]

    def used(self, asset: str) -> Decimal:
        held = sum((abs(qty) * entry for qty, entry in self.positions.values()), D(0))
        asked = sum(
            (o.price * o.left for o in self.open() if not o.reduce_only and o.symbol.quote == asset), D(0)
        )
        return (held + asked) / self.leverage

    def available(self, asset: str) -> Decimal:
        return self.wallet.get(asset, D(0)) - self.used(asset)


class FakeBinanceUsdm:
    """See the module docstring. Listens on 127.0.0.1 from the moment it is made until `close`."""

    v, w = "/fapi/v1", "/fapi/v3"
    stp_param = "selfTradePreventionMode"
    signed_listen_key = False

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        self.symbols = {s.name: s for s in symbols or (Symbol("BTCUSDT", "BTC", "USDT"),)}
        self.accounts: dict[str, FakeAccount] = {}
        self.lock = threading.RLock()
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.skew_ms = 0
        self.weight_limit = 2400
        self.orders_limit = 300
        self.maker, self.taker = D("0.0002"), D("0.0005")
        self.pushes_first = False
        self.drop_pushes = 0
        self.repeat_pushes = 0
        self.refuse_sockets = ""
        self.stp_said: str | None = None
        self.gtx_expires = False
        self.banned_until = 0.0
        self.retry_s = 1.0
        self.page = 1000
        self.connections = 0
        self.stale: tuple[float, list[Any]] | None = None
        self._faults: list[Fault] = []
        self._numbers = 100
        self._trade_ids = 1000
        self._weight = (0, 0)
        self._blocked_until = 0.0
        self._open: set[_Connection] = set()
        self._timers: list[threading.Timer] = []
        self._closed = False
        self.methods_at = {
            (verb, path.format(v=self.v, w=self.w)): told for (verb, path), told in METHODS.items()
        }
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.rest = f"http://127.0.0.1:{self.port}"
        self.socket = f"ws://127.0.0.1:{self.port}/ws-fapi/v1"
        self.stream = f"ws://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    # ------------------------------------------------------------------ for tests

    def hmac_account(self, api_key: str, secret: str, **balances: str) -> FakeAccount:
        def check(payload: bytes, signature: str) -> bool:
            made = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
            return hmac.compare_digest(made, signature.lower())

        return self.account(api_key, check, balances)

    def ed25519_account(self, api_key: str, public: Any, **balances: str) -> FakeAccount:
        from cryptography.exceptions import InvalidSignature

        def check(payload: bytes, signature: str) -> bool:
            try:
                public.verify(base64.b64decode(signature, validate=True), payload)
            except (InvalidSignature, ValueError):
                return False
            return True

        return self.account(api_key, check, balances)

    def account(
        self, api_key: str, check: Callable[[bytes, str], bool], balances: dict[str, str]
    ) -> FakeAccount:
        made = FakeAccount(api_key, check, {asset: D(amount) for asset, amount in balances.items()})
        self.accounts[api_key] = made
        return made

    def fault(self, kind: str, on: str | None = None, n: int = 1, **args: Any) -> None:
        with self.lock:
            self._faults += [Fault(kind, on, args) for _ in range(n)]

    def book(self, symbol: str, bids: dict[str, str], asks: dict[str, str]) -> None:
        """What strangers rest; orders of ours keep how much stands before them, never more than there is."""
        with self.lock:
            market = self.symbols[symbol]
            old = (market.bids, market.asks)
            market.bids = {D(p): D(q) for p, q in bids.items()}
            market.asks = {D(p): D(q) for p, q in asks.items()}
            for account in self.accounts.values():
                for order in account.open(market):
                    side = market.bids if order.side == "BUY" else market.asks
                    order.ahead = min(order.ahead, side.get(order.price, D(0)))
            self._tell_market(market, *old)

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
            resting.sort(key=lambda pair: (-pair[0].sign * pair[0].price, pair[0].number))
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
                    self.push(account, self._fill(account, order, order.price, part, True))
            self._market(
                market,
                "aggTrade",
                {
                    "e": "aggTrade",
                    "E": self.now_ms(),
                    "s": market.name,
                    "a": self._trade_ids,
                    "p": price,
                    "q": qty,
                    "f": 1,
                    "l": 1,
                    "T": self.now_ms(),
                    "m": side == "SELL",
                },
            )

    def pay_funding(self, account: FakeAccount, symbol: str, amount: str, at_ms: int) -> None:
        """`amount` signed as the venue signs it: negative is paid."""
        with self.lock:
            asset = self.symbols[symbol].quote
            account.wallet[asset] += D(amount)
            account.income.append(
                {
                    "symbol": symbol,
                    "incomeType": "FUNDING_FEE",
                    "income": amount,
                    "asset": asset,
                    "info": "FUNDING_FEE",
                    "time": at_ms,
                    "tranId": 9_000_000 + len(account.income),
                    "tradeId": "",
                }
            )
            self.push(account, [self._account_update(account, self.symbols[symbol], "FUNDING_FEE")])

    def cut(self, kind: str = "") -> None:
        """Cut every WebSocket, or those of one kind: api, private, public, market."""
        for ws in self.sockets(kind):
            ws.drop()

    def mute(self) -> None:
        """Every WebSocket that is open now stays open, and nothing comes over it any more, pongs neither."""
        for ws in self.sockets():
            ws.is_mute = True

    def expire_listen_keys(self, *, say_so: bool = True) -> None:
        with self.lock:
            for ws in self.sockets("private"):
                if say_so:
                    ws.send_json({"e": "listenKeyExpired", "E": self.now_ms(), "listenKey": "x"})
                ws.account = None
            for account in self.accounts.values():
                account.listen_key = None

    def tell_raw(self, text: bytes, kind: str = "private") -> None:
        for ws in self.sockets(kind):
            ws.send_raw(text)

    def sockets(self, kind: str = "") -> list[_WebSocket]:
        with self.lock:
            return [c for c in self._open if isinstance(c, _WebSocket) and kind in ("", c.kind)]

    def methods(self, transport: str | None = None) -> list[str]:
        return [method for how, method, _ in self.calls if transport in (None, how)]

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        for timer in self._timers:
            timer.cancel()
        for account in self.accounts.values():
            for timer in account.countdowns.values():
                timer.cancel()
        for connection in list(self._open):
            connection.drop()

    # ------------------------------------------------------------------ who asks

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew_ms

    def authenticate(self, payload: str, params: dict[str, str], headers: dict[str, str]) -> FakeAccount:
        """Over HTTP: the key in a header, the signature last, over all that stands before it."""
        account = self.find_account(headers.get("x-mbx-apikey"))
        signed, mark, signature = payload.rpartition("&signature=")
        if not mark or not account.check(signed.encode(), unquote(signature)):
            raise No(-1022, "Signature for this request is not valid.")
        self.check_time(params)
        return account

    def authenticate_frame(self, params: dict[str, str]) -> FakeAccount:
        account = self.find_account(params.get("apiKey"))
        signed = "&".join(f"{k}={params[k]}" for k in sorted(params) if k != "signature")
        if not account.check(signed.encode(), params.get("signature", "")):
            raise No(-1022, "Signature for this request is not valid.")
        self.check_time(params)
        return account

    auth_fields = ("apiKey", "timestamp", "recvWindow", "signature")

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

    def weigh(self, weight: int) -> None:
        """Count the request; 429 when too many, 418 for who goes on."""
        now = time.time()
        if now < self._blocked_until and now >= self.banned_until:
            self.banned_until = now + 2.0
        if now < self.banned_until:
            until = int(self.banned_until * 1000)
            text = f"Way too many requests; IP banned until {until}."
            raise No(-1003, text, 418, self.banned_until - now)
        minute, used = self._weight
        if int(now // 60) != minute:
            minute, used = int(now // 60), 0
        self._weight = (minute, used + weight)
        if used + weight > self.weight_limit:
            self._blocked_until = now + self.retry_s
            raise No(-1003, "Too many requests.", 429, self.retry_s)

    def count(self, account: FakeAccount, seconds: int, add: int = 0) -> int:
        window, count = account.counts.get(seconds, (0, 0))
        now = int(time.time() // seconds)
        count = count if window == now else 0
        account.counts[seconds] = (now, count + add)
        return count + add

    def limits(self, account: FakeAccount | None) -> list[dict[str, Any]]:
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
        rows = [weight | {"limit": self.weight_limit, "count": self._weight[1]}]
        if account is not None:
            for interval, number, seconds, limit in (
                ("SECOND", 10, 10, self.orders_limit),
                ("MINUTE", 1, 60, self.orders_limit * 4),
            ):
                row = {"rateLimitType": "ORDERS", "interval": interval, "intervalNum": number}
                rows.append(row | {"limit": limit, "count": self.count(account, seconds)})
        return rows

    # ------------------------------------------------------------------ the core

    def handle(
        self, method: str, known: set[str], params: dict[str, str], account: FakeAccount | None
    ) -> tuple[Any, list[Any]]:
        """(result, pushes)."""
        allowed = known | {self.stp_param} if method == "order.place" else known
        unknown = set(params) - allowed - set(self.auth_fields)
        if unknown:
            raise No(-1104, f"Not all sent parameters were read; sent {sorted(unknown)}.")
        for name in NEEDED.get(method, ()):
            if not params.get(name):
                raise No(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        if "symbol" in params and params["symbol"] not in self.symbols:
            raise No(-1121, "Invalid symbol.")
        result = getattr(self, "_" + method.replace(".", "_"))(params, account)
        return result if isinstance(result, tuple) else (result, [])

    def _ping(self, p: dict[str, str], account: None) -> Any:
        return {}

    def _time(self, p: dict[str, str], account: None) -> Any:
        return {"serverTime": self.now_ms()}

    def _exchangeInfo(self, p: dict[str, str], account: None) -> Any:  # noqa: N802
        limits = [
            {k: v for k, v in row.items() if k != "count"}
            for row in self.limits(FakeAccount("", lambda a, b: False, {}))
        ]
        return {
            "timezone": "UTC",
            "serverTime": self.now_ms(),
            "futuresType": "U_MARGINED",
            "rateLimits": limits,
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "0"}],
            "symbols": [self._symbol_row(symbol) for symbol in self.symbols.values()],
        }

    def _symbol_row(self, s: Symbol) -> dict[str, Any]:
        return {
            "symbol": s.name,
            "pair": f"{s.base}{s.quote}",
            "contractType": s.contract,
            "deliveryDate": s.delivery_ms,
            "status": s.status,
            "baseAsset": s.base,
            "quoteAsset": s.quote,
            "marginAsset": s.quote,
            "pricePrecision": 6,
            "quantityPrecision": 5,
            "orderTypes": ["LIMIT", "MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": str(s.tick),
                    "maxPrice": "1000000",
                    "tickSize": f"{s.tick}",
                },
                {
                    "filterType": "LOT_SIZE",
                    "minQty": str(s.min_qty),
                    "maxQty": str(s.max_qty),
                    "stepSize": f"{s.step}",
                },
                {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "100", "stepSize": "0.001"},
                {"filterType": "MIN_NOTIONAL", "notional": str(s.min_notional)},
                {"filterType": "MAX_NUM_ORDERS", "limit": 200},
                {"filterType": "A_FILTER_OF_TOMORROW", "limit": "7"},
            ],
        }

    def _depth(self, p: dict[str, str], account: None) -> Any:
        market = self.symbols[p["symbol"]]
        now = self.now_ms()
        return {
            "lastUpdateId": market.update_id,
            "E": now,
            "T": now,
            "bids": [[str(price), str(qty)] for price, qty in sorted(market.bids.items(), reverse=True)],
            "asks": [[str(price), str(qty)] for price, qty in sorted(market.asks.items())],
        }

    # orders

    def _order_place(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:
        market = self.symbols[p["symbol"]]
        side, tif = p["side"], p.get("timeInForce", "")
        if p["type"] != "LIMIT":
            raise No(-1116, "Invalid orderType.")
        if tif not in ("GTC", "IOC", "FOK", "GTX"):
            raise No(-1115, "Invalid timeInForce.")
        if side not in ("BUY", "SELL"):
            raise No(-1117, "Invalid side.")
        mode = p.get(self.stp_param, "EXPIRE_MAKER")
        if mode not in ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"):
            raise No(-1130, f"Data sent for parameter '{self.stp_param}' is not valid.")
        price, qty = D(p["price"]), D(p["quantity"])
        client_id = p.get("newClientOrderId") or f"fake{self._numbers}"
        if market.status != "TRADING":
            raise No(-4140, "Invalid symbol status for opening position.")
        position_side, reduces = self._side_of(p, account, market, qty)
        self._filters(market, price, qty, reduces)
        if any(o.client_id == client_id for o in account.open()):
            raise No(-4116, "clientOrderId is duplicated.")
        if self.count(account, 10) >= self.orders_limit:
            raise No(
                -1015,
                f"Too many new orders; current limit is {self.orders_limit} orders per 10 SECONDS.",
                429,
            )
        if not reduces and account.available(market.quote) < price * qty / account.leverage:
            raise No(-2019, "Margin is insufficient.")
        theirs = market.asks if side == "BUY" else market.bids
        mine = sorted(
            (o for o in account.open(market) if o.side != side),
            key=lambda o: (o.price if side == "BUY" else -o.price, o.number),
        )

        def crosses(other: Decimal) -> bool:
            return other <= price if side == "BUY" else other >= price

        would_take = any(crosses(at) for at in theirs) or any(crosses(o.price) for o in mine)
        available = sum((q for at, q in theirs.items() if crosses(at)), D(0))
        if tif == "FOK" and available + sum((o.left for o in mine if crosses(o.price)), D(0)) < qty:
            raise No(
                -5021, "Due to the order could not be filled immediately, the FOK order has been rejected."
            )
        if tif == "GTX" and would_take and not self.gtx_expires:
            raise No(
                -5022,
                "Due to the order could not be executed as maker, the Post Only order will be rejected.",
            )
        self._numbers += 1
        self.count(account, 10, 1)
        self.count(account, 60, 1)
        now = self.now_ms()
        order = Order(
            self._numbers, client_id, market, side, position_side, tif, price, qty, reduces, mode, now
        )
        order.changed_ms = now
        account.orders.append(order)
        pushes = [self._update(order, "NEW")]
        if tif == "GTX" and would_take:
            pushes += self._end(order, "EXPIRED", "EXPIRED")
        else:
            pushes += self._take(account, order, theirs, mine, crosses)
        if order.status not in FINAL:
            if tif in ("IOC", "FOK"):
                pushes += self._end(order, "EXPIRED", "EXPIRED")
            else:
                order.ahead = (market.bids if side == "BUY" else market.asks).get(price, D(0))
        return self.row(order, answers_write=True), pushes

    def _side_of(
        self, p: dict[str, str], account: FakeAccount, market: Symbol, qty: Decimal
    ) -> tuple[str, bool]:
        """(position side, whether it reduces)."""
        side, position_side = p["side"], p.get("positionSide", "BOTH")
        if (position_side == "BOTH") is account.hedge:
            raise No(-4061, "Order's position side does not match user's setting.")
        if not account.hedge:
            held = account.position(market.name)
            if p.get("reduceOnly") == "true":
                if (held <= 0) if side == "SELL" else (held >= 0):
                    raise No(-2022, "ReduceOnly Order is rejected.")
                return "BOTH", True
            return "BOTH", (held >= qty) if side == "SELL" else (held <= -qty)
        if "reduceOnly" in p:
            raise No(-1106, "Parameter 'reduceonly' sent when not required.")
        opens = (side == "BUY") == (position_side == "LONG")
        if not opens and abs(account.position(market.name, position_side)) < qty:
            raise No(-2022, "ReduceOnly Order is rejected.")
        return position_side, not opens

    def _filters(self, market: Symbol, price: Decimal, qty: Decimal, reduces: bool) -> None:
        if price <= 0:
            raise No(-4001, "Price less than or equal to zero.")
        if price % market.tick:
            raise No(-4014, "Price not increased by tick size.")
        if qty < market.min_qty:
            raise No(-4004, "Quantity less than or equal to min quantity.")
        if qty > market.max_qty:
            raise No(-4005, "Quantity greater than max quantity.")
        if qty % market.step:
            raise No(-1111, "Precision is over the maximum defined for this asset.")
        if price * qty < market.min_notional and not reduces:
            raise No(-4164, "Order's notional must be no smaller than 5 (unless you choose reduce only).")

    def _take(
        self,
        account: FakeAccount,
        order: Order,
        theirs: dict[Decimal, Decimal],
        mine: list[Order],
        crosses: Callable[[Decimal], bool],
    ) -> list[Any]:
        pushes: list[Any] = []
        for at in sorted({*theirs, *(o.price for o in mine)}, reverse=order.side == "SELL"):
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
                if order.stp in ("EXPIRE_MAKER", "EXPIRE_BOTH"):
                    pushes += self._end(own, "EXPIRED", "EXPIRED_IN_MATCH")
                if order.stp in ("EXPIRE_TAKER", "EXPIRE_BOTH"):
                    return pushes + self._end(order, "EXPIRED", "EXPIRED_IN_MATCH")
        return pushes

    def find(self, p: dict[str, str], account: FakeAccount, code: int, msg: str) -> Order:
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
        order = self.find(p, account, -2011, "Unknown order sent.")
        if order.status in FINAL:
            raise No(-2011, "Unknown order sent.")
        pushes = self._end(order, "CANCELED", "CANCELED")
        return self.row(order, answers_write=True), pushes

    def _order_modify(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:
        order = self.find(p, account, -2013, "Order does not exist.")
        if order.status in FINAL:
            raise No(-2013, "Order does not exist.")
        if p["side"] != order.side:
            raise No(-5041, "side does not match.")
        market, price, qty = order.symbol, D(p["price"]), D(p["quantity"])
        self._filters(market, price, qty, order.reduce_only)
        if (price, qty) == (order.price, order.qty):
            raise No(-5027, "No need to modify the order.")
        theirs = market.asks if order.side == "BUY" else market.bids
        crosses = any(at <= price if order.side == "BUY" else at >= price for at in theirs)
        if qty <= order.done or (order.tif == "GTX" and crosses):
            return self.row(order, answers_write=True) | {"status": "CANCELED"}, self._end(
                order, "CANCELED", "CANCELED"
            )
        order.price, order.qty, order.changed_ms = price, qty, self.now_ms()
        order.ahead = (market.bids if order.side == "BUY" else market.asks).get(price, D(0))
        return self.row(order, answers_write=True), [self._update(order, "AMENDMENT")]

    def _batch_place(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:
        orders = json.loads(p["batchOrders"])
        if not 1 <= len(orders) <= 5:
            raise No(-4082, "Invalid number of batch place orders.")
        return self._each(orders, lambda one: self._order_place(one, account))

    def _batch_cancel(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:
        ids = json.loads(p.get("origClientOrderIdList") or "[]")
        if not 1 <= len(ids) <= 10:
            raise No(-4032, "Exceed maximum cancel order size.")
        asked = [{"symbol": p["symbol"], "origClientOrderId": one} for one in ids]
        return self._each(asked, lambda one: self._order_cancel(one, account))

    def _each(
        self, asked: list[dict[str, str]], do: Callable[[dict[str, str]], tuple[Any, list[Any]]]
    ) -> tuple[Any, list[Any]]:
        rows, pushes = [], []
        for one in asked:
            try:
                row, more = do(one)
            except No as no:
                rows.append({"code": no.code, "msg": no.msg})
                continue
            rows.append(row)
            pushes += more
        return rows, pushes

    def _cancelAll(self, p: dict[str, str], account: FakeAccount) -> tuple[Any, list[Any]]:  # noqa: N802
        pushes = []
        for order in account.open(self.symbols[p["symbol"]]):
            pushes += self._end(order, "CANCELED", "CANCELED")
        return {"code": 200, "msg": "The operation of cancel all open order is done."}, pushes

    def _countdown(self, p: dict[str, str], account: FakeAccount) -> Any:
        symbol, ms = p["symbol"], int(p["countdownTime"])
        running = account.countdowns.pop(symbol, None)
        if running is not None:
            running.cancel()
        if ms:

            def fire() -> None:
                with self.lock:
                    account.countdowns.pop(symbol, None)
                    self.push(account, self._cancelAll({"symbol": symbol}, account)[1])

            timer = threading.Timer(ms / 1000, fire)
            timer.daemon = True
            account.countdowns[symbol] = timer
            timer.start()
        return {"symbol": symbol, "countdownTime": str(ms)}

    def _order_status(self, p: dict[str, str], account: FakeAccount) -> Any:
        return self.row(self.find(p, account, -2013, "Order does not exist."))

    def _openOrders(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        market = self.symbols[p["symbol"]] if "symbol" in p else None
        if self.stale is not None:
            until, rows = self.stale
            if time.monotonic() < until:
                return rows
            self.stale = None
        return [self.row(order) for order in account.open(market)]

    def hold_list(self, account: FakeAccount, seconds: float) -> None:
        """`openOrders` goes on telling the state of now."""
        with self.lock:
            self.stale = (time.monotonic() + seconds, [self.row(order) for order in account.open()])

    def _allOrders(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        rows = [
            o for o in account.orders if o.symbol.name == p["symbol"] and o.number >= int(p.get("orderId", 0))
        ]
        return [self.row(order) for order in rows[: min(int(p.get("limit", 500)), self.page)]]

    def _userTrades(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        if "fromId" in p and ("startTime" in p or "endTime" in p):
            raise No(-1128, "Combination of optional parameters invalid.")
        start, end = int(p.get("startTime", 0)), int(p.get("endTime", 1 << 62))
        if "startTime" in p and "endTime" in p and end - start > WEEK_MS:
            raise No(-4165, "Invalid time interval.")
        if "startTime" in p and start < self.now_ms() - 92 * 86_400_000:
            raise No(-4166, "Search window is restricted to recent 90 days only.")
        rows = [
            t
            for t in account.trades
            if t["symbol"] == p["symbol"] and start <= t["time"] <= end and t["id"] >= int(p.get("fromId", 0))
        ]
        limit = min(int(p.get("limit", 500)), self.page)
        return rows[:limit] if "fromId" in p or "startTime" in p else rows[-limit:]

    def _income(self, p: dict[str, str], account: FakeAccount) -> Any:
        start, end = int(p.get("startTime", 0)), int(p.get("endTime", 1 << 62))
        rows = [
            row
            for row in account.income
            if p.get("symbol") in (None, row["symbol"])
            and p.get("incomeType") in (None, row["incomeType"])
            and start <= row["time"] <= end
        ]
        return rows[: min(int(p.get("limit", 100)), self.page)]

    # the account

    def _commissionRate(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        return {
            "symbol": p["symbol"],
            "makerCommissionRate": f"{self.maker:.6f}",
            "takerCommissionRate": f"{self.taker:.6f}",
            "rpiCommissionRate": "0.000100",
        }

    def _dual(self, p: dict[str, str], account: FakeAccount) -> Any:
        return {"dualSidePosition": account.hedge}

    def _multiAssets(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        return {"multiAssetsMargin": account.multi}

    def _accountConfig(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        told = {"feeTier": 0, "dualSidePosition": account.hedge, "multiAssetsMargin": account.multi}
        return told if account.can_trade is None else told | {"canTrade": account.can_trade}

    def _apiRestrictions(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        return {"ipRestrict": True, "enableReading": True, "enableWithdrawals": False, "enableFutures": True}

    def _balance(self, p: dict[str, str], account: FakeAccount) -> Any:
        return [
            {
                "accountAlias": "SgsR",
                "asset": asset,
                "balance": f"{wallet:.8f}",
                "crossWalletBalance": f"{wallet:.8f}",
                "crossUnPnl": "0.00000000",
                "availableBalance": f"{account.available(asset):.8f}",
                "maxWithdrawAmount": f"{account.available(asset):.8f}",
                "marginAvailable": True,
                "updateTime": self.now_ms(),
            }
            for asset, wallet in account.wallet.items()
        ]

    def _positionRisk(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        return [
            {
                "symbol": symbol,
                "positionSide": side,
                "positionAmt": str(qty),
                "entryPrice": str(entry),
                "breakEvenPrice": str(entry),
                "markPrice": str(entry),
                "unRealizedProfit": "0.00000000",
                "liquidationPrice": "0",
                "notional": str(qty * entry),
                "marginAsset": self.symbols[symbol].quote,
                "updateTime": self.now_ms(),
            }
            for (symbol, side), (qty, entry) in account.positions.items()
            if qty or any(o.symbol.name == symbol for o in account.open())
        ]

    def _listenKey_start(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        if account.listen_key is None:
            self._numbers += 1
            account.listen_key = f"key{self._numbers}" + "x" * 50
        return {"listenKey": account.listen_key}

    def _listenKey_keep(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        if account.listen_key is None:
            raise No(-1125, "This listenKey does not exist.")
        return {"listenKey": account.listen_key}

    def _listenKey_close(self, p: dict[str, str], account: FakeAccount) -> Any:  # noqa: N802
        account.listen_key = None
        return {}

    # what happens to an order

    def _fill(
        self, account: FakeAccount, order: Order, price: Decimal, qty: Decimal, is_maker: bool
    ) -> list[Any]:
        market = order.symbol
        order.done += qty
        order.status = "FILLED" if order.left == 0 else "PARTIALLY_FILLED"
        order.changed_ms = self.now_ms()
        fee = price * qty * (self.maker if is_maker else self.taker)
        key = (market.name, order.position_side)
        held, entry = account.positions.get(key, (D(0), D(0)))
        moved = order.sign * qty
        realised = D(0)
        if held * moved >= 0:
            entry = (abs(held) * entry + qty * price) / (abs(held) + qty)
        else:
            closed = min(abs(held), qty)
            realised = closed * (price - entry) * (1 if held > 0 else -1)
            if qty > abs(held):
                entry = price
        account.positions[key] = (held + moved, entry if held + moved else D(0))
        account.wallet[market.quote] = account.wallet.get(market.quote, D(0)) + realised - fee
        self._trade_ids += 1
        account.trades.append(
            {
                "symbol": market.name,
                "id": self._trade_ids,
                "orderId": order.number,
                "side": order.side,
                "positionSide": order.position_side,
                "price": str(price),
                "qty": str(qty),
                "quoteQty": str(price * qty),
                "realizedPnl": str(realised),
                "commission": self.fee_text(fee),
                "commissionAsset": market.quote,
                "time": order.changed_ms,
                "buyer": order.side == "BUY",
                "maker": is_maker,
            }
        )
        update = self._update(order, "TRADE")
        update["o"] |= {
            "l": str(qty),
            "L": str(price),
            "n": self.fee_text(fee),
            "N": market.quote,
            "t": self._trade_ids,
            "m": is_maker,
            "rp": str(realised),
        }
        return [update, self._account_update(account, market, "ORDER")]

    def fee_text(self, fee: Decimal) -> str:
        return f"{fee:.8f}"

    def _end(self, order: Order, execution: str, status: str) -> list[Any]:
        order.status = status
        order.changed_ms = self.now_ms()
        return [self._update(order, execution)]

    # shapes

    def row(self, order: Order, *, answers_write: bool = False) -> dict[str, Any]:
        """An order; answers to writes carry no average and no value since 2026-07-15."""
        row = {
            "orderId": order.number,
            "symbol": order.symbol.name,
            "status": order.status,
            "clientOrderId": order.client_id,
            "price": str(order.price),
            "origQty": str(order.qty),
            "executedQty": str(order.done),
            "timeInForce": order.tif,
            "type": "LIMIT",
            "reduceOnly": order.reduce_only,
            "side": order.side,
            "positionSide": order.position_side,
            "origType": "LIMIT",
            "priceMatch": "NONE",
            "goodTillDate": 0,
            "updateTime": order.changed_ms,
            self.stp_param: self.stp_said or order.stp,
        }
        return row if answers_write else row | {"time": order.at_ms, "avgPrice": "0.0", "cumQuote": "0.0"}

    def _update(self, order: Order, execution: str) -> dict[str, Any]:
        now = self.now_ms()
        return {
            "e": "ORDER_TRADE_UPDATE",
            "T": now,
            "E": now,
            "o": {
                "s": order.symbol.name,
                "c": order.client_id,
                "S": order.side,
                "o": "LIMIT",
                "f": order.tif,
                "q": str(order.qty),
                "p": str(order.price),
                "ap": "0",
                "sp": "0",
                "x": execution,
                "X": order.status,
                "i": order.number,
                "l": "0",
                "z": str(order.done),
                "L": "0",
                "n": "0",
                "N": order.symbol.quote,
                "T": order.changed_ms,
                "t": 0,
                "b": "0",
                "a": "0",
                "m": False,
                "R": order.reduce_only,
                "ps": order.position_side,
                "rp": "0",
                "V": order.stp,
                "er": "0",
            },
        }

    def _account_update(self, account: FakeAccount, market: Symbol, reason: str) -> dict[str, Any]:
        now = self.now_ms()
        wallet = f"{account.wallet.get(market.quote, D(0)):.8f}"
        return {
            "e": "ACCOUNT_UPDATE",
            "E": now,
            "T": now,
            "a": {
                "m": reason,
                "B": [{"a": market.quote, "wb": wallet, "cw": wallet, "bc": "0"}],
                "P": [
                    {
                        "s": s,
                        "pa": str(qty),
                        "ep": str(entry),
                        "up": "0",
                        "mt": "cross",
                        "iw": "0",
                        "ps": side,
                    }
                    for (s, side), (qty, entry) in account.positions.items()
                    if s == market.name and reason == "ORDER"
                ],
            },
        }

    def push(self, account: FakeAccount, events: list[Any]) -> None:
        for event in events:
            is_order = event["e"] == "ORDER_TRADE_UPDATE"
            if self.drop_pushes > 0 and is_order:
                self.drop_pushes -= 1
                continue
            times = 1
            if self.repeat_pushes > 0 and is_order:
                self.repeat_pushes -= 1
                times = 2
            for ws in self.sockets("private"):
                if ws.account is account:
                    for _ in range(times):
                        ws.send_json(event)

    def _tell_market(
        self, market: Symbol, bids: dict[Decimal, Decimal], asks: dict[Decimal, Decimal]
    ) -> None:
        now, before = self.now_ms(), market.update_id
        market.update_id += 3
        changes = [
            [[str(p), str(new.get(p, D(0)))] for p in sorted({*old, *new}) if old.get(p) != new.get(p)]
            for old, new in ((bids, market.bids), (asks, market.asks))
        ]
        diff = {"e": "depthUpdate", "E": now, "T": now, "s": market.name, "U": before + 1, "pu": before}
        self._market(market, "depth", diff | {"u": market.update_id, "b": changes[0], "a": changes[1]})
        bid, ask = max(market.bids, default=None), min(market.asks, default=None)
        if bid is not None and ask is not None:
            touch = {"b": str(bid), "B": str(market.bids[bid]), "a": str(ask), "A": str(market.asks[ask])}
            head = {"e": "bookTicker", "u": market.update_id, "E": now, "T": now, "s": market.name}
            self._market(market, "bookTicker", head | touch | {"st": 1})

    def _market(self, market: Symbol, kind: str, data: dict[str, Any]) -> None:
        for ws in self.sockets(self.carrier(kind)):
            for name in ws.streams:
                symbol, _, what = name.partition("@")
                if symbol == market.name.lower() and what.partition("@")[0] == kind:
                    ws.send_json({"stream": name, "data": data})

    def carrier(self, kind: str) -> str:
        """The class of address that carries such streams."""
        return "public" if kind in ("depth", "bookTicker") else "market"

    def kind_of_path(self, path: str) -> str:
        """What a WebSocket address is for."""
        if path == "/ws-fapi/v1":
            return "api"
        head = path.lstrip("/").partition("/")[0]
        return head if head in ("private", "public", "market") else ""

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
        connection = _Connection(self, made)
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

    def __init__(self, fake: FakeBinanceUsdm, made: socket.socket) -> None:
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
                self._upgrade(target, headers)
                return
            size = int(headers.get("content-length", "0"))
            while len(self.data) < size:
                self.more()
            body, self.data = self.data[:size], self.data[size:]
            if not self._http(verb, target, headers, body.decode()):
                return

    def _upgrade(self, target: str, headers: dict[str, str]) -> None:
        fake = self.fake
        path, _, query = target.partition("?")
        kind = fake.kind_of_path(path)
        account: FakeAccount | None = None
        is_known = bool(kind)
        if kind == "private":
            key = path.rpartition("/")[2]
            account = next((a for a in fake.accounts.values() if a.listen_key == key), None)
            is_known = account is not None
        if not is_known or fake.refuse_sockets == kind:
            status = "503 Service Unavailable" if is_known else "401 Unauthorized"
            self.made.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        accept = base64.b64encode(
            hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()
        ).decode()
        ws = _WebSocket(fake, self.made, self.data, kind, account)
        ws.streams = set(dict(parse_qsl(query)).get("streams", "").split("/"))
        with fake.lock:
            fake._open.add(ws)
            self.made.sendall(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            )
        try:
            ws.serve()
        finally:
            with fake.lock:
                fake._open.discard(ws)

    def _http(self, verb: str, target: str, headers: dict[str, str], body: str) -> bool:
        """False: the connection ends."""
        fake = self.fake
        path, _, query = target.partition("?")
        told = fake.methods_at.get((verb, path))
        if told is None:
            self._reply(404, b"<html><body>404 Not found</body></html>", None, kind="text/html")
            return True
        method, weight, known = told
        payload = query + body
        params = dict(parse_qsl(payload, keep_blank_values=True))
        retry: float | None = None
        with fake.lock:
            fault = fake.take_fault(method)
            kind = fault.kind if fault else ""
            args = fault.args if fault else {}
            if kind == "close_before":
                return False
            if kind == "lose_command":
                fake.later(5.0, self.drop)
                return True
            account: FakeAccount | None = None
            pushes: list[Any] = []
            status, answer = 200, b""
            try:
                if kind == "error":
                    raise No(**args)
                fake.weigh(40 if method == "openOrders" and "symbol" not in params else weight)
                if method.startswith("listenKey") and not fake.signed_listen_key:
                    account = fake.find_account(headers.get("x-mbx-apikey"))
                elif method not in PUBLIC:
                    account = fake.authenticate(payload, params, headers)
                if kind not in ("html", "redirect", "plain"):
                    fake.calls.append(("http", method, params))
                    result, pushes = fake.handle(method, known, params, account)
                    answer = json.dumps(result, separators=(",", ":")).encode()
            except No as no:
                status, retry = no.status, no.retry_s
                answer = json.dumps({"code": no.code, "msg": no.msg}).encode()
            if kind == "html":
                page = b"<html>Bad Gateway</html>"
                self._reply(args.get("status", 502), page, None, kind="text/html")
                return True
            if kind == "plain":
                self._reply(args["status"], args["text"].encode(), None, kind="text/plain")
                return True
            if kind == "redirect":
                self._reply(302, b"", None, extra="Location: http://127.0.0.1:1/api\r\n")
                return True
            if kind == "error_after":
                status = args["status"]
                answer = json.dumps({"code": args["code"], "msg": args["msg"]}).encode()
            if kind == "garbage":
                answer = b'{"surprise":1}'
            if kind == "cut_after":
                fake.cut("private")
            elif account is not None:
                fake.push(account, pushes)
            extra = f"X-MBX-USED-WEIGHT-1M: {fake._weight[1]}\r\n"
            if account is not None and method in ("order.place", "batch.place"):
                extra += f"X-MBX-ORDER-COUNT-10S: {fake.count(account, 10)}\r\n"
        if kind == "close_after":
            return False
        if kind == "lose_answer":
            fake.later(5.0, self.drop)
            return True
        if kind in ("late_answer", "early"):
            time.sleep(args.get("late_s", 0.7))
        if kind == "truncate":
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
            self.made.sendall(head + answer[:-20])
            return False
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
    """One WebSocket of any kind."""

    def __init__(
        self, fake: FakeBinanceUsdm, made: socket.socket, data: bytes, kind: str, account: FakeAccount | None
    ) -> None:
        super().__init__(fake, made)
        self.data = data
        self.kind = kind
        self.account = account
        self.streams: set[str] = set()
        self.is_mute = False
        self.pongs: deque[bytes] = deque(maxlen=100)
        self._write = threading.Lock()

    def send_frame(self, opcode: int, payload: bytes) -> None:
        if self.is_mute:
            return
        size = len(payload)
        head = bytes((0x80 | opcode,))
        if size < 126:
            head += bytes((size,))
        elif size < 65536:
            head += b"\x7e" + size.to_bytes(2, "big")
        else:
            head += b"\x7f" + size.to_bytes(8, "big")
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
            elif self.kind == "api":
                if not self._request(payload):
                    return
            else:
                self._subscribe(payload)

    def _subscribe(self, raw: bytes) -> None:
        asked = json.loads(raw)
        if asked["method"] == "SUBSCRIBE":
            self.streams |= set(asked["params"])
        self.send_json({"result": None, "id": asked["id"]})

    def _request(self, raw: bytes) -> bool:
        fake = self.fake
        asked = json.loads(raw)
        number, method = asked["id"], asked["method"]
        params = {k: str(v) for k, v in asked.get("params", {}).items()}
        with fake.lock:
            fault = fake.take_fault(method)
            kind = fault.kind if fault else ""
            args = fault.args if fault else {}
            if kind == "close_before":
                return False
            if kind == "lose_command":
                return True
            account: FakeAccount | None = None
            pushes: list[Any] = []
            answer: dict[str, Any] = {"id": number, "status": 200}
            try:
                if kind == "error":
                    raise No(**args)
                if method not in OVER_SOCKET:
                    raise No(-1020, "This operation is not supported.")
                fake.weigh(1)
                if method not in PUBLIC:
                    account = fake.authenticate_frame(params)
                fake.calls.append(("socket", method, params))
                known = next(told[2] for told in fake.methods_at.values() if told[0] == method)
                answer["result"], pushes = fake.handle(method, known, params, account)
            except No as no:
                answer["status"] = no.status
                answer["error"] = {"code": no.code, "msg": no.msg}
                if no.retry_s is not None:
                    now = fake.now_ms()
                    answer["error"]["data"] = {"serverTime": now, "retryAfter": now + int(no.retry_s * 1000)}
            if kind == "error_after":
                answer.pop("result", None)
                answer["status"] = args["status"]
                answer["error"] = {"code": args["code"], "msg": args["msg"]}
            if kind == "garbage":
                answer["result"] = {"surprise": 1}
            answer["rateLimits"] = fake.limits(account)
            if kind == "close_after":
                return False
            if kind == "cut_after":
                fake.cut("private")
                pushes = []
            if fake.pushes_first and account is not None:
                fake.push(account, pushes)
            if kind in ("late_answer", "early"):
                fake.later(args.get("late_s", 0.7), lambda: self.send_json(answer))
            elif kind == "truncate":
                self.send_raw(json.dumps(answer).encode()[:-20])
            elif kind != "lose_answer":
                self.send_json(answer)
            if not fake.pushes_first and account is not None:
                fake.push(account, pushes)
        return True
