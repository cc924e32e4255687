"""OKX on this machine: REST and the three WebSockets of API v5 around a small matching core. Shares no
code with the adapter.

Written from the fact sheets and the documents' payloads: signatures, passphrase, environment and time are
verified over exactly what was sent; order operations over WebSocket take `instIdCode` and refuse `instId`;
answers carry `code` 0, 1 or 2 and items with `sCode`; a post-only order that would take is accepted and then
told as canceled with source 31; the deadline `expTime` is kept; the dead-man counts down by tag. A market is
moved by the test: `book` sets what strangers rest, `trade` lets a stranger take.

`fault` makes the next requests of an operation go wrong; `calls` remembers every request that was understood.
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
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

D = Decimal
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FINAL = ("filled", "canceled", "mmp_canceled")
ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
WRITES = {
    "/api/v5/trade/order": "order",
    "/api/v5/trade/cancel-order": "cancel-order",
    "/api/v5/trade/amend-order": "amend-order",
    "/api/v5/trade/batch-orders": "batch-orders",
    "/api/v5/trade/cancel-batch-orders": "batch-cancel-orders",
    "/api/v5/trade/cancel-all-after": "cancel-all-after",
}
READS = {
    "/api/v5/public/time": "time",
    "/api/v5/public/instruments": "instruments",
    "/api/v5/market/books": "books",
    "/api/v5/account/balance": "balance",
    "/api/v5/account/positions": "positions",
    "/api/v5/account/config": "config",
    "/api/v5/account/trade-fee": "trade-fee",
    "/api/v5/account/bills": "bills",
    "/api/v5/account/bills-archive": "bills",
    "/api/v5/trade/orders-pending": "orders-pending",
    "/api/v5/trade/order": "order-details",
    "/api/v5/trade/fills": "fills",
    "/api/v5/trade/fills-history": "fills",
}
PUBLIC = ("time", "instruments", "books")
SINGLE = {"batch-orders": "order", "batch-cancel-orders": "cancel-order"}


def text(value: Decimal) -> str:
    plain = format(value.normalize(), "f")
    return "0" if plain in ("-0", "") else plain


class No(Exception):
    """A refusal: of the whole request, or (raised inside an operation) of one item."""

    def __init__(self, code: str, msg: str, status: int = 200, retry_s: float | None = None) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status, self.retry_s = code, msg, status, retry_s


@dataclass
class Market:
    inst_id: str
    code: int | None
    base: str
    quote: str
    inst_type: str = "SPOT"
    tick: Decimal = D("0.01")
    lot: Decimal = D("0.001")
    min_sz: Decimal = D("0.002")
    max_sz: Decimal = D(1000)
    ct_val: Decimal = D(1)
    ct_type: str = ""
    settle: str = ""
    state: str = "live"
    group: str = "1"
    exp_ms: str = ""
    low: Decimal = D(0)
    high: Decimal = D(10**9)
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)
    seq: int = 1000

    @property
    def is_spot(self) -> bool:
        return self.inst_type == "SPOT"


@dataclass(eq=False)
class Order:
    number: str
    client_id: str
    market: Market
    side: str
    kind: str
    px: Decimal
    sz: Decimal
    p: dict[str, Any]
    at_ms: int
    state: str = "live"
    done: Decimal = D(0)
    ahead: Decimal = D(0)
    fee: Decimal = D(0)
    changed_ms: int = 0
    cancel_source: str = ""
    fills: int = 0

    @property
    def left(self) -> Decimal:
        return self.sz - self.done


@dataclass
class Fault:
    kind: str
    on: str | None
    args: dict[str, Any]


class FakeAccount:
    """One API key with its balances, orders, fills and positions."""

    def __init__(self, api_key: str, secret: str, passphrase: str, balances: dict[str, Decimal]) -> None:
        self.api_key, self.secret, self.passphrase = api_key, secret, passphrase
        self.free = dict(balances)
        self.locked: dict[str, Decimal] = dict.fromkeys(balances, D(0))
        self.orders: list[Order] = []
        self.fills: list[dict[str, Any]] = []
        self.bills: list[dict[str, Any]] = []
        self.positions: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        self.level = "2"
        self.pos_mode = "net_mode"
        self.perm = "read_only,trade"
        self.revoked = False
        self.dead_men: dict[str, float] = {}

    def sign(self, payload: str) -> str:
        made = hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).digest()
        return base64.b64encode(made).decode()

    def open(self, market: Market | None = None) -> list[Order]:
        return [o for o in self.orders if o.state not in FINAL and market in (None, o.market)]


class FakeOkx:
    """See the module docstring. Listens on 127.0.0.1 from the moment it is made until `close`."""

    def __init__(self, markets: Iterable[Market] = (), *, is_demo: bool = False) -> None:
        made = markets or (Market("BTC-USDT", 101, "BTC", "USDT"),)
        self.markets = {m.inst_id: m for m in made}
        self.is_demo = is_demo
        self.accounts: dict[str, FakeAccount] = {}
        self.lock = threading.RLock()
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.skew_ms = 0
        self.maker, self.taker = D("-0.0008"), D("-0.001")
        self.fee_in_quote = False
        self.limits: dict[str, int] = {}
        self.live_before_refusal = False
        self.pushes_first = False
        self.pushes_snapshots = True
        self.drop_pushes = 0
        self.repeat_pushes = 0
        self.hold_pushes: list[tuple[FakeAccount, str, list[Any]]] | None = None
        self.refuse_sockets = False
        self.refuse_subscriptions = ""
        self.stp_said: str | None = None
        self.time_scale = 1.0
        self.page = 100
        self.connections = 0
        self.stale_open: list[dict[str, Any]] | None = None
        self._seen: dict[str, deque[float]] = {}
        self._faults: list[Fault] = []
        self._numbers = 2_510_789_768_709_120
        self._trade_ids = 1000
        self._open: set[_Connection] = set()
        self._timers: list[threading.Timer] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.rest = f"http://127.0.0.1:{self.port}"
        self.socket = f"ws://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    # ------------------------------------------------------------------ for tests

    def account(
        self, api_key: str = "key", secret: str = "secret", passphrase: str = "pass", **balances: str
    ) -> FakeAccount:
        made = FakeAccount(api_key, secret, passphrase, {a: D(v) for a, v in balances.items()})
        self.accounts[api_key] = made
        return made

    def fault(self, kind: str, on: str | None = None, n: int = 1, **args: Any) -> None:
        with self.lock:
            self._faults += [Fault(kind, on, args) for _ in range(n)]

    def book(self, inst_id: str, bids: dict[str, str], asks: dict[str, str]) -> None:
        """What strangers rest; orders of ours keep how much stands before them, and never more than there
        is."""
        with self.lock:
            market = self.markets[inst_id]
            was = (dict(market.bids), dict(market.asks))
            market.bids = {D(p): D(q) for p, q in bids.items()}
            market.asks = {D(p): D(q) for p, q in asks.items()}
            self._push_book(market, *was)
            for account in self.accounts.values():
                for order in account.open(market):
                    side = market.bids if order.side == "buy" else market.asks
                    order.ahead = min(order.ahead, side.get(order.px, D(0)))

    def trade(self, inst_id: str, side: str, price: str, qty: str) -> None:
        """A stranger takes up to `qty` at `price` or better for him."""
        with self.lock:
            market, limit, left = self.markets[inst_id], D(price), D(qty)
            self._trade_ids += 1
            row = {"instId": inst_id, "tradeId": str(self._trade_ids), "px": price, "sz": qty, "side": side}
            row |= {"ts": str(self.now_ms()), "count": "1"}
            self._push_public("trades", inst_id, [row])
            ours = "sell" if side == "buy" else "buy"
            resting = [
                (order, account)
                for account in self.accounts.values()
                for order in account.open(market)
                if order.side == ours and (order.px <= limit if ours == "sell" else order.px >= limit)
            ]
            resting.sort(key=lambda pair: (pair[0].px if ours == "sell" else -pair[0].px, pair[0].number))
            for order, account in resting:
                if order.px == limit:
                    passed = min(order.ahead, left)
                    for other, _ in resting:
                        if other.px == order.px:
                            other.ahead = max(D(0), other.ahead - passed)
                    left -= passed
                part = min(left, order.left)
                if part > 0:
                    left -= part
                    self._push_all(account, self._fill(account, order, order.px, part, "M"))

    def heartbeat(self, inst_id: str) -> None:
        """What a quiet book says once a minute."""
        market = self.markets[inst_id]
        row = {"asks": [], "bids": [], "ts": str(self.now_ms()), "checksum": 0}
        row |= {"seqId": market.seq, "prevSeqId": market.seq}
        self._push_public("books", inst_id, [row], action="update")

    def _push_book(self, market: Market, bids: dict[Decimal, Decimal], asks: dict[Decimal, Decimal]) -> None:
        def changes(old: dict[Decimal, Decimal], new: dict[Decimal, Decimal]) -> list[list[str]]:
            return [
                [text(p), text(new.get(p, D(0))), "0", "1"] for p in {*old, *new} if old.get(p) != new.get(p)
            ]

        previous, market.seq = market.seq, market.seq + 3
        row = {"asks": changes(asks, market.asks), "bids": changes(bids, market.bids), "checksum": 0}
        row |= {"ts": str(self.now_ms()), "seqId": market.seq, "prevSeqId": previous}
        self._push_public("books", market.inst_id, [row], action="update")
        depth = self.depth(market)
        touch = {"asks": depth["asks"][:1], "bids": depth["bids"][:1], "ts": depth["ts"], "seqId": market.seq}
        self._push_public("bbo-tbt", market.inst_id, [touch])

    def _push_public(self, channel: str, inst_id: str, rows: list[Any], **more: str) -> None:
        message = {"arg": {"channel": channel, "instId": inst_id}, **more, "data": rows}
        for ws in self._sockets():
            if f"{channel} {inst_id}" in ws.channels:
                ws.send_json(message)

    def fund(self, account: FakeAccount, inst_id: str, amount: str) -> None:
        """A funding payment; `amount` as OKX tells it, paid is negative."""
        with self.lock:
            self._numbers += 1
            value = D(amount)
            row = {"billId": str(self._numbers), "instId": inst_id, "instType": "SWAP", "ccy": "USDT"}
            row |= {"balChg": amount, "posBalChg": "0", "type": "8", "px": "100.1", "ts": str(self.now_ms())}
            row["subType"] = "173" if value < 0 else "174"
            account.bills.append(row)
            account.free["USDT"] = account.free.get("USDT", D(0)) + value

    def cut(self) -> None:
        for ws in self._sockets():
            ws.drop()

    def mute(self) -> None:
        """Every WebSocket that is open now stays open, and nothing comes over it any more."""
        for ws in self._sockets():
            ws.is_mute = True

    def notice(self, code: str = "64008") -> None:
        for ws in self._sockets():
            ws.send_json({"event": "notice", "code": code, "msg": "The connection will soon be closed."})

    def tell_raw(self, raw: bytes) -> None:
        for ws in self._sockets():
            ws.send_raw(raw)

    @property
    def subscribed(self) -> int:
        return len([ws for ws in self._sockets() if {"orders", "account"} <= ws.channels])

    @property
    def pings(self) -> int:
        return sum(ws.pings for ws in self._sockets())

    def ops(self, how: str | None = None) -> list[str]:
        return [op for way, op, _ in self.calls if how in (None, way)]

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

    def count(self, op: str, inst_id: str = "") -> None:
        """Sliding windows of two seconds, for the operations that a test limited."""
        limit = self.limits.get(op)
        if limit is None:
            return
        seen, now = self._seen.setdefault(f"{op} {inst_id}", deque()), time.monotonic()
        while seen and now - seen[0] > 2.0:
            seen.popleft()
        if len(seen) >= limit:
            raise No("50011", "Rate limit reached. Please refer to API documentation and throttle requests.")
        seen.append(now)

    def read(self, op: str, p: dict[str, str], account: FakeAccount | None) -> list[Any]:
        self.count(op)
        name = "_read_" + op.replace("-", "_")
        found: list[Any] = getattr(self, name)(p, account)
        return found

    def write(
        self, op: str, items: list[dict[str, Any]], account: FakeAccount, exp_time: str | None, by_code: bool
    ) -> tuple[str, list[Any], list[Any]]:
        """(code, rows, pushes) of an order operation."""
        if exp_time is not None:
            if not exp_time.isdigit():
                raise No("50014", "Parameter expTime error")
            if self.now_ms() > int(exp_time):
                raise No("50036", "The expTime can't be earlier than the current system time.")
        if op in SINGLE and not 1 <= len(items) <= 20:
            raise No("51111", "Maximum 20 orders can be placed in bulk.")
        if op not in SINGLE and len(items) != 1:
            raise No("60013" if by_code else "50002", "Invalid args")
        rows, pushes, failed = [], [], 0
        for item in items:
            row: dict[str, Any] = {
                "ordId": "",
                "clOrdId": item.get("clOrdId", ""),
                "tag": item.get("tag", ""),
            }
            row |= {"ts": str(self.now_ms()), "sCode": "0", "sMsg": "", "subCode": ""}
            try:
                market = self._market(item, by_code)
                self.count(SINGLE.get(op, op), market.inst_id)
                work = getattr(self, "_" + SINGLE.get(op, op).replace("-", "_"))
                order, more = work(item, market, account)
                row |= {"ordId": order.number, "clOrdId": order.client_id}
                pushes += more
            except No as no:
                row |= {"sCode": no.code, "sMsg": no.msg}
                failed += 1
            rows.append(row)
        code = "0" if not failed else ("1" if failed == len(rows) else "2")
        return code, rows, pushes

    def _market(self, item: dict[str, Any], by_code: bool) -> Market:
        if by_code:
            if "instId" in item:
                raise No("51000", "Parameter instId error")
            code = item.get("instIdCode")
            if isinstance(code, int):
                for market in self.markets.values():
                    if market.code == code:
                        return market
            raise No("51001", "Instrument ID doesn't exist.")
        found = self.markets.get(str(item.get("instId")))
        if found is None:
            raise No("51001", "Instrument ID doesn't exist.")
        return found

    def _order(self, p: dict[str, Any], market: Market, account: FakeAccount) -> tuple[Order, list[Any]]:
        known = {"instId", "instIdCode", "tdMode", "side", "ordType", "px", "sz", "clOrdId", "tag", "stpMode"}
        known |= {"posSide", "reduceOnly"}
        if set(p) - known:
            raise No("51000", f"Parameter {sorted(set(p) - known)} error")
        side, kind, client_id = p.get("side"), p.get("ordType"), p.get("clOrdId", "")
        if side not in ("buy", "sell") or kind not in ("limit", "post_only", "ioc", "fok"):
            raise No("51000", "Parameter ordType error")
        if not set(client_id) <= ALNUM or len(client_id) > 32 or len(p.get("tag", "")) > 16:
            raise No("51000", "Parameter clOrdId error")
        if not all(isinstance(p.get(name), str) for name in ("px", "sz", "tdMode")):
            raise No("51000", "Parameter px error")
        modes = (
            ("cross", "isolated")
            if not market.is_spot
            else (("cash",) if account.level in "12" else ("cross",))
        )
        if p["tdMode"] not in modes or (not market.is_spot and account.level == "1"):
            raise No("51010", "Request unsupported under current account mode")
        is_hedged = account.pos_mode == "long_short_mode" and not market.is_spot
        if is_hedged != (p.get("posSide") in ("long", "short")):
            raise No("51000", "Parameter posSide error")
        if market.state != "live" and not (market.state == "post_only" and kind == "post_only"):
            raise No("51022", "Contract suspended.")
        px, sz = D(p["px"]), D(p["sz"])
        if px <= 0 or px % market.tick:
            raise No("51000", "Parameter px error")
        if sz < market.min_sz:
            raise No("51020", "Your order should meet or exceed the minimum order amount.")
        if sz > market.max_sz:
            raise No("51202", "Market order amount exceeds the maximum amount.")
        if sz % market.lot:
            raise No("51121", "Order quantity must be a multiple of the lot size.")
        if px > market.high or px < market.low:
            raise No("51006", f"Order price is not within the price limit ({market.high}, {market.low})")
        if any(o.client_id == client_id for o in account.open() if client_id):
            raise No("51016", "Client order ID already exists.")
        if p.get("reduceOnly") is True:
            pos = account.positions.get((market.inst_id, "net"), (D(0), D(0)))[0]
            if pos == 0 or (pos > 0) == (side == "buy"):
                raise No("51169", "Order failed. You don't have any positions to reduce.")
        asset, amount = self._needs(market, side, px, sz)
        if account.free.get(asset, D(0)) < amount:
            raise No("51008", f"Order failed. Insufficient {asset} balance in account")
        self._numbers += 1
        now = self.now_ms()
        order = Order(str(self._numbers), client_id, market, side, kind, px, sz, p, now, changed_ms=now)
        account.orders.append(order)
        account.free[asset] -= amount
        account.locked[asset] = account.locked.get(asset, D(0)) + amount
        return order, self._match(account, order)

    def _match(self, account: FakeAccount, order: Order) -> list[Any]:
        market, side = order.market, order.side
        theirs = market.asks if side == "buy" else market.bids
        mine = sorted(
            (o for o in account.open(market) if o.side != side),
            key=lambda o: (o.px if side == "buy" else -o.px, o.number),
        )

        def crosses(other: Decimal) -> bool:
            return other <= order.px if side == "buy" else other >= order.px

        takes = any(crosses(at) for at in theirs) or any(crosses(o.px) for o in mine)
        if order.kind == "post_only" and takes:
            live = [self._row(order)] if self.live_before_refusal else []
            return live + self._end(account, order, "31")
        available = sum((q for at, q in theirs.items() if crosses(at)), D(0))
        available += sum((o.left for o in mine if crosses(o.px)), D(0))
        if order.kind == "fok" and available < order.left:
            return self._end(account, order, "13")
        pushes: list[Any] = []
        for at in sorted({*theirs, *(o.px for o in mine)}, reverse=side == "sell"):
            if not crosses(at) or order.left <= 0 or order.state in FINAL:
                break
            part = min(order.left, theirs.get(at, D(0)))
            if part > 0:
                theirs[at] -= part
                if not theirs[at]:
                    del theirs[at]
                pushes += self._fill(account, order, at, part, "T")
            for own in mine:
                if own.px != at or order.left <= 0 or own.state in FINAL:
                    continue
                mode = order.p.get("stpMode", "cancel_maker")
                if mode in ("cancel_maker", "cancel_both"):
                    pushes += self._end(account, own, "32")
                if mode in ("cancel_taker", "cancel_both"):
                    return pushes + self._end(account, order, "32")
        if order.state not in FINAL:
            if order.kind in ("ioc", "fok"):
                return pushes + self._end(account, order, "14")
            order.ahead = (market.bids if side == "buy" else market.asks).get(order.px, D(0))
            if not order.done:
                pushes.insert(0, self._row(order))
        return pushes

    def _needs(self, market: Market, side: str, px: Decimal, sz: Decimal) -> tuple[str, Decimal]:
        if not market.is_spot:
            return market.settle, px * sz * market.ct_val / 10
        return (market.quote, px * sz) if side == "buy" else (market.base, sz)

    def _find(self, p: dict[str, Any], market: Market, account: FakeAccount, no: No) -> Order:
        number, client_id = p.get("ordId"), p.get("clOrdId")
        if not number and not client_id:
            raise No("51003", "Either client order ID or order ID is required.")
        for order in reversed(account.orders):
            is_it = order.number == number if number else order.client_id == client_id
            if order.market is market and is_it:
                return order
        raise no

    def _cancel_order(
        self, p: dict[str, Any], market: Market, account: FakeAccount
    ) -> tuple[Order, list[Any]]:
        gone = No(
            "51400", "Order cancellation failed as the order has been filled, canceled or does not exist."
        )
        order = self._find(p, market, account, gone)
        if order.state in FINAL:
            raise gone
        return order, self._end(account, order, "1")

    def _amend_order(
        self, p: dict[str, Any], market: Market, account: FakeAccount
    ) -> tuple[Order, list[Any]]:
        gone = No("51503", "Your order has already been filled or canceled.")
        order = self._find(p, market, account, gone)
        if order.state in FINAL:
            raise gone
        px, sz = D(p.get("newPx", order.px)), D(p.get("newSz", order.sz))
        if "newPx" not in p and "newSz" not in p:
            raise No("51500", "You must enter a price, quantity, or TP/SL")
        if sz < market.min_sz or sz % market.lot or px % market.tick:
            raise No("51121", "Order quantity must be a multiple of the lot size.")
        if sz <= order.done:
            return order, self._end(account, order, "1")
        theirs = market.asks if order.side == "buy" else market.bids
        if (
            px != order.px
            and order.kind == "post_only"
            and any(at <= px if order.side == "buy" else at >= px for at in theirs)
        ):
            raise No("51511", "Modification failed as the price did not meet the requirement for Post-only.")
        asset, was = self._needs(market, order.side, order.px, order.left)
        _, now = self._needs(market, order.side, px, sz - order.done)
        if account.free.get(asset, D(0)) < now - was:
            raise No("51502", "Unable to edit order: insufficient balance or margin.")
        account.free[asset] -= now - was
        account.locked[asset] += now - was
        keeps = px == order.px and sz <= order.sz
        order.px, order.sz, order.changed_ms = px, sz, self.now_ms()
        if keeps:
            return order, [self._row(order) | {"amendResult": "0"}]
        order.ahead = (market.bids if order.side == "buy" else market.asks).get(px, D(0))
        return order, [self._row(order) | {"amendResult": "0"}]

    def cancel_all_after(self, p: dict[str, Any], account: FakeAccount) -> list[Any]:
        self.count("cancel-all-after")
        seconds, tag = str(p.get("timeOut", "")), str(p.get("tag", ""))
        if seconds != "0" and not (seconds.isdigit() and 10 <= int(seconds) <= 120):
            raise No("51000", "Parameter timeOut error")
        now = time.monotonic()
        due = now + int(seconds) * self.time_scale
        account.dead_men.pop(tag, None)
        if seconds != "0":
            account.dead_men[tag] = due
            self.later(int(seconds) * self.time_scale, lambda: self._fire(account, tag, due))
        trigger = 0 if seconds == "0" else self.now_ms() + int(seconds) * 1000
        return [{"triggerTime": str(trigger), "tag": tag, "ts": str(self.now_ms())}]

    def _fire(self, account: FakeAccount, tag: str, due: float) -> None:
        with self.lock:
            if account.dead_men.get(tag) != due:
                return
            del account.dead_men[tag]
            pushes: list[Any] = []
            for order in account.open():
                if not tag or order.p.get("tag") == tag:
                    pushes += self._end(account, order, "20")
            self._push_all(account, pushes)

    # what happens to an order

    def _fill(self, account: FakeAccount, order: Order, px: Decimal, qty: Decimal, role: str) -> list[Any]:
        market = order.market
        asset, held = self._needs(market, order.side, order.px, qty)
        order.done += qty
        order.fills += 1
        order.state = "filled" if order.left == 0 else "partially_filled"
        order.changed_ms = self.now_ms()
        rate = self.maker if role == "M" else self.taker
        account.locked[asset] -= held
        if not market.is_spot:
            fee, fee_ccy = px * qty * market.ct_val * rate, market.settle
            account.free[asset] += held + fee
            self._move(account, order, px, qty)
        elif order.side == "buy":
            account.free[market.quote] += (order.px - px) * qty
            fee, fee_ccy = (px * qty * rate, market.quote) if self.fee_in_quote else (qty * rate, market.base)
            account.free[market.base] = account.free.get(market.base, D(0)) + qty
            account.free[fee_ccy] += fee
        else:
            fee, fee_ccy = px * qty * rate, market.quote
            account.free[market.quote] = account.free.get(market.quote, D(0)) + px * qty + fee
        order.fee += fee
        self._trade_ids += 1
        self._numbers += 1
        told = {"fillPx": text(px), "fillSz": text(qty), "tradeId": str(self._trade_ids), "execType": role}
        told["fillTime"] = str(order.changed_ms)
        account.fills.append(
            told
            | {
                "instType": market.inst_type,
                "instId": market.inst_id,
                "ordId": order.number,
                "clOrdId": order.client_id,
                "billId": str(self._numbers),
                "tag": order.p.get("tag", ""),
                "side": order.side,
                "posSide": order.p.get("posSide", "net"),
                "fee": text(fee),
                "feeCcy": fee_ccy,
                "fillPnl": "0",
                "subType": "1",
                "ts": str(order.changed_ms + 1),
            }
        )
        return [self._row(order) | told | {"fillFee": text(fee), "fillFeeCcy": fee_ccy, "feeCcy": fee_ccy}]

    def _move(self, account: FakeAccount, order: Order, px: Decimal, qty: Decimal) -> None:
        name = order.p.get("posSide") or "net"
        at = (order.market.inst_id, name)
        pos, avg = account.positions.get(at, (D(0), D(0)))
        step = qty if order.side == "buy" else -qty
        step = -step if name == "short" else step
        after = pos + step
        if pos == 0 or (pos > 0) == (step > 0):
            avg = (abs(pos) * avg + abs(step) * px) / abs(after)
        elif (after > 0) != (pos > 0):
            avg = px
        account.positions[at] = (after, avg)

    def _end(self, account: FakeAccount, order: Order, source: str) -> list[Any]:
        asset, amount = self._needs(order.market, order.side, order.px, order.left)
        account.locked[asset] -= amount
        account.free[asset] += amount
        order.state, order.cancel_source, order.changed_ms = "canceled", source, self.now_ms()
        return [self._row(order)]

    # ------------------------------------------------------------------ shapes

    def _row(self, o: Order) -> dict[str, Any]:
        return {
            "instType": o.market.inst_type,
            "instId": o.market.inst_id,
            "ordId": o.number,
            "clOrdId": o.client_id,
            "tag": o.p.get("tag", ""),
            "px": text(o.px),
            "sz": text(o.sz),
            "ordType": o.kind,
            "side": o.side,
            "posSide": o.p.get("posSide", "net"),
            "tdMode": o.p["tdMode"],
            "state": o.state,
            "accFillSz": text(o.done),
            "avgPx": "",
            "fillPx": "",
            "fillSz": "0",
            "tradeId": "",
            "fillTime": "",
            "fillFee": "0",
            "fillFeeCcy": "",
            "fee": text(o.fee),
            "feeCcy": "",
            "cancelSource": o.cancel_source,
            "stpMode": self.stp_said or o.p.get("stpMode", "cancel_maker"),
            "reduceOnly": "false",
            "amendResult": "",
            "reqId": "",
            "code": "0",
            "msg": "",
            "a_field_of_tomorrow": {"x": [1]},
            "cTime": str(o.at_ms),
            "uTime": str(o.changed_ms),
        }

    def _balances(self, account: FakeAccount) -> list[Any]:
        assets = sorted({*account.free, *account.locked})
        rows = []
        for a in assets:
            free, locked = account.free.get(a, D(0)), account.locked.get(a, D(0))
            rows.append(
                {
                    "ccy": a,
                    "cashBal": text(free + locked),
                    "availBal": text(free),
                    "availEq": text(free) if account.level in "34" else "",
                    "frozenBal": text(locked),
                    "ordFrozen": text(locked),
                    "eq": text(free + locked),
                    "upl": "",
                }
            )
        return [{"uTime": str(self.now_ms()), "totalEq": "1", "details": rows}]

    def _read_time(self, p: dict[str, str], account: FakeAccount | None) -> list[Any]:
        return [{"ts": str(self.now_ms())}]

    def _read_instruments(self, p: dict[str, str], account: FakeAccount | None) -> list[Any]:
        return [self.listing(m) for m in self.markets.values() if m.inst_type == p["instType"]]

    def listing(self, m: Market) -> dict[str, Any]:
        row: dict[str, Any] = {
            "instType": m.inst_type,
            "instId": m.inst_id,
            "baseCcy": m.base if m.is_spot else "",
            "quoteCcy": m.quote if m.is_spot else "",
            "settleCcy": m.settle,
            "ctVal": "" if m.is_spot else text(m.ct_val),
            "ctMult": "" if m.is_spot else "1",
            "ctValCcy": "" if m.is_spot else m.base,
            "ctType": m.ct_type,
            "tickSz": text(m.tick),
            "lotSz": text(m.lot),
            "minSz": text(m.min_sz),
            "maxLmtSz": text(m.max_sz),
            "expTime": m.exp_ms,
            "state": m.state,
            "groupId": m.group,
            "instFamily": "" if m.is_spot else f"{m.base}-{m.quote}",
            "upcChg": [],
            "tradeQuoteCcyList": [m.quote],
        }
        if m.code is not None:
            row["instIdCode"] = m.code
        return row

    def _read_books(self, p: dict[str, str], account: FakeAccount | None) -> list[Any]:
        return [self.depth(self.markets[p["instId"]])]

    def depth(self, m: Market) -> dict[str, Any]:
        def side(levels: dict[Decimal, Decimal], down: bool) -> list[list[str]]:
            return [[text(at), text(levels[at]), "0", "1"] for at in sorted(levels, reverse=down)]

        return {
            "asks": side(m.asks, False),
            "bids": side(m.bids, True),
            "ts": str(self.now_ms()),
            "seqId": m.seq,
        }

    def _read_balance(self, p: dict[str, str], account: FakeAccount) -> list[Any]:
        return self._balances(account)

    def _read_positions(self, p: dict[str, str], account: FakeAccount) -> list[Any]:
        rows = []
        for (inst_id, side), (pos, avg) in account.positions.items():
            row = {
                "instId": inst_id,
                "instType": "SWAP",
                "posSide": side,
                "pos": text(pos),
                "mgnMode": "cross",
            }
            rows.append(row | {"avgPx": text(avg) if pos else "", "upl": "0"})
        return rows

    def _read_config(self, p: dict[str, str], account: FakeAccount) -> list[Any]:
        row = {"uid": "44705892343619584", "acctLv": account.level, "posMode": account.pos_mode}
        return [row | {"perm": account.perm, "ip": "", "acctStpMode": "cancel_maker", "autoLoan": False}]

    def _read_trade_fee(self, p: dict[str, str], account: FakeAccount) -> list[Any]:
        groups = sorted({m.group for m in self.markets.values() if m.inst_type == p["instType"]})
        if "groupId" in p:
            groups = [group for group in groups if group == p["groupId"]]
        rows = [{"groupId": g, "maker": str(self.maker), "taker": str(self.taker)} for g in groups]
        flat = {"maker": str(self.maker), "taker": str(self.taker), "makerU": "", "takerU": ""}
        return [{"instType": p["instType"], "level": "Lv1", "feeGroup": rows, "ts": "1"} | flat]

    def _paged(self, rows: list[Any], p: dict[str, str], key: str) -> list[Any]:
        """Newest first, those older than `after`."""
        newest = sorted(rows, key=lambda row: int(row[key]), reverse=True)
        if "after" in p:
            newest = [row for row in newest if int(row[key]) < int(p["after"])]
        if "begin" in p:
            newest = [row for row in newest if int(row["ts"]) >= int(p["begin"])]
        if "instId" in p:
            newest = [row for row in newest if row["instId"] == p["instId"]]
        if "instType" in p:
            newest = [row for row in newest if row["instType"] == p["instType"]]
        return newest[: min(int(p.get("limit", "100")), self.page)]

    def _read_bills(self, p: dict[str, str], account: FakeAccount) -> list[Any]:
        return self._paged(account.bills, p, "billId")

    def _read_fills(self, p: dict[str, str], account: FakeAccount) -> list[Any]:
        return self._paged(account.fills, p, "billId")

    def _read_orders_pending(self, p: dict[str, str], account: FakeAccount) -> list[Any]:
        rows = [self._row(o) for o in account.open()] if self.stale_open is None else self.stale_open
        return self._paged(rows, p, "ordId")

    def _read_order_details(self, p: dict[str, str], account: FakeAccount) -> list[Any]:
        market = self.markets.get(p.get("instId", ""))
        if market is None:
            raise No("51001", "Instrument ID doesn't exist.")
        return [self._row(self._find(p, market, account, No("51603", "Order does not exist.")))]

    # ------------------------------------------------------------------ pushing

    def push_all(self, account: FakeAccount, channel: str, rows: list[Any]) -> None:
        message = {"arg": {"channel": channel, "uid": "1"}, "data": rows}
        if channel == "orders":
            message["arg"]["instType"] = "ANY"  # type: ignore[index]
        for ws in self._sockets():
            if ws.account is account and channel in ws.channels:
                ws.send_json(message)

    def _push_all(self, account: FakeAccount, rows: list[Any]) -> None:
        for row in rows:
            if self.drop_pushes > 0:
                self.drop_pushes -= 1
                continue
            times = 2 if self.repeat_pushes > 0 else 1
            self.repeat_pushes -= 1 if self.repeat_pushes > 0 else 0
            for _ in range(times):
                if self.hold_pushes is not None:
                    self.hold_pushes.append((account, "orders", [row]))
                else:
                    self.push_all(account, "orders", [row])
        if rows:
            self.push_all(account, "account", self._balances(account))

    # ------------------------------------------------------------------ transport

    def take_fault(self, op: str) -> Fault | None:
        for index, fault in enumerate(self._faults):
            if fault.on in (None, op):
                return self._faults.pop(index)
        return None

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def check_key(self, headers: dict[str, str], payload: str) -> FakeAccount:
        names = ("key", "sign", "timestamp", "passphrase")
        for number, name in enumerate(names):
            if not headers.get(f"ok-access-{name}"):
                code = ("50103", "50106", "50107", "50104")[number]
                raise No(code, f'Request header "OK-ACCESS-{name.upper()}" cannot be empty.', 401)
        account = self.accounts.get(headers["ok-access-key"])
        if account is None or account.revoked:
            raise No("50111", "Invalid OK-ACCESS-KEY.", 401)
        if self.is_demo != (headers.get("x-simulated-trading") == "1"):
            raise No("50101", "APIKey does not match current environment.", 401)
        stamp = headers["ok-access-timestamp"]
        try:
            told = datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() * 1000
        except ValueError:
            raise No("50112", "Invalid OK-ACCESS-TIMESTAMP.", 401) from None
        if len(stamp) != 24 or abs(told - self.now_ms()) > 30_000:
            raise No("50102", "Timestamp request expired.", 401)
        if headers["ok-access-passphrase"] != account.passphrase:
            raise No("50105", 'Request header "OK-ACCESS-PASSPHRASE" incorrect.', 401)
        if headers["ok-access-sign"] != account.sign(stamp + payload):
            raise No("50113", "Invalid signature.", 401)
        return account

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

    def __init__(self, fake: FakeOkx, made: socket.socket) -> None:
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
        if fake.refuse_sockets or target not in ("/ws/v5/public", "/ws/v5/private", "/ws/v5/business"):
            self.made.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        accept = base64.b64encode(
            hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()
        ).decode()
        self.made.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        ws = _WebSocket(fake, self.made, self.data, target.rpartition("/")[2])
        with fake.lock:
            fake._open.add(ws)
        try:
            ws.serve()
        finally:
            with fake.lock:
                fake._open.discard(ws)

    def _http(self, verb: str, target: str, headers: dict[str, str], body: str) -> bool:
        """False: the connection ends."""
        fake = self.fake
        path, _, query = target.partition("?")
        op = WRITES.get(path) if verb == "POST" else (READS.get(path) if verb == "GET" else None)
        if op is None:
            self._reply(404, b"<html><body>404 Not found</body></html>", None, kind="text/html")
            return True
        with fake.lock:
            fault = fake.take_fault(op)
            kind = fault.kind if fault else ""
            if kind in ("close_before", "lose_command"):
                if kind == "lose_command":
                    fake.later(5.0, self.drop)
                return kind == "lose_command"
            if kind == "html":
                assert fault is not None
                page = b"<html>Bad Gateway</html>"
                self._reply(fault.args.get("status", 502), page, None, kind="text/html")
                return True
            status = 200
            retry: float | None = None
            pushes: list[Any] = []
            account: FakeAccount | None = None
            told: dict[str, Any] = {"code": "0", "msg": "", "data": []}
            try:
                if kind == "error":
                    assert fault is not None
                    raise No(**fault.args)
                if op not in PUBLIC:
                    account = fake.check_key(headers, f"{verb}{target}{body}")
                if verb == "POST":
                    assert account is not None
                    if headers.get("content-type") != "application/json":
                        raise No("50006", 'Invalid Content-Type. Please use "application/JSON".', 400)
                    asked = json.loads(body)
                    items = asked if isinstance(asked, list) else [asked]
                    fake.calls += [
                        ("http", op, {**item, "expTime": headers.get("exptime")}) for item in items
                    ]
                    if op == "cancel-all-after":
                        told["data"] = fake.cancel_all_after(items[0], account)
                    else:
                        exp = headers.get("exptime")
                        told["code"], told["data"], pushes = fake.write(op, items, account, exp, False)
                    told |= {"inTime": "1695190491421339", "outTime": "1695190491423240"}
                else:
                    params = dict(parse_qsl(query))
                    fake.calls.append(("http", op, params))
                    told["data"] = fake.read(op, params, account)
            except No as no:
                status, retry = no.status, no.retry_s
                told = {"code": no.code, "msg": no.msg, "data": []}
            if kind == "error_after":
                assert fault is not None
                status = fault.args.get("status", 200)
                told = {"code": fault.args["code"], "msg": fault.args["msg"], "data": []}
            answer = json.dumps(told, separators=(",", ":")).encode()
            if kind == "garbage":
                answer = b'{"surprise":1}'
            if account is not None and pushes:
                fake._push_all(account, pushes)
        if kind == "close_after":
            return False
        if kind == "lose_answer":
            fake.later(5.0, self.drop)
            return True
        if kind == "truncate":
            self.made.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer[:-9]))
            return False
        if kind == "redirect":
            self._reply(302, b"", None, extra="Location: http://127.0.0.1:1/\r\n")
            return True
        self._reply(status, answer, retry)
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
    """One of the three sockets."""

    def __init__(self, fake: FakeOkx, made: socket.socket, data: bytes, which: str) -> None:
        super().__init__(fake, made)
        self.data = data
        self.which = which
        self.account: FakeAccount | None = None
        self.channels: set[str] = set()
        self.is_mute = False
        self.pings = 0
        self._write = threading.Lock()

    def send_frame(self, opcode: int, payload: bytes) -> None:
        if self.is_mute:
            return
        size = len(payload)
        head = bytes((0x80 | opcode,))
        if size < 126:
            head += bytes((size,))
        else:
            head += b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
        try:
            with self._write:
                self.made.sendall(head + payload)
        except OSError:
            pass

    def send_json(self, message: Any) -> None:
        self.send_raw(json.dumps(message, separators=(",", ":")).encode())

    def send_raw(self, raw: bytes) -> None:
        self.send_frame(0x1, raw)

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
            elif opcode == 0x1 and not self._heard(payload):
                return

    def _heard(self, raw: bytes) -> bool:
        if raw == b"ping":
            self.pings += 1
            self.send_raw(b"pong")
            return True
        try:
            asked = json.loads(raw)
            op, args = asked["op"], asked["args"]
        except (ValueError, KeyError, TypeError):
            self._error("60012", f"Invalid request: {raw[:60].decode(errors='replace')}")
            return True
        with self.fake.lock:
            if op == "login":
                self._login(args[0])
            elif op in ("subscribe", "unsubscribe"):
                for arg in args:
                    self._subscribe(op, arg)
            else:
                return self._operate(asked, op, args)
        return True

    def _error(self, code: str, msg: str) -> None:
        self.send_json({"event": "error", "code": code, "msg": msg, "connId": "a4d3ae55"})

    def _login(self, arg: dict[str, str]) -> None:
        fake = self.fake
        fault = fake.take_fault("login")
        account = fake.accounts.get(arg.get("apiKey", ""))
        if fault is not None:
            if fault.kind == "error":
                self._error(fault.args["code"], fault.args["msg"])
            return
        if self.which == "public":
            self._error("60018", "Wrong URL")
        elif account is None or account.revoked:
            self._error("60005", "Invalid apiKey")
        elif abs(int(arg["timestamp"]) * 1000 - fake.now_ms()) > 30_000:
            self._error("60006", "Timestamp request expired")
        elif arg["passphrase"] != account.passphrase:
            self._error("60024", "Wrong passphrase")
        elif arg["sign"] != account.sign(f"{arg['timestamp']}GET/users/self/verify"):
            self._error("60007", "Invalid sign")
        else:
            self.account = account
            self.send_json({"event": "login", "code": "0", "msg": "", "connId": "a4d3ae55"})

    def _subscribe(self, op: str, arg: dict[str, str]) -> None:
        fake, channel = self.fake, arg["channel"]
        private = channel in ("orders", "account", "positions", "balance_and_position")
        if private and self.account is None:
            self._error("60011", "Please log in")
            return
        wanted = "private" if private else ("business" if channel.startswith("candle") else "public")
        if wanted != self.which or channel == fake.refuse_subscriptions:
            self._error("60018", f"Wrong URL or {channel} doesn't exist.")
            return
        self.send_json({"event": op, "arg": arg, "connId": "a4d3ae55"})
        name = channel if private else f"{channel} {arg.get('instId', '')}"
        if op == "unsubscribe":
            self.channels.discard(name)
            return
        self.channels.add(name)
        if channel == "account":
            assert self.account is not None
            row = {"eventType": "snapshot", "curPage": 1, "lastPage": True}
            self.send_json({"arg": arg, **row, "data": fake._balances(self.account)})
            self.send_json(
                {"event": "channel-conn-count", "channel": channel, "connCount": "1", "connId": "a"}
            )
        if channel == "books" and fake.pushes_snapshots:
            row = fake.depth(fake.markets[arg["instId"]]) | {"checksum": 0, "prevSeqId": -1}
            self.send_json({"arg": arg, "action": "snapshot", "data": [row]})

    def _operate(self, asked: dict[str, Any], op: str, args: list[dict[str, Any]]) -> bool:
        fake, number = self.fake, asked.get("id", "")
        if not isinstance(number, str) or not 1 <= len(number) <= 32 or not set(number) <= ALNUM:
            self._error("60013", "Invalid args")
            return True
        fault = fake.take_fault(op)
        kind = fault.kind if fault else ""
        if kind == "close_before":
            return False
        if kind == "lose_command":
            return True
        told: dict[str, Any] = {"id": number, "op": op, "code": "0", "msg": "", "data": []}
        pushes: list[Any] = []
        try:
            if kind == "error":
                assert fault is not None
                raise No(**fault.args)
            if self.account is None or self.which != "private":
                raise No("60011", "Please log in")
            if op not in ("order", "cancel-order", "amend-order", *SINGLE):
                raise No("60019", f"Invalid op: {op}")
            fake.calls += [("socket", op, {**arg, "expTime": asked.get("expTime")}) for arg in args]
            exp = asked.get("expTime")
            told["code"], told["data"], pushes = fake.write(op, args, self.account, exp, True)
        except No as no:
            told |= {"code": no.code, "msg": no.msg}
        if kind == "error_after":
            assert fault is not None
            told |= {"code": fault.args["code"], "msg": fault.args["msg"], "data": []}
        if kind == "garbage":
            told |= {"data": [{"surprise": 1}]}
        if kind == "empty":
            told |= {"data": []}
        told |= {"inTime": "1695190491421339", "outTime": "1695190491423240"}
        account = self.account
        if kind == "close_after":
            return False
        if fake.pushes_first and account is not None:
            fake._push_all(account, pushes)
        if kind == "cut_after":
            self.send_json(told)
            return False
        if kind == "late_answer":
            assert fault is not None
            fake.later(fault.args.get("late_s", 0.7), lambda: self.send_json(told))
        elif kind == "truncate":
            self.send_raw(json.dumps(told).encode()[:-20])
        elif kind != "lose_answer":
            self.send_json(told)
        if not fake.pushes_first and account is not None:
            fake._push_all(account, pushes)
        return True
