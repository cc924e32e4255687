"""The desk as every face sees it: its commands, and its snapshots as types. Whoever implements it.

Faces (`web`, `cli`) know this file and the bus they are handed, nothing below. `strategies.desk.LocalDesk`
implements it in the trading process; `strategies.desk_over_bus.DeskOverBus` is the same at a distance
(bus requests for the calls, bus topics for the snapshots). Views are frozen dataclasses of text, integers,
booleans and `Decimal` (JSON text), so that `msgspec.json.encode` / `decode(type=...)` carry them over the bus
without loss. Unknown is None, never 0.

Errors of commands: `BadInput` / `BadInputs` (nothing was changed), `NotFound`, `Conflict`, and at a distance
`DeskUnreachable` (nothing happened) or `DeskSilent` (sent, no answer in time: the outcome is unknown).

Topics on the bus (payload = JSON of the view):

    desk                     DeskView
    worker/{id}              WorkerView
    orders/{id}              OrdersView     live orders of one worker
    book/{instrument}        BookView       (also what other processes read as market data)
    trades/{instrument}      TradesView     the last public trades
    feeds                    FeedsView
    fills                    FillsView      the newest fills of all workers, newest first
    series/{id}              SeriesView     the newest sample only; the history comes by `series()`
    notices                  NoticesView    what a person should read, newest first
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

SCHEMA_VERSION = 1

TOPIC_DESK = "desk"
TOPIC_WORKER = "worker/"
TOPIC_ORDERS = "orders/"
TOPIC_BOOK = "book/"
TOPIC_TRADES = "trades/"
TOPIC_FEEDS = "feeds"
TOPIC_FILLS = "fills"
TOPIC_SERIES = "series/"
TOPIC_NOTICES = "notices"

# Worker states, as commands see them. The display words below say what it is doing.
STATES = ("stopped", "running", "paused", "stopping", "halted", "failed")
WORDS = (
    "QUOTING",
    "ONE-SIDED",
    "WAITING",
    "PAUSED",
    "REDUCING",
    "HALTED",
    "STOPPING",
    "DISCONNECTED",
    "STOPPED",
    "FAILED",
)
MARKET_LABELS = ("LIVE", "REPLAY", "SYNTHETIC")


class DeskUnreachable(Exception):
    """The desk could not be reached; nothing happened."""


class DeskSilent(Exception):
    """The command was sent and no answer came in time; whether it happened is unknown."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a person asks for. `params` and `limits` use the names and units of the strategy's schema and of
    `api.risk.Limits`; missing limits get stated defaults on paper. `is_demo` marks the worker the first start
    makes.
    """

    kind: str
    strategy: str
    venue: str
    symbol: str
    params: dict[str, Any]
    limits: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    account: str = "main"
    env: str = "paper"
    resume_after_restart: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class SideView:
    """One side of a worker. `reason` says what silences it, None while it quotes. `terms` sum to `price`, in
    order. `qty` is what is open on this side over all its `orders`, in base.
    """

    is_quoting: bool
    reason: str | None
    price: Decimal | None
    qty: Decimal | None
    orders: int
    terms: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class StatsView:
    """Amounts of one worker since its run began (`run_...`, reset by each start) and over its whole life (the
    rest).

    Quote currency unless named otherwise; fees paid are positive. `wear_rate` = -net/traded (percent), so
    positive is cost.
    """

    trades: int
    buys: int
    sells: int
    maker_buy_base: Decimal
    maker_sell_base: Decimal
    taker_buy_base: Decimal
    taker_sell_base: Decimal
    traded_quote: Decimal
    fees: Decimal
    realized: Decimal
    unrealized: Decimal | None
    net: Decimal | None
    wear_rate: Decimal | None
    run_realized: Decimal
    run_fees: Decimal
    run_traded_quote: Decimal
    run_trades: int
    orders_sent: int
    cancels_sent: int
    refused: int


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """What stopping, pausing or killing really did. `confirmed` only after the venue said none twice."""

    action: str
    at_ns: int
    asked: int
    canceled: int
    filled: int
    remaining: int
    unknown: int
    confirmed: bool
    confirmed_ns: int | None
    text: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    id: str
    name: str
    kind: str
    strategy: str
    venue: str
    account: str
    env: str
    symbol: str
    instrument: str
    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    params: dict[str, Any]
    params_version: int
    limits: dict[str, Any]
    limits_derived: tuple[str, ...]
    resume_after_restart: bool
    is_demo: bool
    state: str
    word: str
    reason: str
    market: str
    buy: SideView
    sell: SideView
    position: Decimal | None
    entry_price: Decimal | None
    mid: Decimal | None
    best_bid: Decimal | None
    best_ask: Decimal | None
    base_balance: Decimal | None
    quote_balance: Decimal | None
    total_quote: Decimal | None
    market_ns: int | None
    published_ns: int
    stats: StatsView
    open_orders: int
    unknown_orders: int
    started_ns: int | None
    stopped_ns: int | None
    running_s: float
    receipt: ReceiptView | None


@dataclass(frozen=True, slots=True)
class OrderView:
    client_id: str
    worker: str
    side: str
    level: int
    price: Decimal
    qty: Decimal
    filled: Decimal
    status: str
    request: str | None
    is_unknown: bool
    created_ns: int
    queue_ahead: Decimal | None
    terms: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class OrdersView:
    worker: str
    published_ns: int
    orders: tuple[OrderView, ...]


@dataclass(frozen=True, slots=True)
class FillView:
    trade_id: str
    worker: str
    client_id: str
    venue: str
    account: str
    symbol: str
    side: str
    price: Decimal
    qty: Decimal
    value: Decimal
    fee: Decimal
    fee_asset: str
    is_maker: bool
    venue_ns: int


@dataclass(frozen=True, slots=True)
class FillsView:
    published_ns: int
    fills: tuple[FillView, ...]


@dataclass(frozen=True, slots=True)
class BookView:
    """Market data for other processes and the page: best first, [price, size] as text. `market_ns` is when we
    received the newest part, `venue_ns` the venue's time of it, `seq` the venue's update id; all unchanged by
    publishing.
    """

    instrument: str
    market: str
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    tick: Decimal
    lot: Decimal
    venue_ns: int
    market_ns: int
    published_ns: int
    seq: int
    is_synced: bool
    note: str


@dataclass(frozen=True, slots=True)
class TradesView:
    """The newest public trades, newest first: [exchange time, aggressor side, price, size, receive time, the
    venue's trade id]; times in UTC nanoseconds.
    """

    instrument: str
    market: str
    published_ns: int
    trades: tuple[tuple[int, str, str, str, int, str], ...]


@dataclass(frozen=True, slots=True)
class FeedView:
    instrument: str
    source: str
    market: str
    state: str
    note: str
    frames: int
    diffs_applied: int
    trades: int
    resyncs: int
    last_market_ns: int | None
    age_s: float | None
    clock_offset_ms: float | None
    """Receive time minus exchange time at its smallest, ms: negative when the recorder's clock runs behind.
    """


@dataclass(frozen=True, slots=True)
class FeedsView:
    published_ns: int
    feeds: tuple[FeedView, ...]


@dataclass(frozen=True, slots=True)
class SampleView:
    """One point of a worker's chart. Prices and amounts as floats: a picture, not a ledger."""

    at_ns: int
    mid: float | None
    bid: float | None
    ask: float | None
    position: float
    net: float | None


@dataclass(frozen=True, slots=True)
class SeriesView:
    worker: str
    samples: tuple[SampleView, ...]


@dataclass(frozen=True, slots=True)
class NoticeView:
    at_ns: int
    level: str
    worker: str
    text: str


@dataclass(frozen=True, slots=True)
class NoticesView:
    published_ns: int
    notices: tuple[NoticeView, ...]


@dataclass(frozen=True, slots=True)
class DeskView:
    name: str
    run_id: str
    version: str
    env: str
    market: str
    started_ns: int
    published_ns: int
    is_killed: bool
    kill_reason: str
    workers: int
    running: int
    open_orders: int
    unknown_orders: int
    bus: str
    database: bool
    lost_bus_s: float
    lane_lag_ms: float
    net: Decimal | None
    net_currency: str
    net_is_partial: bool


class Desk(Protocol):
    """Commands of a desk. Each is idempotent where its name allows; each names who asked (`by`) for the
    record.
    """

    def health(self) -> dict[str, Any]:
        """`{"status": "ok"|"degraded", "desk": DeskView as dict, "checks": {name: text}}`."""

    def view(self) -> DeskView: ...

    def strategies(self) -> list[dict[str, Any]]:
        """One entry a strategy: `{"name", "kind", "title", "description", "schema": JSON Schema,
        "limits_schema": ...}`. Each property of the schema carries title, description, `unit`, default,
        minimum/maximum and `live` (bool).
        """

    def venues(self) -> list[dict[str, Any]]:
        """One entry a venue: `{"name", "title", "envs", "market_types", "symbols", "configured": bool,
        "capabilities"}`.
        """

    def feeds(self) -> FeedsView: ...

    def workers(self) -> list[WorkerView]: ...

    def worker(self, worker_id: str) -> WorkerView: ...

    def create(self, spec: WorkerSpec, *, by: str) -> WorkerView: ...

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
        """A partial change; unnamed fields keep their value. Changed params or limits make a new version."""

    def delete(self, worker_id: str, *, by: str) -> None:
        """Only when stopped (Conflict otherwise). Its fills stay in the store."""

    def start(self, worker_id: str, *, by: str) -> WorkerView:
        """Arm it. Already running: the same view. Paused: it quotes again. Refused by name while the desk is
        killed.
        """

    def pause(self, worker_id: str, *, by: str) -> WorkerView: ...

    def stop(self, worker_id: str, *, by: str) -> WorkerView:
        """Cancel, wait for the venue to confirm (up to 10 s), and answer with the receipt in the view."""

    def orders(self, worker_id: str) -> OrdersView: ...

    def fills(
        self,
        *,
        worker_id: str | None = None,
        symbol: str | None = None,
        before_ns: int | None = None,
        limit: int = 100,
    ) -> FillsView:
        """Newest first, from the always-on store; page with `before_ns`."""

    def versions(self, worker_id: str) -> list[dict[str, Any]]:
        """Every version of params and limits, newest first: `{"version", "at_ns", "by", "reason", "params",
        "limits"}`.
        """

    def book(self, instrument: str) -> BookView: ...

    def series(self, worker_id: str) -> SeriesView:
        """The chart's history: up to the last 3600 samples, one a second, oldest first. Survives stop and
        reload.
        """

    def notices(self) -> NoticesView: ...

    def kill(self, *, reason: str, by: str) -> ReceiptView:
        """Cancel everything everywhere and latch: nothing new is sent until `release`. Has no deadline."""

    def release(self, *, by: str) -> DeskView:
        """Undo the latch. Workers stay stopped until a person starts each."""
