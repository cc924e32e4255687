"""Backpack on this machine: its REST and WebSocket API around a small matching core. Shares no code with the
adapter.

Written from the fact sheet and the OpenAPI description: signatures are verified over the instruction string
made of exactly what was sent, time windows are kept, fields that a call does not know are refused, numbers
have the type the description gives them (ids as text, client ids as numbers, microseconds in the stream,
milliseconds in answers, ISO text in histories), requests are counted. A market is moved by the test: `book`
sets what strangers rest, `trade` lets a stranger take. Orders of ours wait behind what stood there when they
came. A post-only order that would take is accepted and expires at once, as on the venue.

`fault` makes the next requests of a call go wrong; `calls` remembers every request that was understood.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

D = Decimal
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FINAL = ("Filled", "Cancelled", "Expired")

ROUTES = {  # (verb, path): (call, instruction; empty: public)
    ("GET", "/api/v1/time"): ("time", ""),
    ("GET", "/api/v1/status"): ("status", ""),
    ("GET", "/api/v1/markets"): ("markets", ""),
    ("GET", "/api/v1/assets"): ("assets", ""),
    ("GET", "/api/v1/securities"): ("securities", ""),
    ("GET", "/api/v1/depth"): ("depth", ""),
    ("POST", "/api/v1/order"): ("place", "orderExecute"),
    ("POST", "/api/v1/orders"): ("batch", "orderExecute"),
    ("DELETE", "/api/v1/order"): ("cancel", "orderCancel"),
    ("DELETE", "/api/v1/orders"): ("cancel_all", "orderCancelAll"),
    ("GET", "/api/v1/order"): ("order", "orderQuery"),
    ("GET", "/api/v1/orders"): ("open", "orderQueryAll"),
    ("GET", "/wapi/v1/history/orders"): ("history", "orderHistoryQueryAll"),
    ("GET", "/wapi/v1/history/fills"): ("fills", "fillHistoryQueryAll"),
    ("GET", "/wapi/v1/history/funding"): ("funding", "fundingHistoryQueryAll"),
    ("GET", "/api/v1/capital"): ("capital", "balanceQuery"),
    ("GET", "/api/v1/capital/collateral"): ("collateral", "collateralQuery"),
    ("GET", "/api/v1/account"): ("account", "accountQuery"),
    ("GET", "/api/v1/position"): ("position", "positionQuery"),
    ("GET", "/wapi/v1/capital/deposit/address"): ("address", "depositAddressQuery"),
}
KNOWN: dict[str, set[str]] = {
    "place": {
        *("symbol", "side", "orderType", "price", "quantity", "timeInForce", "postOnly", "reduceOnly"),
        *("clientId", "selfTradePrevention", "autoLend", "autoLendRedeem", "autoBorrow", "autoBorrowRepay"),
        *("quoteQuantity", "brokerId"),
    },
    "cancel": {"symbol", "orderId", "clientId"},
    "cancel_all": {"symbol", "orderType"},
    "order": {"symbol", "orderId", "clientId"},
    "open": {"symbol", "marketType"},
    "history": {"symbol", "orderId", "limit", "offset", "sortDirection", "marketType"},
    "fills": {
        "symbol",
        "orderId",
        "from",
        "to",
        "limit",
        "offset",
        "fillType",
        "marketType",
        "sortDirection",
    },
    "funding": {"symbol", "limit", "offset", "sortDirection"},
    "position": {"symbol", "marketType"},
    "address": {"blockchain"},
    "depth": {"symbol", "limit"},
    "markets": {"marketType"},
}


class No(Exception):
    """A refusal."""

    def __init__(self, code: str, message: str, status: int = 400, retry_s: float | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.retry_s = code, message, status, retry_s


@dataclass
class Symbol:
    name: str
    base: str
    quote: str
    kind: str = "SPOT"
    tick: Decimal = D("0.01")
    step: Decimal = D("0.001")
    min_qty: Decimal = D("0.002")
    max_qty: Decimal | None = D(1000)
    min_value: Decimal = D(0)  # the venue states none; the conformance suite's market has one
    state: str = "Open"
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)


@dataclass(eq=False)
class Order:
    id: str
    client_id: int | None
    symbol: Symbol
    side: str
    kind: str
    tif: str
    post_only: bool
    reduce_only: bool
    price: Decimal
    qty: Decimal
    stp: str
    at_us: int
    status: str = "New"
    done: Decimal = D(0)
    value: Decimal = D(0)
    ahead: Decimal = D(0)
    reason: str | None = None

    @property
    def left(self) -> Decimal:
        return self.qty - self.done


@dataclass
class Fault:
    kind: str
    on: str | None
    args: dict[str, Any]


class FakeAccount:
    """One API key with its balances, orders, fills, positions."""

    def __init__(self, api_key: str, balances: dict[str, Decimal]) -> None:
        self.api_key = api_key
        self.public = Ed25519PublicKey.from_public_bytes(base64.b64decode(api_key))
        self.free = dict(balances)
        self.locked: dict[str, Decimal] = dict.fromkeys(balances, D(0))
        self.lent: dict[str, Decimal] = {}
        self.lending = False
        self.positions: dict[str, list[Decimal]] = {}
        self.orders: list[Order] = []
        self.fills: list[dict[str, Any]] = []
        self.funding: list[dict[str, Any]] = []
        self.revoked = False
        self.used: tuple[int, int] = (0, 0)

    def open(self, symbol: Symbol | None = None) -> list[Order]:
        return [o for o in self.orders if o.status not in FINAL and symbol in (None, o.symbol)]

    def lend_all(self) -> None:
        """As auto-lending does: what is free goes into the pool."""
        self.lending = True
        for asset, amount in self.free.items():
            self.lent[asset] = self.lent.get(asset, D(0)) + amount
            self.free[asset] = D(0)


class FakeBackpack:
    """See the module docstring. Listens on 127.0.0.1 from the moment it is made until `close`."""

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        made = list(symbols) or [
            Symbol("SOL_USDC", "SOL", "USDC"),
            Symbol("SOL_USDC_PERP", "SOL", "USDC", "PERP"),
        ]
        self.symbols = {s.name: s for s in made}
        self.accounts: dict[str, FakeAccount] = {}
        self.lock = threading.RLock()
        self.calls: list[tuple[str, Any]] = []
        self.skew_ms = 0
        self.limit = 2000
        self.retry_s: float | None = None
        self.maker_bps, self.taker_bps = D(2), D(5)
        self.drop_pushes = 0
        self.repeat_pushes = 0
        self.push_delay_s = 0.0
        self.hold_pushes = False
        self.stp_said: str | None = None
        self.refuse_sockets = False
        self.stream_error = "error"  # how an error looks on the stream is not documented: "error" or "plain"
        self.history_lag: set[str] = set()
        self.stale_open: list[Any] | None = None  # told instead of the open orders
        self.page = 1000
        self.connections = 0
        self._held: list[tuple[FakeAccount, list[Any]]] = []
        self._faults: list[Fault] = []
        self._numbers = 8_000_000_000
        self._trade_ids = 5000
        self._last_us = 0
        self._subs: list[_WebSocket] = []
        self._open: set[_Connection] = set()
        self._timers: list[threading.Timer] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.rest = f"http://127.0.0.1:{self.port}"
        self.socket = f"ws://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    # ------------------------------------------------------------------ for tests

    def account(self, api_key: str, **balances: str) -> FakeAccount:
        made = FakeAccount(api_key, {asset: D(amount) for asset, amount in balances.items()})
        self.accounts[api_key] = made
        return made

    def fault(self, kind: str, on: str | None = None, n: int = 1, **args: Any) -> None:
        with self.lock:
            self._faults += [Fault(kind, on, args) for _ in range(n)]

    def book(self, symbol: str, bids: dict[str, str], asks: dict[str, str]) -> None:
        """What strangers rest; orders of ours keep how much stands before them, and never more than there
        is.
        """
        with self.lock:
            market = self.symbols[symbol]
            market.bids = {D(p): D(q) for p, q in bids.items()}
            market.asks = {D(p): D(q) for p, q in asks.items()}
            for account in self.accounts.values():
                for order in account.open(market):
                    side = market.bids if order.side == "Bid" else market.asks
                    order.ahead = min(order.ahead, side.get(order.price, D(0)))

    def trade(self, symbol: str, side: str, price: str, qty: str) -> None:
        """A stranger takes up to `qty` at `price` or better for him; `side` is his."""
        with self.lock:
            market, limit, left = self.symbols[symbol], D(price), D(qty)
            ours = "Ask" if side == "Bid" else "Bid"
            resting = [
                (order, account)
                for account in self.accounts.values()
                for order in account.open(market)
                if order.side == ours and (order.price <= limit if ours == "Ask" else order.price >= limit)
            ]
            resting.sort(key=lambda pair: (pair[0].price if ours == "Ask" else -pair[0].price, pair[0].id))
            for order, account in resting:
                if order.price == limit:
                    passed = min(order.ahead, left)
                    for other, _ in resting:
                        if other.price == order.price:
                            other.ahead = max(D(0), other.ahead - passed)
                    left -= passed
                part = min(left, order.left)
                if part > 0:
                    left -= part
                    self._push_all(account, [self._fill(account, order, order.price, part, True)])

    def shrink(self, order_id: str, qty: str) -> None:
        """The venue shrinks a resting reduce-only order."""
        with self.lock:
            account, order = next(
                (a, o) for a in self.accounts.values() for o in a.orders if o.id == order_id
            )
            order.qty = D(qty)
            self._push_all(account, [self._update(order, "orderModified")])

    def expire(self, order_id: str, reason: str) -> None:
        with self.lock:
            account, order = next(
                (a, o) for a in self.accounts.values() for o in a.orders if o.id == order_id
            )
            self._push_all(account, [self._end(account, order, "Expired", reason)])

    def release(self) -> None:
        """Push what was held back."""
        with self.lock:
            self.hold_pushes = False
            held, self._held = self._held, []
            for account, events in held:
                self._push_all(account, events)

    def cut(self) -> None:
        for sub in self._sockets():
            sub.drop()

    def close_frames(self) -> None:
        """As before a shutdown: a Close frame, and the connection stays."""
        for sub in self._sockets():
            sub.send_frame(0x8, b"\x03\xe9")

    def mute(self) -> None:
        """Every WebSocket that is open now stays open, and nothing comes over it any more, pongs neither."""
        for sub in self._sockets():
            sub.is_mute = True

    def tell_raw(self, text: bytes) -> None:
        for sub in self._sockets():
            sub.send_raw(text)

    def ping_all(self) -> None:
        for sub in self._sockets():
            sub.send_frame(0x9, b"are you there")

    def pongs(self) -> int:
        return sum(len(sub.pongs) for sub in self._sockets())

    @property
    def subscribed(self) -> int:
        with self.lock:
            return len(self._subs)

    def methods(self) -> list[str]:
        return [call for call, _ in tuple(self.calls)]

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

    def now_us(self) -> int:
        """Rises with each call, so that no two events have the same time."""
        self._last_us = max(self._last_us + 1, time.time_ns() // 1000 + self.skew_ms * 1000)
        return self._last_us

    def check_signature(self, account: FakeAccount | None, text: str, signature: str) -> None:
        try:
            if account is None or account.revoked:
                raise No("UNAUTHORIZED", "Unauthorized", 401)
            account.public.verify(base64.b64decode(signature, validate=True), text.encode())
        except (InvalidSignature, ValueError):
            raise No("INVALID_CLIENT_REQUEST", "Invalid signature") from None

    def check_time(self, stamp: str, window: str) -> None:
        if not stamp.isdigit() or not window.isdigit() or int(window) > 60_000:
            raise No("INVALID_CLIENT_REQUEST", "Invalid timestamp or window")
        now = time.time_ns() // 1_000_000 + self.skew_ms
        if now - int(stamp) > int(window) or int(stamp) - now > 1000:
            raise No("INVALID_CLIENT_REQUEST", "Request has expired")

    def count(self, account: FakeAccount) -> None:
        minute, used = account.used
        now = int(time.time() // 60)
        used = used + 1 if minute == now else 1
        account.used = (now, used)
        if used > self.limit:
            raise No("TOO_MANY_REQUESTS", "Too many requests", 429, self.retry_s)

    def handle(self, call: str, params: Any, account: FakeAccount | None) -> tuple[Any, list[Any]]:
        """(answer, pushes)."""
        if call == "time":
            return str(time.time_ns() // 1_000_000 + self.skew_ms), []
        if call == "batch":
            assert account is not None and isinstance(params, list)
            rows: list[Any] = []
            pushes: list[Any] = []
            for one in params:
                try:
                    row, told = self.handle("place", one, account)
                    rows.append({"operation": "Ok", **row})
                    pushes += told
                except No as no:
                    rows.append({"operation": "Err", "code": no.code, "message": no.message})
            return rows, pushes
        unknown = set(params) - KNOWN.get(call, set())
        if unknown:
            raise No("INVALID_CLIENT_REQUEST", f"unknown field `{sorted(unknown)[0]}`")
        if "symbol" in params and params["symbol"] not in self.symbols:
            raise No("INVALID_SYMBOL", "Invalid symbol")
        result = getattr(self, "_do_" + call)(params, account)
        return result if isinstance(result, tuple) else (result, [])

    def _do_status(self, p: dict[str, Any], account: Any) -> Any:
        return {"status": "Ok", "message": None}

    def _do_markets(self, p: dict[str, Any], account: Any) -> Any:
        return [
            {
                "symbol": s.name,
                "baseSymbol": s.base,
                "quoteSymbol": s.quote,
                "marketType": s.kind,
                "filters": {
                    "price": {"minPrice": str(s.tick), "maxPrice": None, "tickSize": str(s.tick)},
                    "quantity": {
                        "minQuantity": str(s.min_qty),
                        "maxQuantity": None if s.max_qty is None else str(s.max_qty),
                        "stepSize": str(s.step),
                    },
                },
                "fundingInterval": 3_600_000 if s.kind == "PERP" else None,
                "orderBookState": s.state,
                "createdAt": "2025-01-21T06:34:54.691858",
                "visible": True,
            }
            for s in self.symbols.values()
        ]

    def _do_assets(self, p: dict[str, Any], account: Any) -> Any:
        names = sorted({name for s in self.symbols.values() for name in (s.base, s.quote)})
        return [{"symbol": name, "displayName": name, "tokens": []} for name in names]

    def _do_securities(self, p: dict[str, Any], account: Any) -> Any:
        return []

    def _do_depth(self, p: dict[str, Any], account: Any) -> Any:
        s = self.symbols[p["symbol"]]
        return {
            "bids": [[str(k), str(s.bids[k])] for k in sorted(s.bids)],  # the best is the last
            "asks": [[str(k), str(s.asks[k])] for k in sorted(s.asks)],
            "lastUpdateId": "1000",
            "timestamp": self.now_us(),
        }

    def _do_place(self, p: dict[str, Any], account: FakeAccount) -> tuple[Any, list[Any]]:
        market = self.symbols[p["symbol"]]
        client_id = p.get("clientId")
        if client_id is not None and not (type(client_id) is int and 0 <= client_id < 1 << 32):
            raise No("INVALID_CLIENT_REQUEST", "clientId: invalid value, expected u32")
        if p["side"] not in ("Bid", "Ask") or p["orderType"] != "Limit":
            raise No("INVALID_ORDER", "only limit orders here")
        if p.get("timeInForce", "GTC") not in ("GTC", "IOC", "FOK"):
            raise No("INVALID_CLIENT_REQUEST", "timeInForce: unknown variant")
        stp = p.get("selfTradePrevention", "RejectTaker")
        if stp not in ("RejectTaker", "RejectMaker", "RejectBoth"):
            raise No("INVALID_CLIENT_REQUEST", "selfTradePrevention: unknown variant")
        if not isinstance(p["price"], str) or not isinstance(p["quantity"], str):
            raise No("INVALID_CLIENT_REQUEST", "price and quantity must be strings")
        price, qty, side = D(p["price"]), D(p["quantity"]), p["side"]
        if price <= 0 or price % market.tick:
            raise No("INVALID_CLIENT_REQUEST", "Price decimal too long")
        if qty % market.step:
            raise No("INVALID_CLIENT_REQUEST", "Quantity decimal too long")
        if qty < market.min_qty or (market.max_qty is not None and qty > market.max_qty):
            raise No("INVALID_QUANTITY", "Quantity is below the minimum or above the maximum")
        if price * qty < market.min_value:
            raise No("INVALID_QUANTITY", "Value is below the minimum")
        if market.state not in ("Open", "LimitOnly", "PostOnly"):
            raise No("TRADING_PAUSED", "Trading is paused", 503)
        self._numbers += 1
        order = Order(
            str(self._numbers),
            client_id,
            market,
            side,
            "Limit",
            p.get("timeInForce", "GTC"),
            bool(p.get("postOnly", False)),
            bool(p.get("reduceOnly", False)),
            price,
            qty,
            stp,
            self.now_us(),
        )
        self._reserve(account, order, bool(p.get("autoLendRedeem", False)))
        account.orders.append(order)
        theirs = market.asks if side == "Bid" else market.bids

        def crosses(other: Decimal) -> bool:
            return other <= price if side == "Bid" else other >= price

        own = [o for o in account.open(market) if o.side != side and crosses(o.price)]
        levels = sorted((k for k in theirs if crosses(k)), reverse=side == "Ask")
        pushes: list[Any] = []
        if order.post_only and (levels or own):
            pushes.append(self._end(account, order, "Expired", "PostOnlyTaker"))
        elif own and stp in ("RejectTaker", "RejectBoth"):
            if stp == "RejectBoth":
                pushes += [self._end(account, o, "Expired", "SelfTradePrevention") for o in own]
            pushes.append(self._end(account, order, "Expired", "SelfTradePrevention"))
        elif order.reduce_only and not self._reduces(account, order):
            pushes.append(self._end(account, order, "Expired", "ReduceOnlyNotReduced"))
        elif order.tif == "FOK" and sum((theirs[k] for k in levels), D(0)) < qty:
            pushes.append(self._end(account, order, "Expired", "FillOrKill"))
        else:
            pushes += [self._end(account, o, "Expired", "SelfTradePrevention") for o in own]
            if not levels:
                pushes.append(self._update(order, "orderAccepted"))
            for level in levels:
                part = min(order.left, theirs[level])
                if part > 0:
                    theirs[level] -= part
                    if not theirs[level]:
                        del theirs[level]
                    pushes.append(self._fill(account, order, level, part, False))
            if order.left and order.tif != "GTC":
                pushes.append(self._end(account, order, "Expired", "ImmediateOrCancel"))
        same = market.bids if side == "Bid" else market.asks
        order.ahead = same.get(price, D(0))
        return self._row(order), pushes

    def _reduces(self, account: FakeAccount, order: Order) -> bool:
        held = account.positions.get(order.symbol.name, [D(0), D(0)])[0]
        return held < 0 if order.side == "Bid" else held > 0

    def _reserve(self, account: FakeAccount, order: Order, redeems: bool) -> None:
        if order.symbol.kind != "SPOT":
            return
        asset = order.symbol.quote if order.side == "Bid" else order.symbol.base
        need = order.price * order.qty if order.side == "Bid" else order.qty
        free, lent = account.free.get(asset, D(0)), account.lent.get(asset, D(0))
        if free < need <= free + lent:
            if not redeems:
                raise No("BORROW_REQUIRES_LEND_REDEEM", "Borrow requires lend redeem")
            account.lent[asset] = lent - (need - free)
            account.free[asset] = free = need
        if free < need:
            raise No("INSUFFICIENT_FUNDS", "Insufficient funds")
        account.free[asset] = free - need
        account.locked[asset] = account.locked.get(asset, D(0)) + need

    def _fill(
        self, account: FakeAccount, order: Order, price: Decimal, qty: Decimal, is_maker: bool
    ) -> dict[str, Any]:
        self._trade_ids += 1
        market, value = order.symbol, price * qty
        fee = value * (self.maker_bps if is_maker else self.taker_bps) / 10_000
        order.done += qty
        order.value += value
        order.status = "Filled" if not order.left else "PartiallyFilled"
        sign = 1 if order.side == "Bid" else -1
        if market.kind == "SPOT":
            if order.side == "Bid":
                reserved = order.price * qty
                account.locked[market.quote] -= reserved
                account.free[market.quote] += reserved - value - fee
                account.free[market.base] = account.free.get(market.base, D(0)) + qty
            else:
                account.locked[market.base] -= qty
                account.free[market.quote] = account.free.get(market.quote, D(0)) + value - fee
        else:
            held = account.positions.setdefault(market.name, [D(0), D(0)])
            if held[0] * sign >= 0:
                held[1] = (held[1] * abs(held[0]) + value) / (abs(held[0]) + qty)
            held[0] += sign * qty
            account.free[market.quote] -= fee
        at_us = self.now_us()
        account.fills.append(
            {
                "clientId": None if order.client_id is None else str(order.client_id),
                "fee": str(fee),
                "feeSymbol": market.quote,
                "isMaker": is_maker,
                "orderId": order.id,
                "price": str(price),
                "quantity": str(qty),
                "side": order.side,
                "symbol": market.name,
                "systemOrderType": None,
                "timestamp": iso(at_us),
                "tradeId": self._trade_ids,
                "_us": at_us,
            }
        )
        event = self._update(order, "orderFill", at_us)
        event |= {"t": self._trade_ids, "l": str(qty), "L": str(price), "m": is_maker}
        return event | {"n": str(fee), "N": market.quote}

    def _end(self, account: FakeAccount, order: Order, status: str, reason: str | None) -> dict[str, Any]:
        order.status, order.reason = status, reason
        market = order.symbol
        if market.kind == "SPOT":
            asset = market.quote if order.side == "Bid" else market.base
            back = order.price * order.left if order.side == "Bid" else order.left
            account.locked[asset] -= back
            account.free[asset] += back
        event = self._update(order, "orderExpired" if status == "Expired" else "orderCancelled")
        if reason is not None:
            event["R"] = reason
        return event

    def _update(self, order: Order, what: str, at_us: int | None = None) -> dict[str, Any]:
        at_us = at_us or self.now_us()
        event: dict[str, Any] = {
            "e": what,
            "E": at_us + 200,
            "s": order.symbol.name,
            "S": order.side,
            "o": "LIMIT",
            "f": order.tif,
            "q": str(order.qty),
            "p": str(order.price),
            "X": order.status,
            "i": order.id,
            "z": str(order.done),
            "Z": str(order.value),
            "V": order.stp,
            "T": at_us,
            "O": "USER",
            "y": order.post_only,
        }
        if order.client_id is not None:
            event["c"] = order.client_id
        return event

    def _row(self, order: Order, *, history: bool = False) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": order.id,
            "clientId": order.client_id,
            "orderType": "Limit",
            "symbol": order.symbol.name,
            "side": order.side,
            "price": str(order.price),
            "quantity": str(order.qty),
            "executedQuantity": str(order.done),
            "executedQuoteQuantity": str(order.value),
            "status": order.status,
            "timeInForce": order.tif,
            "postOnly": order.post_only,
            "reduceOnly": order.reduce_only,
            "selfTradePrevention": self.stp_said or order.stp,
            "createdAt": order.at_us // 1000,
            "triggerPrice": None,
            "relatedOrderId": None,
        }
        if history:
            row["createdAt"] = iso(order.at_us)
            row["expiryReason"] = order.reason
        return row

    def _find(self, p: dict[str, Any], account: FakeAccount) -> Order:
        if ("orderId" in p) == ("clientId" in p):
            raise No("INVALID_CLIENT_REQUEST", "One of orderId or clientId must be specified")
        for order in account.open(self.symbols[p["symbol"]]):
            if order.id == p.get("orderId") or (
                order.client_id is not None and str(order.client_id) == str(p.get("clientId"))
            ):
                return order
        raise No("RESOURCE_NOT_FOUND", "Order not found", 404)

    def _do_cancel(self, p: dict[str, Any], account: FakeAccount) -> tuple[Any, list[Any]]:
        order = self._find(p, account)
        event = self._end(account, order, "Cancelled", None)
        return self._row(order), [event]

    def _do_cancel_all(self, p: dict[str, Any], account: FakeAccount) -> tuple[Any, list[Any]]:
        ended = account.open(self.symbols[p["symbol"]])
        events = [self._end(account, order, "Cancelled", None) for order in ended]
        return [self._row(order) for order in ended], events

    def _do_order(self, p: dict[str, Any], account: FakeAccount) -> Any:
        return self._row(self._find(p, account))

    def freeze_list(self, account: FakeAccount) -> None:
        """The list of open orders lags: it goes on telling what is now, until `stale_open` is None."""
        with self.lock:
            self.stale_open = [self._row(order) for order in account.open()]

    def _do_open(self, p: dict[str, Any], account: FakeAccount) -> Any:
        if self.stale_open is not None:
            return self.stale_open
        market = self.symbols[p["symbol"]] if "symbol" in p else None
        kinds = (p["marketType"],) if "marketType" in p else ("SPOT", "PERP")
        return [self._row(o) for o in account.open(market) if o.symbol.kind in kinds]

    def _paged(self, rows: list[Any], p: dict[str, Any]) -> list[Any]:
        """`rows` oldest first; the default order is newest first."""
        if p.get("sortDirection", "Desc") == "Desc":
            rows = rows[::-1]
        limit, offset = int(p.get("limit", 100)), int(p.get("offset", 0))
        if limit > 1000:
            raise No("INVALID_RANGE", "limit is at most 1000")
        return rows[offset : offset + min(limit, self.page)]

    def _do_history(self, p: dict[str, Any], account: FakeAccount) -> Any:
        found = [
            order
            for order in account.orders
            if p.get("symbol", order.symbol.name) == order.symbol.name
            and p.get("orderId", order.id) == order.id
        ]
        rows = []
        for order in found:
            row = self._row(order, history=True)
            if order.id in self.history_lag:
                row["status"] = "New"
            rows.append(row)
        return self._paged(rows, p)

    def _do_fills(self, p: dict[str, Any], account: FakeAccount) -> Any:
        since_us = int(p.get("from", 0)) * 1000
        found = [
            {name: value for name, value in fill.items() if name != "_us"}
            for fill in account.fills
            if p.get("symbol", fill["symbol"]) == fill["symbol"] and fill["_us"] >= since_us
        ]
        return self._paged(found, p)

    def _do_funding(self, p: dict[str, Any], account: FakeAccount) -> Any:
        return self._paged([f for f in account.funding if p.get("symbol", f["symbol"]) == f["symbol"]], p)

    def _do_capital(self, p: dict[str, Any], account: FakeAccount) -> Any:
        return {
            asset: {
                "available": str(account.free[asset]),
                "locked": str(account.locked.get(asset, D(0))),
                "staked": "0",
            }
            for asset in account.free
        }

    def _do_collateral(self, p: dict[str, Any], account: FakeAccount) -> Any:
        rows = [
            {
                "symbol": asset,
                "assetMarkPrice": "1",
                "totalQuantity": str(free + account.lent.get(asset, D(0))),
                "balanceNotional": str(free),
                "collateralWeight": "1",
                "collateralValue": str(free),
                "openOrderQuantity": str(account.locked.get(asset, D(0))),
                "lendQuantity": str(account.lent.get(asset, D(0))),
                "availableQuantity": str(free),
            }
            for asset, free in account.free.items()
        ]
        names = ("assetsValue", "borrowLiability", "unsettledEquity", "liabilitiesValue", "netEquityLocked")
        more = dict.fromkeys((*names, "netExposureFutures", "pnlUnrealized"), "0")
        return {
            "collateral": rows,
            "imf": "0.02",
            "mmf": "0.01",
            "netEquity": "7",
            "marginFraction": None,
        } | {
            "netEquityAvailable": "5",
            **more,
        }

    def _do_account(self, p: dict[str, Any], account: FakeAccount) -> Any:
        return {
            "autoBorrowSettlements": True,
            "autoLend": account.lending,
            "autoRealizePnl": True,
            "autoRepayBorrows": True,
            "borrowLimit": "0",
            "futuresMakerFee": str(self.maker_bps),
            "futuresTakerFee": str(self.taker_bps),
            "leverageLimit": "10",
            "limitOrders": len(account.open()),
            "liquidating": False,
            "positionLimit": "0",
            "spotMakerFee": str(self.maker_bps),
            "spotTakerFee": str(self.taker_bps),
            "triggerOrders": 0,
        }

    def _do_position(self, p: dict[str, Any], account: FakeAccount) -> Any:
        held = {name: pos for name, pos in account.positions.items() if pos[0]}
        if "symbol" in p and p["symbol"] not in held:
            raise No("RESOURCE_NOT_FOUND", "Position not found", 404)
        return [
            {
                "symbol": name,
                "netQuantity": str(pos[0]),
                "entryPrice": str(pos[1]),
                "breakEvenPrice": str(pos[1]),
                "markPrice": str(pos[1]),
                "pnlRealized": "0",
                "pnlUnrealized": "0",
                "positionId": "1",
                "userId": 1,
            }
            for name, pos in held.items()
        ]

    def _do_address(self, p: dict[str, Any], account: FakeAccount) -> Any:
        return {"address": f"{p['blockchain']}Address111"}

    # ------------------------------------------------------------------ pushing

    def _push_all(self, account: FakeAccount, events: list[Any]) -> None:
        if self.hold_pushes:
            self._held.append((account, events))
            return
        for event in events:
            times = 1
            if self.drop_pushes > 0:
                self.drop_pushes -= 1
                continue
            if self.repeat_pushes > 0:
                self.repeat_pushes -= 1
                times = 2
            for sub in list(self._subs):
                if sub.account is account:
                    for _ in range(times):
                        sub.send_json({"stream": "account.orderUpdate", "data": event})

    def take_fault(self, call: str) -> Fault | None:
        for index, fault in enumerate(self._faults):
            if fault.on in (None, call):
                return self._faults.pop(index)
        return None

    def later(self, seconds: float, what: Any) -> None:
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    # ------------------------------------------------------------------ transport

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


def iso(at_us: int) -> str:
    """As the venue's histories tell time: UTC without a zone."""
    whole = datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(tzinfo=None)
    return f"{whole.isoformat()}.{at_us % 1_000_000:06d}"


