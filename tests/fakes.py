"""Stand-ins for tests and for building the page: `FakeDesk`, a whole desk in memory, and `FakeBus`.

Hides nothing: two markets that walk by a seeded generator each time `tick()` is called, workers that quote
and fill in them, and every topic of `api/desk.py` published to the bus it was given. It must not know venues,
engines or threads. Deterministic: same seed, same calls, same numbers; the clock moves only by `tick` unless
`now_ns` is handed in.

    bus = InProcessBus()                        # or FakeBus()
    desk = FakeDesk(bus, now_ns=Clock().now_ns) # a real clock makes the page say LIVE
    while True:
        desk.tick(); time.sleep(0.2)
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from api.desk import (
    TOPIC_BOOK,
    TOPIC_DESK,
    TOPIC_FEEDS,
    TOPIC_FILLS,
    TOPIC_NOTICES,
    TOPIC_ORDERS,
    TOPIC_SERIES,
    TOPIC_TRADES,
    TOPIC_WORKER,
    BookView,
    DeskSilent,
    DeskUnreachable,
    DeskView,
    FeedsView,
    FeedView,
    FillsView,
    FillView,
    NoticesView,
    NoticeView,
    OrdersView,
    OrderView,
    ReceiptView,
    SampleView,
    SeriesView,
    SideView,
    StatsView,
    TradesView,
    WorkerSpec,
    WorkerView,
)
from api.errors import BadInput, BadInputs, Conflict, NotFound

START_NS = 1_725_000_000_000_000_000  # 2024-08-30, the week of the recordings
TOPIC_TTL_S = 3600.0

STRATEGY: dict[str, Any] = {
    "name": "standard",
    "kind": "market_making",
    "title": "Standard maker",
    "description": "Quotes both sides of the middle, tick-spaced levels.",
    "schema": {
        "type": "object",
        "additionalProperties": False,
        "required": ["spread"],
        "properties": {
            "spread": {
                "type": "number",
                "title": "Spread",
                "description": "Full width between best bid and best ask.",
                "unit": "% of mid",
                "exclusiveMinimum": 0,
                "maximum": 50,
                "live": True,
            },
            "quantity": {
                "type": ["number", "null"],
                "title": "Quantity",
                "description": "Size of each order; empty: automatic.",
                "unit": "base",
                "exclusiveMinimum": 0,
                "default": None,
                "live": True,
            },
            "max_orders": {
                "type": "integer",
                "title": "Orders a side",
                "description": "Levels on each side.",
                "unit": "orders",
                "minimum": 1,
                "maximum": 20,
                "default": 3,
                "live": True,
            },
            "interval": {
                "type": "number",
                "title": "Interval",
                "description": "The longest silence between two decisions.",
                "unit": "s",
                "exclusiveMinimum": 0,
                "maximum": 3600,
                "default": 60,
                "live": True,
            },
            "duration": {
                "type": ["number", "null"],
                "title": "Duration",
                "description": "Ends by itself; empty: never.",
                "unit": "s",
                "exclusiveMinimum": 0,
                "default": None,
                "live": False,
            },
        },
    },
    "limits_schema": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "max_order_value": {
                "type": "string",
                "title": "Largest order value",
                "unit": "quote",
                "live": True,
            },
            "max_order_qty": {"type": "string", "title": "Largest order size", "unit": "base", "live": True},
            "max_position": {"type": "string", "title": "Largest position", "unit": "base", "live": True},
        },
    },
}


class Publishes(Protocol):
    """The one verb of `quote.bus.Bus` a desk needs."""

    def publish(self, topic: str, payload: bytes, *, ttl_s: float) -> Any: ...


@dataclass(frozen=True, slots=True)
class FakeLatest:
    """Same fields as `quote.bus.Latest`."""

    topic: str
    payload: bytes
    published_ns: int
    seq: int


class FakeBusDown(Exception):
    """What a lost bus raises where `quote.bus.BusDown` is not at hand."""


class FakeBus:
    """A dictionary with the shape of `quote.bus.Bus`; `cut()` and `mend()` lose it and bring it back."""

    def __init__(
        self, *, now_ns: Callable[[], int] | None = None, down: type[Exception] = FakeBusDown
    ) -> None:
        self.mode = "single process"
        self.lost_for_s = 0.0
        self._now_ns = now_ns or (lambda: START_NS)
        self._down = down
        self._is_cut = False
        self._values: dict[str, FakeLatest] = {}
        self._seq = 0
        self._lock = threading.Lock()

    def cut(self, for_s: float = 1.0) -> None:
        self._is_cut, self.lost_for_s = True, for_s

    def mend(self) -> None:
        self._is_cut, self.lost_for_s = False, 0.0

    def publish(self, topic: str, payload: bytes, *, ttl_s: float) -> None:
        self._check()
        with self._lock:
            self._seq += 1
            self._values[topic] = FakeLatest(topic, payload, self._now_ns(), self._seq)

    def latest(self, topic: str) -> FakeLatest | None:
        self._check()
        return self._values.get(topic)

    def latest_many(self, topics: list[str]) -> dict[str, FakeLatest]:
        self._check()
        return {topic: self._values[topic] for topic in topics if topic in self._values}

    def topics(self, prefix: str) -> list[str]:
        self._check()
        return sorted(topic for topic in list(self._values) if topic.startswith(prefix))

    def drop(self, topic: str) -> None:
        self._values.pop(topic, None)

    def _check(self) -> None:
        if self._is_cut:
            raise self._down("bus: connection lost")


@dataclass(slots=True)
class _Market:
    symbol: str
    base: str
    mid: float
    tick: Decimal
    lot: Decimal
    qty: float
    seq: int = 1000
    diffs: int = 0
    trades: list[tuple[int, str, str, str, int, str]] = field(default_factory=list)
    bids: tuple[tuple[str, str], ...] = ()
    asks: tuple[tuple[str, str], ...] = ()

    @property
    def instrument(self) -> str:
        return f"paper:{self.symbol}"

    def snap(self, price: float) -> Decimal:
        return (Decimal(repr(price)) / self.tick).to_integral_value() * self.tick


@dataclass(slots=True)
class _Worker:
    spec: WorkerSpec
    state: str = "stopped"
    version: int = 1
    started_ns: int | None = None
    stopped_ns: int | None = None
    ran_ns: int = 0
    position: Decimal = Decimal(0)
    entry: Decimal | None = None
    realized: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    traded: Decimal = Decimal(0)
    buys: int = 0
    sells: int = 0
    buy_base: Decimal = Decimal(0)
    sell_base: Decimal = Decimal(0)
    taker_buy: Decimal = Decimal(0)
    taker_sell: Decimal = Decimal(0)
    run_start: tuple[Decimal, Decimal, Decimal, int] = (Decimal(0), Decimal(0), Decimal(0), 0)
    sent: int = 0
    cancels: int = 0
    orders: tuple[OrderView, ...] = ()
    receipt: ReceiptView | None = None
    samples: list[SampleView] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)


class FakeDesk:
    """`api.desk.Desk` in memory. `calls` lists every command as (name, worker id, by), for assertions.

    Set `fails` to an exception (`DeskSilent()`, `DeskUnreachable()`) and every command raises it;
    `on_command` is called with the command's name before it runs, so that a test can hold one back.
    """

    def __init__(
        self,
        bus: Publishes | None = None,
        *,
        seed: int = 7,
        now_ns: Callable[[], int] | None = None,
        demo: bool = True,
        market: str = "SYNTHETIC",
    ) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.fails: Exception | None = None
        self.on_command: Callable[[str], None] = lambda name: None
        self._bus = bus
        self._random = random.Random(seed)
        self._stepped_ns = START_NS
        self._now_ns = now_ns or (lambda: self._stepped_ns)
        self._label = market
        self._lock = threading.RLock()
        self._markets = {
            m.instrument: m
            for m in (
                _Market("BTC-USDT", "BTC", 59_000.0, Decimal("0.01"), Decimal("0.00001"), 0.002),
                _Market("ETH-USDT", "ETH", 2_520.0, Decimal("0.01"), Decimal("0.0001"), 0.05),
            )
        }
        self._workers: dict[str, _Worker] = {}
        self._fills: list[FillView] = []
        self._notices: list[NoticeView] = []
        self._started_ns = self._now_ns()
        self._kill_reason = ""
        self._is_killed = False
        self._made = 0
        for one in self._markets.values():
            self._walk(one)
        if demo:
            spec = WorkerSpec("market_making", "standard", "paper", "BTC-USDT", {"spread": 0.02}, name="demo")
            self.start(self.create(spec, by="first start").id, by="first start")
            self._notice(
                "info",
                self._made_id(),
                "A paper worker named demo was made and started. Stop or delete it at will.",
            )
        self.calls.clear()
        self.publish()

    # ------------------------------------------------------------------------------------------------ time

    def tick(self, times: int = 1) -> None:
        """One second of market: prices walk, quotes follow, some fill; then every topic is published."""
        with self._lock:
            for _ in range(times):
                self._stepped_ns += 1_000_000_000
                for market in self._markets.values():
                    self._walk(market)
                for worker in self._workers.values():
                    self._trade(worker)
        self.publish()

    def publish(self) -> None:
        """Every topic of `api/desk.py`, now."""
        if self._bus is None:
            return
        with self._lock:
            now = self._now_ns()
            views: dict[str, Any] = {
                TOPIC_DESK: self._desk_view(),
                TOPIC_FEEDS: self._feeds_view(),
                TOPIC_FILLS: FillsView(now, tuple(self._fills[:100])),
                TOPIC_NOTICES: NoticesView(now, tuple(self._notices)),
            }
            for worker in self._workers.values():
                views[TOPIC_WORKER + worker.spec.id] = self._view(worker)
                views[TOPIC_ORDERS + worker.spec.id] = OrdersView(worker.spec.id, now, worker.orders)
                if worker.samples:
                    views[TOPIC_SERIES + worker.spec.id] = SeriesView(worker.spec.id, (worker.samples[-1],))
            for market in self._markets.values():
                views[TOPIC_BOOK + market.instrument] = self._book_view(market)
                views[TOPIC_TRADES + market.instrument] = TradesView(
                    market.instrument, self._label, now, tuple(market.trades)
                )
            for topic, view in views.items():
                self._bus.publish(topic, msgspec.json.encode(view), ttl_s=TOPIC_TTL_S)

    # ------------------------------------------------------------------------------------------------ Desk

    def health(self) -> dict[str, Any]:
        self._command("health")
        view = msgspec.to_builtins(self._desk_view())
        return {
            "status": "degraded" if self._is_killed else "ok",
            "desk": view,
            "checks": {"feeds": "2 of 2 synced"},
        }

    def view(self) -> DeskView:
        self._command("view")
        with self._lock:
            return self._desk_view()

    def strategies(self) -> list[dict[str, Any]]:
        self._command("strategies")
        return [STRATEGY]

    def venues(self) -> list[dict[str, Any]]:
        self._command("venues")
        symbols = [m.symbol for m in self._markets.values()]
        return [
            {
                "name": "paper",
                "title": "Paper",
                "envs": ["paper"],
                "market_types": ["spot"],
                "symbols": symbols,
                "configured": True,
                "capabilities": {"post_only": True, "amend": True, "cancel_all": True},
            }
        ]

    def feeds(self) -> FeedsView:
        self._command("feeds")
        with self._lock:
            return self._feeds_view()

    def workers(self) -> list[WorkerView]:
        self._command("workers")
        with self._lock:
            return [self._view(worker) for worker in self._workers.values()]

    def worker(self, worker_id: str) -> WorkerView:
        self._command("worker", worker_id)
        with self._lock:
            return self._view(self._find(worker_id))

    def create(self, spec: WorkerSpec, *, by: str) -> WorkerView:
        self._command("create", spec.id, by)
        with self._lock:
            errors = []
            if spec.venue != "paper":
                errors.append(BadInput("venue", f"there is no venue {spec.venue!r}; known: paper"))
            elif f"paper:{spec.symbol}" not in self._markets:
                errors.append(BadInput("symbol", f"paper has no {spec.symbol!r}; it has BTC-USDT, ETH-USDT"))
            if spec.kind != "market_making":
                errors.append(BadInput("kind", f"there is no kind {spec.kind!r}; known: market_making"))
            if spec.strategy != "standard":
                errors.append(
                    BadInput("strategy", f"there is no strategy {spec.strategy!r}; known: standard")
                )
            params, wrong = _checked(spec.params, STRATEGY["schema"], "params")
            errors += wrong
            limits, wrong = _checked(spec.limits, STRATEGY["limits_schema"], "limits")
            errors += wrong
            if errors:
                raise BadInputs(tuple(errors))
            if spec.name and spec.name in {worker.spec.name for worker in self._workers.values()}:
                raise BadInput("name", f"{spec.name!r} is taken by another worker")
            self._made += 1
            spec = replace(spec, id=self._made_id(), params=params, limits={"max_position": "0.1", **limits})
            worker = _Worker(replace(spec, name=spec.name or spec.id))
            worker.versions.append(self._version(worker, by, "created"))
            self._workers[spec.id] = worker
            view = self._view(worker)
        self.publish()
        return view

    def change(
        self,
        worker_id: str,
        *,
        params: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        name: str | None = None,
        resume_after_restart: bool | None = None,
        reason: str = "",
        by: str,
    ) -> WorkerView:
        self._command("change", worker_id, by)
        with self._lock:
            worker = self._find(worker_id)
            spec = worker.spec
            if params is not None:
                spec = replace(
                    spec, params=_raised(_checked({**spec.params, **params}, STRATEGY["schema"], "params"))
                )
            if limits is not None:
                spec = replace(
                    spec,
                    limits=_raised(_checked({**spec.limits, **limits}, STRATEGY["limits_schema"], "limits")),
                )
            if name is not None:
                spec = replace(spec, name=name)
            if resume_after_restart is not None:
                spec = replace(spec, resume_after_restart=resume_after_restart)
            worker.spec = spec
            if params is not None or limits is not None:
                worker.version += 1
                worker.versions.insert(0, self._version(worker, by, reason))
            view = self._view(worker)
        self.publish()
        return view

    def delete(self, worker_id: str, *, by: str) -> None:
        self._command("delete", worker_id, by)
        with self._lock:
            worker = self._find(worker_id)
            if worker.state != "stopped":
                raise Conflict(f"worker {worker_id} is {worker.state}; stop it first")
            del self._workers[worker_id]
            drop = getattr(self._bus, "drop", None)
            if drop is not None:
                for prefix in (TOPIC_WORKER, TOPIC_ORDERS, TOPIC_SERIES):
                    drop(prefix + worker_id)
        self.publish()

    def start(self, worker_id: str, *, by: str) -> WorkerView:
        self._command("start", worker_id, by)
        with self._lock:
            worker = self._find(worker_id)
            if self._is_killed:
                raise Conflict("the desk is killed; release it first")
            if worker.state not in ("running", "paused"):
                worker.started_ns, worker.stopped_ns, worker.ran_ns, worker.receipt = (
                    self._now_ns(),
                    None,
                    0,
                    None,
                )
                worker.run_start = (worker.realized, worker.fees, worker.traded, worker.buys + worker.sells)
            worker.state = "running"
            self._quote(worker)
            view = self._view(worker)
        self.publish()
        return view

    def pause(self, worker_id: str, *, by: str) -> WorkerView:
        self._command("pause", worker_id, by)
        return self._pull(worker_id, "paused", "pause")

    def stop(self, worker_id: str, *, by: str) -> WorkerView:
        self._command("stop", worker_id, by)
        return self._pull(worker_id, "stopped", "stop")

    def orders(self, worker_id: str) -> OrdersView:
        self._command("orders", worker_id)
        with self._lock:
            return OrdersView(worker_id, self._now_ns(), self._find(worker_id).orders)

    def fills(
        self,
        *,
        worker_id: str | None = None,
        symbol: str | None = None,
        before_ns: int | None = None,
        limit: int = 100,
    ) -> FillsView:
        self._command("fills", worker_id or "")
        with self._lock:
            found = [
                fill
                for fill in self._fills
                if (worker_id is None or fill.worker == worker_id)
                and (symbol is None or fill.symbol == symbol)
                and (before_ns is None or fill.venue_ns < before_ns)
            ]
            return FillsView(self._now_ns(), tuple(found[:limit]))

    def versions(self, worker_id: str) -> list[dict[str, Any]]:
        self._command("versions", worker_id)
        with self._lock:
            return list(self._find(worker_id).versions)

    def book(self, instrument: str) -> BookView:
        self._command("book")
        with self._lock:
            if instrument not in self._markets:
                raise NotFound(f"no market {instrument}")
            return self._book_view(self._markets[instrument])

    def series(self, worker_id: str) -> SeriesView:
        self._command("series", worker_id)
        with self._lock:
            return SeriesView(worker_id, tuple(self._find(worker_id).samples))

    def notices(self) -> NoticesView:
        self._command("notices")
        with self._lock:
            return NoticesView(self._now_ns(), tuple(self._notices))

    def kill(self, *, reason: str, by: str) -> ReceiptView:
        self._command("kill", "", by)
        with self._lock:
            asked = sum(len(worker.orders) for worker in self._workers.values())
            for worker in self._workers.values():
                if worker.state in ("running", "paused"):
                    self._pull(worker.spec.id, "stopped", "kill")
            self._is_killed, self._kill_reason = True, reason
            self._notice("error", "", f"Everything was cancelled: {reason}")
            receipt = self._receipt("kill", asked)
        self.publish()
        return receipt

    def release(self, *, by: str) -> DeskView:
        self._command("release", "", by)
        with self._lock:
            self._is_killed, self._kill_reason = False, ""
            view = self._desk_view()
        self.publish()
        return view

    # ------------------------------------------------------------------------------------------------ helpers

    def _command(self, name: str, worker_id: str = "", by: str = "") -> None:
        self.on_command(name)
        self.calls.append((name, worker_id, by))
        if self.fails is not None:
            raise self.fails

    def _find(self, worker_id: str) -> _Worker:
        if worker_id not in self._workers:
            raise NotFound(f"no worker {worker_id}")
        return self._workers[worker_id]

    def _made_id(self) -> str:
        return f"w{self._made}"

    def _notice(self, level: str, worker: str, text: str) -> None:
        self._notices.insert(0, NoticeView(self._now_ns(), level, worker, text))

    def _version(self, worker: _Worker, by: str, reason: str) -> dict[str, Any]:
        return {
            "version": worker.version,
            "at_ns": self._now_ns(),
            "by": by,
            "reason": reason,
            "params": worker.spec.params,
            "limits": worker.spec.limits,
        }

    def _receipt(self, action: str, asked: int) -> ReceiptView:
        now = self._now_ns()
        text = f"{asked} orders cancelled; the venue confirms none are open"
        return ReceiptView(action, now, asked, asked, 0, 0, 0, True, now, text)

    def _pull(self, worker_id: str, state: str, action: str) -> WorkerView:
        with self._lock:
            worker = self._find(worker_id)
            if worker.state not in ("stopped", state):
                asked = len(worker.orders)
                worker.cancels += asked
                worker.orders = ()
                worker.receipt = self._receipt(action, asked)
                worker.state = state
                if state == "stopped":
                    worker.stopped_ns = self._now_ns()
            view = self._view(worker)
        self.publish()
        return view

    def _walk(self, market: _Market) -> None:
        rng = self._random
        market.mid = max(float(market.tick) * 100, market.mid * (1 + rng.gauss(0, 0.00005)))
        best_bid, best_ask = market.snap(market.mid) - market.tick, market.snap(market.mid) + market.tick
        step = max(market.tick, market.snap(market.mid * 0.00002))

        def size() -> str:
            return str(
                (Decimal(repr(rng.expovariate(0.5) * market.qty * 4)) / market.lot).to_integral_value()
                * market.lot
                + market.lot
            )

        market.bids = tuple((str(best_bid - step * i), size()) for i in range(20))
        market.asks = tuple((str(best_ask + step * i), size()) for i in range(20))
        side = rng.choice(("buy", "sell"))
        price = market.asks[0][0] if side == "buy" else market.bids[0][0]
        now_ns = self._now_ns()
        market.trades = [(now_ns, side, price, size(), now_ns, str(now_ns)), *market.trades][:50]
        market.seq += rng.randrange(1, 30)
        market.diffs += 10

    def _market_of(self, worker: _Worker) -> _Market:
        return self._markets[f"{worker.spec.venue}:{worker.spec.symbol}"]

    def _terms(self, worker: _Worker, side: str) -> tuple[tuple[str, str], ...]:
        market = self._market_of(worker)
        half = market.mid * float(worker.spec.params["spread"]) / 200
        return (("mid", f"{market.mid:.4f}"), ("half spread", f"{-half if side == 'buy' else half:.4f}"))

    def _quote(self, worker: _Worker) -> None:
        market = self._market_of(worker)
        half = market.mid * float(worker.spec.params["spread"]) / 200
        qty = Decimal(str(worker.spec.params.get("quantity") or market.qty))
        orders = []
        for side, sign in (("buy", -1), ("sell", 1)):
            for level in range(int(worker.spec.params["max_orders"])):
                worker.sent += 1
                price = market.snap(market.mid + sign * half) + sign * market.tick * int(
                    1.5 * level**1.5 + 0.5
                )
                orders.append(
                    OrderView(
                        f"{worker.spec.id}-{worker.sent}",
                        worker.spec.id,
                        side,
                        level,
                        price,
                        qty,
                        Decimal(0),
                        "open",
                        None,
                        False,
                        self._now_ns(),
                        qty * 3,
                        self._terms(worker, side),
                    )
                )
        worker.cancels += len(worker.orders)
        worker.orders = tuple(orders)

    def _trade(self, worker: _Worker) -> None:
        market = self._market_of(worker)
        if worker.state == "running":
            worker.ran_ns += 1_000_000_000
            if worker.orders and self._random.random() < 0.4:
                self._fill(worker, self._random.choice(worker.orders))
            self._quote(worker)
        net = self._net(worker)
        bids = [float(o.price) for o in worker.orders if o.side == "buy"]
        asks = [float(o.price) for o in worker.orders if o.side == "sell"]
        worker.samples.append(
            SampleView(
                self._now_ns(),
                market.mid,
                max(bids, default=None),
                min(asks, default=None),
                float(worker.position),
                None if net is None else float(net),
            )
        )
        del worker.samples[:-3600]

    def _fill(self, worker: _Worker, order: OrderView) -> None:
        is_buy = order.side == "buy"
        qty = order.qty
        is_maker = self._random.random() < 0.95
        value = order.price * qty
        fee = value * (Decimal("0.0002") if is_maker else Decimal("0.0005"))
        signed = qty if is_buy else -qty
        old = worker.position
        if worker.entry is None or old * signed >= 0:
            total = abs(old) * (worker.entry or Decimal(0)) + value
            worker.entry = total / (abs(old) + qty)
        else:
            closed = min(abs(old), qty)
            worker.realized += closed * (order.price - worker.entry) * (1 if old > 0 else -1)
            if abs(signed) > abs(old):
                worker.entry = order.price
        worker.position = old + signed
        if worker.position == 0:
            worker.entry = None
        worker.fees += fee
        worker.traded += value
        if is_buy:
            worker.buys += 1
        else:
            worker.sells += 1
        name = (
            ("buy_base" if is_buy else "sell_base") if is_maker else ("taker_buy" if is_buy else "taker_sell")
        )
        setattr(worker, name, getattr(worker, name) + qty)
        self._fills.insert(
            0,
            FillView(
                f"t{len(self._fills) + 1}",
                worker.spec.id,
                order.client_id,
                worker.spec.venue,
                worker.spec.account,
                worker.spec.symbol,
                order.side,
                order.price,
                qty,
                value,
                fee,
                "USDT",
                is_maker,
                self._now_ns() + len(self._fills),
            ),
        )

    def _unrealized(self, worker: _Worker) -> Decimal:
        if worker.entry is None:
            return Decimal(0)
        return (
            worker.position * (self._market_of(worker).snap(self._market_of(worker).mid) - worker.entry)
        ).quantize(Decimal("0.00000001"))

    def _net(self, worker: _Worker) -> Decimal:
        return (worker.realized + self._unrealized(worker) - worker.fees).quantize(Decimal("0.00000001"))

    def _stats(self, worker: _Worker) -> StatsView:
        realized, fees, traded, trades = worker.run_start
        net = self._net(worker)
        return StatsView(
            trades=worker.buys + worker.sells,
            buys=worker.buys,
            sells=worker.sells,
            maker_buy_base=worker.buy_base,
            maker_sell_base=worker.sell_base,
            taker_buy_base=worker.taker_buy,
            taker_sell_base=worker.taker_sell,
            traded_quote=worker.traded,
            fees=worker.fees,
            realized=worker.realized.quantize(Decimal("0.00000001")),
            unrealized=self._unrealized(worker),
            net=net,
            wear_rate=None
            if worker.traded == 0
            else (-net / worker.traded * 100).quantize(Decimal("0.000001")),
            run_realized=(worker.realized - realized).quantize(Decimal("0.00000001")),
            run_fees=worker.fees - fees,
            run_traded_quote=worker.traded - traded,
            run_trades=worker.buys + worker.sells - trades,
            orders_sent=worker.sent,
            cancels_sent=worker.cancels,
            refused=0,
        )

    def _side(self, worker: _Worker, side: str) -> SideView:
        orders = [order for order in worker.orders if order.side == side]
        if not orders:
            return SideView(False, f"worker is {worker.state}", None, None, 0, ())
        return SideView(True, None, orders[0].price, orders[0].qty, len(orders), orders[0].terms)

    def _view(self, worker: _Worker) -> WorkerView:
        spec, market = worker.spec, self._market_of(worker)
        quote_balance = Decimal(100_000) - worker.fees
        base_balance = Decimal(2) + worker.position
        mid = (Decimal(market.bids[0][0]) + Decimal(market.asks[0][0])) / 2
        word = {"running": "QUOTING", "paused": "PAUSED", "stopped": "STOPPED"}[worker.state]
        return WorkerView(
            id=spec.id,
            name=spec.name,
            kind=spec.kind,
            strategy=spec.strategy,
            venue=spec.venue,
            account=spec.account,
            env=spec.env,
            symbol=spec.symbol,
            instrument=market.instrument,
            base=market.base,
            quote="USDT",
            tick=market.tick,
            lot=market.lot,
            params=spec.params,
            params_version=worker.version,
            limits=spec.limits,
            limits_derived=("max_position",),
            resume_after_restart=spec.resume_after_restart,
            is_demo=spec.name == "demo",
            state=worker.state,
            word=word,
            reason="" if worker.state == "running" else f"{worker.state} by the operator",
            market=self._label,
            buy=self._side(worker, "buy"),
            sell=self._side(worker, "sell"),
            position=worker.position,
            entry_price=None if worker.entry is None else worker.entry.quantize(Decimal("0.0001")),
            mid=mid,
            best_bid=Decimal(market.bids[0][0]),
            best_ask=Decimal(market.asks[0][0]),
            base_balance=base_balance,
            quote_balance=quote_balance,
            total_quote=quote_balance + base_balance * mid,
            market_ns=self._now_ns() - 20_000_000,
            published_ns=self._now_ns(),
            stats=self._stats(worker),
            open_orders=len(worker.orders),
            unknown_orders=0,
            started_ns=worker.started_ns,
            stopped_ns=worker.stopped_ns,
            running_s=worker.ran_ns / 1e9,
            receipt=worker.receipt,
        )

    def _book_view(self, market: _Market) -> BookView:
        now = self._now_ns()
        return BookView(
            market.instrument,
            self._label,
            market.bids,
            market.asks,
            market.tick,
            market.lot,
            now - 50_000_000,
            now - 20_000_000,
            now,
            market.seq,
            True,
            "",
        )

    def _feeds_view(self) -> FeedsView:
        now = self._now_ns()
        return FeedsView(
            now,
            tuple(
                FeedView(
                    m.instrument,
                    "synthetic",
                    self._label,
                    "synced",
                    "",
                    m.diffs,
                    m.diffs,
                    len(m.trades),
                    0,
                    now - 20_000_000,
                    0.02,
                    None,
                )
                for m in self._markets.values()
            ),
        )

    def _desk_view(self) -> DeskView:
        workers = list(self._workers.values())
        return DeskView(
            name="fake",
            run_id="run-1",
            version="0.1.0",
            env="paper",
            market=self._label,
            started_ns=self._started_ns,
            published_ns=self._now_ns(),
            is_killed=self._is_killed,
            kill_reason=self._kill_reason,
            workers=len(workers),
            running=sum(worker.state == "running" for worker in workers),
            open_orders=sum(len(worker.orders) for worker in workers),
            unknown_orders=0,
            bus="single process",
            database=False,
            lost_bus_s=0.0,
            lane_lag_ms=0.4,
            net=sum((self._net(worker) for worker in workers), Decimal(0)),
            net_currency="USDT",
            net_is_partial=False,
        )


def _checked(
    given: dict[str, Any], schema: dict[str, Any], prefix: str
) -> tuple[dict[str, Any], list[BadInput]]:
    """The given fields with defaults filled in, and what is wrong with them (few keywords only)."""
    properties: dict[str, Any] = schema["properties"]
    errors = [
        BadInput(f"{prefix}.{name}", f"there is no such field; known: {', '.join(properties)}")
        for name in given
        if name not in properties
    ]
    errors += [
        BadInput(f"{prefix}.{name}", "is required")
        for name in schema.get("required", ())
        if name not in given
    ]
    full = {name: rule["default"] for name, rule in properties.items() if "default" in rule} | given
    for name, value in given.items():
        rule = properties.get(name, {})
        types = rule.get("type", "string")
        types = types if isinstance(types, list) else [types]
        if value is None and "null" in types:
            continue
        if "string" in types:
            try:
                number = Decimal(str(value))
            except ArithmeticError:
                errors.append(BadInput(f"{prefix}.{name}", "must be a decimal"))
                continue
        elif isinstance(value, bool) or not isinstance(value, int if types[0] == "integer" else (int, float)):
            errors.append(BadInput(f"{prefix}.{name}", f"must be {types[0]}"))
            continue
        else:
            number = Decimal(str(value))
        unit = rule.get("unit", "")
        if not number.is_finite():
            errors.append(BadInput(f"{prefix}.{name}", "must be a finite number"))
        elif "exclusiveMinimum" in rule and number <= rule["exclusiveMinimum"]:
            errors.append(BadInput(f"{prefix}.{name}", f"must be above {rule['exclusiveMinimum']} {unit}"))
        elif "minimum" in rule and number < rule["minimum"]:
            errors.append(BadInput(f"{prefix}.{name}", f"must be at least {rule['minimum']} {unit}"))
        elif "maximum" in rule and number > rule["maximum"]:
            errors.append(BadInput(f"{prefix}.{name}", f"must be at most {rule['maximum']} {unit}"))
    return full, errors


def _raised(checked: tuple[dict[str, Any], list[BadInput]]) -> dict[str, Any]:
    full, errors = checked
    if errors:
        raise BadInputs(tuple(errors))
    return full


__all__ = ["DeskSilent", "DeskUnreachable", "FakeBus", "FakeBusDown", "FakeDesk", "FakeLatest"]