def plain(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def signing_string(instruction: str, params: Any, stamp: str, window: str) -> str:
    groups = params if isinstance(params, list) else [params]
    text = "&".join(
        "&".join([f"instruction={instruction}", *(f"{k}={plain(g[k])}" for k in sorted(g))]) for g in groups
    )
    return f"{text}&timestamp={stamp}&window={window}"


class _Connection:
    """HTTP/1.1 on one socket, until it becomes a WebSocket."""

    def __init__(self, fake: FakeBackpack, made: socket.socket) -> None:
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
            if not self._http(verb, target, headers, body):
                return

    def _upgrade(self, headers: dict[str, str]) -> None:
        fake = self.fake
        if fake.refuse_sockets:
            self.made.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        digest = hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()
        self.made.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n".encode()
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

    def _http(self, verb: str, target: str, headers: dict[str, str], body: bytes) -> bool:
        """False: the connection ends."""
        fake = self.fake
        path, _, query = target.partition("?")
        route = ROUTES.get((verb, path))
        if route is None:
            self.reply(404, b"<html><body>404 Not found</body></html>", kind="text/html")
            return True
        call, instruction = route
        with fake.lock:
            fault = fake.take_fault(call)
            kind = fault.kind if fault else ""
            args = fault.args if fault else {}
            if kind == "close_before":
                return False
            if kind == "lose_command":
                fake.later(5.0, self.drop)
                return True
            account: FakeAccount | None = None
            pushes: list[Any] = []
            status, retry = 200, None
            try:
                if kind == "error":
                    raise No(**args)
                if body and headers.get("content-type", "").split(";")[0] != "application/json":
                    raise No(
                        "INVALID_CLIENT_REQUEST", "Expected request with `Content-Type: application/json`"
                    )
                params = json.loads(body) if body else dict(parse_qsl(query, keep_blank_values=True))
                if instruction:
                    account = fake.accounts.get(headers.get("x-api-key", ""))
                    stamp, window = headers.get("x-timestamp", ""), headers.get("x-window", "5000")
                    text = signing_string(instruction, params, stamp, window)
                    fake.check_signature(account, text, headers.get("x-signature", ""))
                    fake.check_time(stamp, window)
                    assert account is not None
                    fake.count(account)
                if kind not in ("html", "redirect"):
                    fake.calls.append((call, params))
                    result, pushes = fake.handle(call, params, account)
                    is_text = isinstance(result, str)
                    answer = result.encode() if is_text else json.dumps(result).encode()
            except No as no:
                status, retry = no.status, no.retry_s
                answer = json.dumps({"code": no.code, "message": no.message}).encode()
            if kind == "html":
                self.reply(args.get("status", 502), b"<html>Bad Gateway</html>", kind="text/html")
                return True
            if kind == "redirect":
                self.reply(302, b"", extra="Location: http://127.0.0.1:1/\r\n")
                return True
            if kind == "error_after":
                status = args["status"]
                answer = json.dumps({"code": args["code"], "message": args["message"]}).encode()
            if kind == "accepted":
                status, answer = 202, b""
            if kind == "garbage":
                answer = b'{"surprise":1}'
            if kind == "cut_stream":
                fake.cut()
            if account is not None and kind != "cut_stream":
                if not fake.push_delay_s:
                    fake._push_all(account, pushes)
                else:
                    owner = account
                    fake.later(fake.push_delay_s, lambda: self._push_late(owner, pushes))
        if kind == "close_after":
            return False
        if kind == "lose_answer":
            fake.later(5.0, self.drop)
            return True
        if kind in ("late_answer", "slow"):
            time.sleep(args.get("late_s", 0.7))
        if kind == "truncate":
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
            self.made.sendall(head + answer[:-20])
            return False
        self.reply(status, answer, retry)
        return True

    def _push_late(self, account: FakeAccount, pushes: list[Any]) -> None:
        with self.fake.lock:
            self.fake._push_all(account, pushes)

    def reply(
        self,
        status: int,
        body: bytes,
        retry: float | None = None,
        *,
        kind: str = "application/json",
        extra: str = "",
    ) -> None:
        if retry is not None:
            extra += f"Retry-After: {retry:g}\r\n"
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self.made.sendall(head.encode() + body)


class _WebSocket(_Connection):
    """The stream API on one socket."""

    def __init__(self, fake: FakeBackpack, made: socket.socket, data: bytes) -> None:
        super().__init__(fake, made)
        self.data = data
        self.account: FakeAccount | None = None
        self.is_mute = False
        self.pongs: deque[bytes] = deque(maxlen=100)
        self._write = threading.Lock()

    def send_frame(self, opcode: int, payload: bytes) -> None:
        if self.is_mute:
            return
        size = len(payload)
        head = bytes((0x80 | opcode,))
        head += bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
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
            else:
                self._request(json.loads(payload))

    def _request(self, asked: dict[str, Any]) -> None:
        fake = self.fake
        if asked.get("method") != "SUBSCRIBE":
            return
        private = [name for name in asked["params"] if name.startswith("account.")]
        with fake.lock:
            if not private:
                return
            fault = fake.take_fault("subscribe")
            try:
                if fault is not None:
                    raise No(**fault.args)
                api_key, signature, stamp, window = asked.get("signature", ("", "", "", ""))
                account = fake.accounts.get(api_key)
                text = f"instruction=subscribe&timestamp={stamp}&window={window}"
                fake.check_signature(account, text, signature)
                fake.check_time(stamp, window)
            except No as no:
                told = {"code": 4005, "message": no.message}
                self.send_json({"id": None, "error": told} if fake.stream_error == "error" else told)
                return
            if private == ["account.orderUpdate"]:
                self.account = account
                fake._subs.append(self)
