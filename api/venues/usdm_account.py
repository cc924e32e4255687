"""One account at Binance USDT-M futures or Aster: what its order path and its reads share, and the reads.

Hides: the clock offset, the budget of the rate limits, the position mode, which order number carries which
client id, listen keys, paging. Must not know: threads (it is safe from any), sockets, engines, how requests
are signed. Called by the other `usdm_` files.

Client ids go to the venue as they are (36 of A-Z a-z 0-9 . : / _ - are allowed and ours fit), so there is no
map to keep; the venue refuses a second order with an id only while the first is open, so ids sent from here
are remembered and a second one is refused here.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode

from api.budget import Budget, Cost, Pool
from api.errors import (
    BadInput,
    ExchangeError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    UnknownOrder,
    WouldCross,
)
from api.exchange import AccountMode, FeeRates, FundingPayment, KeyRights, Listener
from api.runtime import ClockLike
from api.types import (
    Amend,
    Answered,
    Balance,
    Cancel,
    Command,
    Event,
    Fill,
    Instrument,
    InstrumentId,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Position,
    Request,
    Tif,
)
from api.venues import usdm_messages as say
from api.venues import usdm_requests as ask
from api.venues.usdm_errors import OUTCOMES, TOO_MANY_ORDERS, WRONG_POSITION_SIDE
from api.venues.usdm_public import (
    MS,
    UNREADABLE,
    ZERO,
    Limit,
    Rates,
    decode_exchange,
    instrument_of,
    plain,
)
from api.wire import Answer
from api.wire_http import HttpLine, HttpLines, Proxy

log = logging.getLogger("makerdeck.usdm")

T = TypeVar("T")

WINDOW_MS = 7 * 24 * 3600 * 1000  # of `userTrades` and `income` with times
KEPT_MS = 89 * 24 * 3600 * 1000  # the venues keep trades for three months (Binance: since 2026-08-26)
PAGE = 1000  # rows of `userTrades`, `allOrders` and `income`
KEPT_IDS = 50_000  # order numbers whose client id is remembered; client ids that were used
LOOK_UP_ONE_BY_ONE = 5  # more unknown order numbers than this are read from the order history in pages
RELOAD_S = 60.0  # an unknown market makes the list be read again at most this often
CLOCK_OLD_S = 300.0  # an offset older than this is replaced by any new one
CLOCK_RTT_S = 1.0  # a measurement that took longer is not better than an older one

_UNIT_NS = {
    "SECOND": 1_000_000_000,
    "MINUTE": 60_000_000_000,
    "HOUR": 3_600_000_000_000,
    "DAY": 86_400_000_000_000,
}
_HEADERS = (("x-mbx-used-weight-", "REQUEST_WEIGHT/"), ("x-mbx-order-count-", "ORDERS/"))
_BANNED_UNTIL = re.compile(r"until (\d{13})\b")
_ORDER_POOLS = ("ORDERS/10S", "ORDERS/1M")


@dataclass(frozen=True, slots=True)
class Settings:
    """How an account behaves; the defaults suit a market maker.

    `answer_s` is how long an answer is waited for. It equals `recv_window_s`, for which Binance takes a
    request: when we give up, the venue gives up too. `stp` empty: the venue's default, nothing is sent.
    `for_cancels`: share of the request weight that only cancels may use. `listen_key_s`: how often the listen
    key is extended (it lives 60 minutes). `max_age_s`: connections live for 24 hours at the venue; ours are
    replaced earlier, by overlap. `silence_s`: without a frame for so long (we ping after half of it) a
    connection counts as lost. `fees_paid_are_negative`: how the venue writes commission; unverified for
    Aster, whose document shows it negative (as an old example of Binance's did).
    """

    order_path: str = "socket"
    http_lines: int = 2
    stp: str = "EXPIRE_TAKER"
    recv_window_s: float = 3.0
    answer_s: float = 3.0
    read_s: float = 10.0
    connect_s: float = 5.0
    clock_every_s: float = 60.0
    listen_key_s: float = 1800.0
    balances_every_s: float = 1.0
    for_cancels: float = 0.2
    silence_s: float = 20.0
    max_age_s: float = 23 * 3600.0
    overlap_s: float = 3.0
    pauses_s: tuple[float, ...] = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0)
    late_s: float = 60.0
    fees_paid_are_negative: bool = False

    def __post_init__(self) -> None:
        if self.order_path not in ("socket", "http"):
            raise BadInput("order_path", "must be socket or http")
        if not 0 < self.recv_window_s <= 60:
            raise BadInput("recv_window_s", "must be above 0 and at most 60 seconds")
        if self.http_lines < 1:
            raise BadInput("http_lines", "must be at least 1")


class Where(Protocol):
    """Where one environment lives."""

    @property
    def rest(self) -> str: ...
    @property
    def socket(self) -> str: ...
    @property
    def private(self) -> str: ...
    @property
    def hosts(self) -> frozenset[str]: ...
    @property
    def sapi(self) -> str: ...


@dataclass(slots=True, eq=False)
class Job:
    """One write on its way: commands (one `Answered` follows for each), or a call (`done` is told)."""

    request: ask.Request
    commands: tuple[Command, ...] = ()
    done: Callable[[bytes | ExchangeError], None] | None = None
    deadline: float = 0.0
    is_taken: bool = False
    is_retried: bool = False
    is_batch: bool = False


class Account:
    """See the module docstring.

    Args:
        name: our name of the account.
    """

    def __init__(
        self,
        dialect: ask.Dialect,
        signer: ask.Signer,
        where: Where,
        clock: ClockLike,
        name: str,
        settings: Settings,
        proxy: Proxy | None = None,
    ) -> None:
        if settings.stp and settings.stp not in dialect.stp_modes:
            raise BadInput("stp", f"{dialect.title} has {', '.join(dialect.stp_modes)}")
        self.dialect = dialect
        self.signer = signer
        self.where = where
        self.clock = clock
        self.name = name
        self.settings = settings
        self.proxy = proxy
        self.offset_ns: int | None = None
        self.is_hedge: bool | None = None
        self.is_mode_due = False
        self.balances_due = threading.Event()
        self.budget = Budget(
            (
                Pool(ask.WEIGHT, 2400, 60_000_000_000, settings.for_cancels),
                Pool("ORDERS/10S", 300, 10_000_000_000),
                Pool("ORDERS/1M", 1200, 60_000_000_000),
            )
        )
        self.trouble = ""
        self.unread = 0
        self.foreign_markets = 0
        self.stp_mismatches = 0
        self.stp_read_back: str | None = None
        self.listener: Listener | None = None
        self.texts: dict[InstrumentId, ask.MarketTexts] = {}
        self.touched: set[str] = set()
        self.fee_sign = -1 if settings.fees_paid_are_negative else 1
        self._by_symbol: dict[str, Instrument] = {}
        self._trading: set[str] = set()
        self._rates: dict[str, Rates] = {}
        self._order_pools: tuple[str, ...] = _ORDER_POOLS
        self._offset_at = 0.0
        self._ids: OrderedDict[str, str] = OrderedDict()
        self._used: OrderedDict[str, None] = OrderedDict()
        self._rests: OrderedDict[str, ask.Resting] = OrderedDict()
        self._heard_ms: OrderedDict[int, int] = OrderedDict()
        self._loaded_at: float | None = None
        self._load = threading.Lock()
        self._lock = threading.Lock()
        self.lines = HttpLines(
            where.rest,
            where.hosts,
            headers=dict(signer.headers),
            connect_s=settings.connect_s,
            answer_s=settings.read_s,
            proxy=proxy,
        )

    # ------------------------------------------------------------------ time

    def venue_ns(self) -> int:
        """The venue's clock as we know it: ours until it was measured."""
        return self.clock.now_ns() + (self.offset_ns or 0)

    def measured(self, server_ms: int, sent_ns: int, heard_ns: int) -> None:
        """The venue's time in an answer to a question that left at `sent_ns` (both ours)."""
        is_slow = heard_ns - sent_ns > CLOCK_RTT_S * 1e9
        now = time.monotonic()
        if self.offset_ns is not None and is_slow and now - self._offset_at < CLOCK_OLD_S:
            return
        self.offset_ns = server_ms * MS + MS // 2 - (sent_ns + heard_ns) // 2
        self._offset_at = now

    def sync_clock(self, line: HttpLine | HttpLines | None = None) -> int:
        """Measure the offset over HTTP; the venue's time in UTC nanoseconds. Raises ExchangeError."""
        costs = ((ask.WEIGHT, 1),)
        self._take(costs)
        sent_ns = self.clock.now_ns()
        try:
            answer = (line or self.lines).ask("GET", f"{self.dialect.v}/time", is_write=False)
        except ExchangeError:
            self.budget.settle(costs, (), self.venue_ns())
            raise
        heard_ns = self.clock.now_ns()
        told = self._read(answer, costs, say.decode_time)
        self.measured(told.serverTime, sent_ns, heard_ns)
        return told.serverTime * MS

    def is_clock(self, error: ExchangeError) -> bool:
        """The venue did nothing because of the time (or the nonce): it may be sent once more."""
        return isinstance(error, Unavailable) and self.dialect.errors.is_clock(error.code, error.message)

    # ------------------------------------------------------------------ telling

    def tell(self, event: Event) -> None:
        listener = self.listener
        if listener is not None:
            listener(event)

    def answer(
        self,
        command: Command,
        outcome: Outcome,
        *,
        venue_id: str | None = None,
        error: str = "",
        reason: str = "",
        retry_after_s: float = 0.0,
    ) -> None:
        self.tell(
            Answered(
                self.clock.now_ns(),
                command.client_id,
                command.instrument,
                request_of(command),
                outcome,
                venue_id,
                error,
                reason,
                retry_after_s,
            )
        )

    def refuse(self, command: Command, error: ExchangeError) -> None:
        outcome = Outcome(OUTCOMES.get(type(error), "rejected"))
        wait_s = error.retry_after_s if isinstance(error, RateLimited) else 0.0
        self.answer(command, outcome, error=type(error).__name__, reason=error.message, retry_after_s=wait_s)

    # ------------------------------------------------------------------ writes

    def request_for(self, command: Command) -> ask.Request:
        """Raises ExchangeError for what cannot be asked here."""
        texts = self.texts_of(command.instrument)
        if isinstance(command, Place):
            request = ask.place(
                command, texts, self.dialect, self.settings.stp, self._hedge(), self._order_costs(1)
            )
            self._use(command.client_id)
            return request
        if isinstance(command, Cancel):
            return ask.cancel(command, texts.instrument.venue_symbol, self.dialect)
        return ask.amend(
            command, texts, self._rests.get(command.client_id), self.dialect, self._order_costs(1)
        )

    def batch_for(self, commands: tuple[Place, ...]) -> ask.Request:
        """Places in one request. Raises ExchangeError for what cannot be asked here; nothing is sent then."""
        listed = [
            ask.order_params(
                command, self.texts_of(command.instrument), self.dialect, self.settings.stp, self._hedge()
            )
            for command in commands
        ]
        taken: list[str] = []
        try:
            for command in commands:
                self._use(command.client_id)
                taken.append(command.client_id)
        except Rejected:
            for client_id in taken:
                self.unuse(client_id)
            raise
        costs = ((ask.WEIGHT, 5), *((name, len(commands)) for name in self._order_pools))
        return ask.place_batch(listed, self.dialect, costs)

    def texts_of(self, instrument: InstrumentId) -> ask.MarketTexts:
        """Raises Rejected for a market that was not loaded."""
        texts = self.texts.get(instrument)
        if texts is None:
            raise Rejected(f"{instrument} is not a market of {self.dialect.title} that was loaded")
        return texts

    def _hedge(self) -> bool:
        """Raises Unavailable while the mode is not known: the side of a position is no matter of luck."""
        if self.is_hedge is None:
            raise Unavailable("the account's position mode is not known yet")
        return self.is_hedge

    def _order_costs(self, count: int) -> tuple[Cost, ...]:
        return ((ask.WEIGHT, 1), *((name, count) for name in self._order_pools))

    def _use(self, client_id: str) -> None:
        """Raises Rejected: this id was sent before."""
        with self._lock:
            if client_id in self._used:
                raise Rejected("duplicate client id: it was sent before")
            self._used[client_id] = None
            if len(self._used) > KEPT_IDS:
                self._used.popitem(last=False)

    def unuse(self, client_id: str) -> None:
        """Nothing came of it: the id may be sent again."""
        with self._lock:
            self._used.pop(client_id, None)

    def take(self, job: Job) -> None:
        """Take what the job costs from the budget. Raises RateLimited: nothing may be sent now."""
        self._take(job.request.costs, is_cancel=job.request.is_cancel)
        job.is_taken = True

    def settle(self, job: Job, counted: tuple[Cost, ...] = ()) -> None:
        if job.is_taken:
            job.is_taken = False
            self.budget.settle(job.request.costs, counted, self.venue_ns())

    def finish(self, job: Job, result: bytes | ExchangeError) -> None:
        """End a job with the venue's answer, or with why there is none. May be called again with a late
        answer.
        """
        self.settle(job)
        if job.done is not None:
            job.done(result)
        if not job.commands:
            return
        if isinstance(result, ExchangeError):
            for command in job.commands:
                self._refused(command, result)
            return
        if job.is_batch:
            self._batch_ended(job.commands, result)
            return
        for command in job.commands:
            self._ended(command, result)

    def _ended(self, command: Command, result: bytes) -> None:
        try:
            row = say.decode_order(result)
        except UNREADABLE:
            self.unread += 1
            what = f"{self.dialect.title} accepted the request in words that we cannot read"
            self._refused(command, OutcomeUnknown(what))
            return
        self._accepted(command, row)

    def _batch_ended(self, commands: tuple[Command, ...], result: bytes) -> None:
        """Answers come in the order of the requests; one that is no order is a refusal."""
        try:
            rows = say.decode_batch(result)
        except UNREADABLE:
            rows = []
        if len(rows) != len(commands):
            self.unread += 1
            what = f"{self.dialect.title} answered a batch in words that we cannot read"
            for command in commands:
                self._refused(command, OutcomeUnknown(what))
            return
        for command, row in zip(commands, rows, strict=True):
            try:
                refusal = say.decode_refusal(bytes(row))
            except UNREADABLE:
                self._ended(command, bytes(row))
                continue
            error = self.error_from(400, refusal.code, refusal.msg, is_write=True, wait_s=None)
            self._refused(command, error)

    def _refused(self, command: Command, error: ExchangeError) -> None:
        if isinstance(command, Place) and not isinstance(error, OutcomeUnknown):
            self.unuse(command.client_id)
            crossing = {str(code) for code in self.dialect.errors.post_only}
            if command.post_only and error.code in crossing:
                error = WouldCross(error.message, code=error.code)
        self.refuse(command, error)

    def _accepted(self, command: Command, row: say.OrderRow) -> None:
        venue_id = str(row.orderId)
        self.note_id(venue_id, command.client_id)
        if isinstance(command, Cancel):
            if row.status == "CANCELED":
                self._rests.pop(command.client_id, None)
                self.answer(command, Outcome.ACCEPTED, venue_id=venue_id)
            else:
                what = f"the cancel was taken, and the order is {row.status or 'in no state'}"
                self.refuse(command, OutcomeUnknown(what))
            return
        is_over = row.status in ("EXPIRED", "REJECTED", "CANCELED") and not row.executedQty
        if isinstance(command, Amend):
            if is_over:
                self._rests.pop(command.client_id, None)
                self.refuse(
                    command, WouldCross("the venue canceled the order: its new price would have taken")
                )
                return
            rests = self._rests.get(command.client_id)
            if rests is not None:
                self.note_rest(command.client_id, ask.Resting(rests.side, command.ticks, command.lots))
            self.answer(command, Outcome.ACCEPTED, venue_id=venue_id)
            return
        self._check_stp(command, row)
        if is_over and command.post_only:
            self._refused(command, WouldCross("the post-only order would have taken"))
            return
        if say.STATUSES.get(row.status) is None or not say.STATUSES[row.status].is_final:
            self.note_rest(command.client_id, ask.Resting(command.side, command.ticks, command.lots))
        self.answer(command, Outcome.ACCEPTED, venue_id=venue_id)

    def _check_stp(self, command: Place, row: say.OrderRow) -> None:
        """The mode is set explicitly and read back: what the venue says it uses must be what we asked for.
        It works for orders that can take and rest or expire (GTC, IOC); of others nothing is read.
        """
        asked, told = self.settings.stp, row.stp
        if not told or command.post_only or command.tif is Tif.FOK:
            return
        self.stp_read_back = told
        if asked and told != asked:
            self.stp_mismatches += 1
            self.trouble = f"self-trade prevention is {told}, asked for {asked}"
            log.error("order=%s %s", command.client_id, self.trouble)

    # ------------------------------------------------------------------ what was heard

    def heard_update(self, raw: bytes, at_ns: int) -> list[Event]:
        """Events may come out of order: a report that is older than one already told of the same order is
        left out, its fill is not. Raises UNREADABLE.
        """
        told = say.decode_update(raw)
        update = told.o
        instrument = self._by_symbol.get(update.s)
        if instrument is None:
            self.foreign_markets += 1
            return []
        self.note_id(str(update.i), update.c)
        events = say.heard(update, instrument, self.name, at_ns, self.fee_sign)
        with self._lock:
            is_stale = told.E < self._heard_ms.get(update.i, 0)
            if not is_stale:
                self._heard_ms[update.i] = told.E
                self._heard_ms.move_to_end(update.i)
                if len(self._heard_ms) > KEPT_IDS:
                    self._heard_ms.popitem(last=False)
        if is_stale:
            return [event for event in events if not isinstance(event, OrderHeard)]
        status = say.STATUSES.get(update.X)
        if status is None:
            log.warning("order=%s has a status we do not know: %s", update.c, update.X[:40])
        elif status.is_final:
            self._rests.pop(update.c, None)
        else:
            side = say.SIDES[update.S]
            rests = ask.Resting(side, instrument.ticks(update.p, side), instrument.lots(update.q))
            self.note_rest(update.c, rests)
        return events

    def heard_account(self, raw: bytes) -> None:
        """Money moved. What is free now the event does not say, so it is read. Raises UNREADABLE."""
        say.decode_account(raw)
        self.balances_due.set()

    def note_id(self, venue_id: str, client_id: str) -> None:
        with self._lock:
            self._ids[venue_id] = client_id
            self._ids.move_to_end(venue_id)
            if len(self._ids) > KEPT_IDS:
                self._ids.popitem(last=False)

    def note_rest(self, client_id: str, rests: ask.Resting) -> None:
        with self._lock:
            self._rests[client_id] = rests
            if len(self._rests) > KEPT_IDS:
                self._rests.popitem(last=False)

    # ------------------------------------------------------------------ listen key

    def listen_key(self) -> str:
        """A new one, or the living one extended. Raises ExchangeError."""
        if self.offset_ns is None:
            self.sync_clock()
        return self._keyed("POST", say.decode_listen_key).listenKey

    def keep_listen_key(self) -> None:
        """Extend it by 60 minutes. Raises ExchangeError; with -1125 it does not exist any more."""
        self._keyed("PUT", bytes)

    def _keyed(self, verb: str, decode: Callable[[bytes], T]) -> T:
        costs = ((ask.WEIGHT, 1),)
        path = f"{self.dialect.v}/listenKey"
        for is_retry in (False, True):
            self._take(costs)
            form = self.signer.form({}, self.venue_ns()) if self.signer.signs_listen_key else ""
            try:
                return self._read(self._asked(verb, path, costs, form.encode()), costs, decode)
            except Unavailable as error:
                if is_retry or not self.is_clock(error):
                    raise
            self.sync_clock()
        raise AssertionError("unreachable")

    def private_url(self, listen_key: str) -> str:
        return f"{self.where.private}/ws/{quote(listen_key, safe='')}"

    # ------------------------------------------------------------------ markets and modes

    def fetch_markets(self) -> tuple[Instrument, ...]:
        """Read all markets, the rate limits, the position mode and fee rates; those that trade now, by name.

        Fee rates are told per market at a weight of 20 each, so one market of each quote asset is asked and
        its rates stand for all of that asset; `fetch_rates` gives those of one market, exactly, and they are
        used from then on.
        """
        with self._load:
            self._load_markets()
        found = (i for i in self._by_symbol.values() if i.venue_symbol in self._trading)
        return tuple(sorted(found, key=lambda i: i.symbol))

    def need_markets(self) -> None:
        if self._loaded_at is None:
            with self._load:
                if self._loaded_at is None:
                    self._load_markets()

    def instrument(self, instrument: InstrumentId) -> Instrument:
        """Raises Rejected for a market that the venue does not list."""
        self.need_markets()
        texts = self.texts.get(instrument)
        if texts is None:
            raise Rejected(f"{self.dialect.title} lists no {instrument.symbol or instrument}")
        return texts.instrument

    def instrument_called(self, symbol: str) -> Instrument | None:
        """By the venue's own name; a new one makes the list be read again. None: not listed."""
        self.need_markets()
        found = self._by_symbol.get(symbol)
        if found is None and self._loaded_at is not None:
            with self._load:
                if time.monotonic() - self._loaded_at > RELOAD_S:
                    self._load_markets()
            found = self._by_symbol.get(symbol)
        return found

    def _load_markets(self) -> None:
        exchange = self._public(f"{self.dialect.v}/exchangeInfo", {}, 1, decode_exchange)
        self._use_limits(exchange.rateLimits)
        self.read_position_mode()
        by_quote: dict[str, Rates] = {}
        for row in sorted(exchange.symbols, key=lambda row: row.baseAsset != "BTC"):
            if row.status == "TRADING" and row.quoteAsset not in by_quote:
                by_quote[row.quoteAsset] = self._fetch_rates(row.symbol)
        by_symbol: dict[str, Instrument] = {}
        texts: dict[InstrumentId, ask.MarketTexts] = {}
        trading = set()
        for row in sorted(exchange.symbols, key=lambda row: row.status != "TRADING"):
            rates = self._rates.get(row.symbol) or by_quote.get(row.quoteAsset)
            if rates is None:
                continue  # nothing of this quote asset trades
            try:
                found = instrument_of(self.dialect.name, row, rates)
            except ValueError as error:
                log.warning("market=%s left out: %s", row.symbol[:40], error)
                continue
            by_symbol[row.symbol] = found
            texts.setdefault(found.id, ask.MarketTexts.of(found))
            if row.status == "TRADING":
                trading.add(row.symbol)
        self.texts, self._by_symbol, self._trading = texts, by_symbol, trading
        self._loaded_at = time.monotonic()

    def _use_limits(self, rows: list[Limit]) -> None:
        pools = []
        for row in rows:
            unit_ns = _UNIT_NS.get(row.interval)
            if unit_ns is None or row.intervalNum <= 0 or row.limit <= 0:
                continue
            share = self.settings.for_cancels if row.rateLimitType == "REQUEST_WEIGHT" else 0.0
            pools.append(Pool(pool_name(row), row.limit, row.intervalNum * unit_ns, share))
        if any(pool.name == ask.WEIGHT for pool in pools):
            self.budget.set_pools(pools)
            self._order_pools = tuple(pool.name for pool in pools if pool.name.startswith("ORDERS/"))

    def read_position_mode(self) -> bool:
        """True: hedge. Raises ExchangeError."""
        told = self._signed(f"{self.dialect.v}/positionSide/dual", {}, 30, say.decode_position_mode)
        if self.is_hedge is not None and self.is_hedge != told.dualSidePosition:
            log.warning("account=%s position mode changed: hedge=%s", self.name, told.dualSidePosition)
        self.is_hedge = told.dualSidePosition
        self.is_mode_due = False
        return told.dualSidePosition

    # ------------------------------------------------------------------ reads

    def fetch_balances(self) -> tuple[Balance, ...]:
        rows = self._signed(f"{self.dialect.wallet}/balance", {}, 5, say.decode_balances)
        return tuple(say.balance_of(row) for row in rows)

    def fetch_positions(self) -> tuple[Position, ...]:
        """A market that is not listed is flat. In hedge mode a market may have a long and a short one."""
        self.need_markets()
        rows = self._signed(f"{self.dialect.wallet}/positionRisk", {}, 5, say.decode_positions)
        found = []
        for row in rows:
            if not row.positionAmt:
                continue
            instrument = self.instrument_called(row.symbol)
            if instrument is None:
                raise Unavailable(f"a position is held in {row.symbol[:40]}, which is not listed")
            found.append(say.position_of(row, instrument))
        return tuple(found)

    def fetch_rates(self, instrument: InstrumentId) -> FeeRates:
        """Fee rates of one market (weight 20)."""
        symbol = self.instrument(instrument).venue_symbol
        rates = self._fetch_rates(symbol)
        self._rates[symbol] = rates
        return FeeRates(rates.maker, rates.taker)

    def _fetch_rates(self, symbol: str) -> Rates:
        path = f"{self.dialect.v}/commissionRate"
        row = self._signed(path, {"symbol": symbol}, 20, say.decode_commission)
        return Rates(plain(row.makerCommissionRate), plain(row.takerCommissionRate))

    def fetch_rights(self) -> KeyRights:
        """The account's right to trade, and, where another of the venue's hosts tells, the key's own rights
        (unverified that it takes a futures key: then they are not told).
        """
        rights = self._signed(self.dialect.rights_path, {}, 5, say.decode_rights)
        told = self._key_row()
        can_trade = rights.canTrade
        if told.enableFutures is not None and can_trade is not None:
            can_trade = can_trade and told.enableFutures
        return KeyRights(can_trade, told.enableWithdrawals, told.ipRestrict)

    def _key_row(self) -> say.KeyRow:
        if not self.where.sapi:
            return say.KeyRow()
        line = HttpLine(
            self.where.sapi,
            self.where.hosts,
            headers=dict(self.signer.headers),
            connect_s=self.settings.connect_s,
            answer_s=self.settings.read_s,
            proxy=self.proxy,
        )
        try:
            form = self.signer.form({}, self.venue_ns())
            answer = line.ask("GET", f"/sapi/v1/account/apiRestrictions?{form}", is_write=False)
            return say.decode_key(answer.body) if answer.status == 200 else say.KeyRow()
        except (ExchangeError, *UNREADABLE):
            return say.KeyRow()  # not told; the caller shows it so
        finally:
            line.close()

    def fetch_mode(self) -> AccountMode:
        is_hedge = self.read_position_mode()
        path = f"{self.dialect.v}/multiAssetsMargin"
        is_multi = self._signed(path, {}, 30, say.decode_assets_mode).multiAssetsMargin
        stp = self.stp_read_back
        if self.dialect.reads_stp:
            stp = self._signed(f"{self.dialect.v}/stpMode", {}, 30, say.decode_stp_mode).stpMode
        return AccountMode(
            "hedge" if is_hedge else "one-way", "multi-assets" if is_multi else "single-asset", stp, is_multi
        )

    def fetch_open(self, instrument: InstrumentId | None) -> tuple[OrderReport, ...]:
        """Weight 1 for one market, 40 for all."""
        self.need_markets()
        params = {} if instrument is None else {"symbol": self.instrument(instrument).venue_symbol}
        path = f"{self.dialect.v}/openOrders"
        rows = self._signed(path, params, 1 if params else 40, say.decode_orders)
        reports = []
        for row in rows:
            listed = self.instrument_called(row.symbol)
            if listed is None:
                raise Unavailable(f"an order rests in {row.symbol[:40]}, which is not listed")
            report = self._report(row, listed)
            self.note_id(str(row.orderId), report.client_id)
            self.note_rest(report.client_id, ask.Resting(report.side, report.ticks, report.lots))
            self.touched.add(row.symbol)
            reports.append(report)
        return tuple(reports)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        """Raises UnknownOrder, also for an order that ended without a fill days ago (the venues forget)."""
        listed = self.instrument(instrument)
        if ask.CLIENT_ID.fullmatch(client_id) is None:
            raise UnknownOrder(f"{self.dialect.title} has no order with such a client id")
        params = {"symbol": listed.venue_symbol, "origClientOrderId": client_id}
        row = self._signed(f"{self.dialect.v}/order", params, 1, say.decode_order)
        self.note_id(str(row.orderId), row.clientOrderId)
        return self._report(row, listed)

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        """The first fill is looked for in windows of 7 days; from it on, pages follow its id, with no window
        to miss one in. The venues keep three months: of what is older nothing can be told.
        """
        listed = self.instrument(instrument)
        symbol = listed.venue_symbol
        now_ms = self.venue_ns() // MS
        start_ms = max(since_ns // MS, now_ms - KEPT_MS)
        rows: list[say.TradeRow] = []
        while not rows and start_ms <= now_ms:
            end_ms = start_ms + WINDOW_MS - 1
            rows = self._trades(symbol, {"startTime": start_ms, "endTime": end_ms, "limit": PAGE})
            start_ms += WINDOW_MS
        is_last = not rows
        while not is_last:
            page = self._trades(symbol, {"fromId": rows[-1].id + 1, "limit": PAGE})
            is_last = len(page) < PAGE
            rows.extend(page)
        unique = {row.id: row for row in rows if row.time * MS >= since_ns}
        ordered = sorted(unique.values(), key=lambda row: (row.time, row.id))
        ids = self._client_ids(symbol, {str(row.orderId) for row in ordered})
        return tuple(
            say.fill_of(row, listed, self.name, ids[str(row.orderId)], self.fee_sign) for row in ordered
        )

    def _trades(self, symbol: str, params: Mapping[str, str | int]) -> list[say.TradeRow]:
        path = f"{self.dialect.v}/userTrades"
        rows = self._signed(path, {"symbol": symbol, **params}, 5, say.decode_trades)
        return sorted(rows, key=lambda row: row.id)

    def _client_ids(self, symbol: str, venue_ids: set[str]) -> dict[str, str]:
        """Which client id each order number carries: `userTrades` does not say. Empty: an order too old to be
        asked for.
        """
        with self._lock:
            found = {number: self._ids[number] for number in venue_ids if number in self._ids}
        missing = sorted(venue_ids - found.keys(), key=int)
        while len(missing) > LOOK_UP_ONE_BY_ONE:
            since: ask.Params = {"symbol": symbol, "orderId": missing[0], "limit": PAGE}
            rows = self._signed(f"{self.dialect.v}/allOrders", since, 5, say.decode_orders)
            for row in rows:
                self.note_id(str(row.orderId), row.clientOrderId)
                found[str(row.orderId)] = row.clientOrderId
            is_last = len(rows) < PAGE
            last = max((row.orderId for row in rows), default=0)
            missing = [number for number in missing if number not in found and int(number) > last]
            if is_last:
                break
        for number in sorted(venue_ids - found.keys(), key=int):
            try:
                asked = {"symbol": symbol, "orderId": number}
                row = self._signed(f"{self.dialect.v}/order", asked, 1, say.decode_order)
            except UnknownOrder:
                found[number] = ""
                continue
            found[number] = row.clientOrderId
            self.note_id(number, row.clientOrderId)
        return found

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        """Oldest first, of the last three months. Pages by time: the next page begins in the millisecond in
        which the last one ended. Raises Unavailable when one millisecond holds more than a page.
        """
        listed = self.instrument(instrument)
        start_ms = max(since_ns // MS, self.venue_ns() // MS - KEPT_MS)
        found: dict[tuple[str, int, str], FundingPayment] = {}
        while True:
            params: ask.Params = {
                "symbol": listed.venue_symbol,
                "incomeType": "FUNDING_FEE",
                "startTime": start_ms,
                "endTime": self.venue_ns() // MS,
                "limit": PAGE,
            }
            rows = self._signed(f"{self.dialect.v}/income", params, 30, say.decode_income)
            for row in rows:
                if row.incomeType == "FUNDING_FEE" and row.time * MS >= since_ns:
                    key = (str(row.tranId), row.time, row.asset)
                    found[key] = FundingPayment(
                        listed.id, str(row.tranId), ZERO - row.income, row.asset, row.time * MS
                    )
            if len(rows) < PAGE:
                return tuple(sorted(found.values(), key=lambda paid: (paid.venue_ns, paid.payment_id)))
            last_ms = max(row.time for row in rows)
            if last_ms == start_ms:
                raise Unavailable("more funding payments in one millisecond than a page holds")
            start_ms = last_ms

    def _report(self, row: say.OrderRow, instrument: Instrument) -> OrderReport:
        try:
            return say.report_of(row, instrument, self.clock.now_ns())
        except KeyError as error:
            title = self.dialect.title
            raise Unavailable(f"{title} shows an order in a state we do not know: {error}") from None

    # ------------------------------------------------------------------ asking over HTTP

    def _public(
        self, path: str, params: Mapping[str, str | int], weight: int, decode: Callable[[bytes], T]
    ) -> T:
        costs = ((ask.WEIGHT, weight),)
        self._take(costs)
        query = f"?{urlencode(params)}" if params else ""
        return self._read(self._asked("GET", path + query, costs), costs, decode)

    def _signed(
        self, path: str, params: Mapping[str, str | int], weight: int, decode: Callable[[bytes], T]
    ) -> T:
        """A signed read; when the venue found our clock wrong, it is measured and the read repeated once."""
        if self.offset_ns is None:
            self.sync_clock()
        costs = ((ask.WEIGHT, weight),)
        for is_retry in (False, True):
            self._take(costs)
            query = self.signer.form(params, self.venue_ns())
            try:
                return self._read(self._asked("GET", f"{path}?{query}", costs), costs, decode)
            except Unavailable as error:
                if is_retry or not self.is_clock(error):
                    raise
            self.sync_clock()
        raise AssertionError("unreachable")

    def _asked(self, verb: str, target: str, costs: tuple[Cost, ...], body: bytes = b"") -> Answer:
        try:
            return self.lines.ask(verb, target, body, is_write=False)
        except ExchangeError:
            self.budget.settle(costs, (), self.venue_ns())
            raise

    def _read(self, answer: Answer, costs: tuple[Cost, ...], decode: Callable[[bytes], T]) -> T:
        self.budget.settle(costs, counted(answer), self.venue_ns())
        body = self.checked(answer, is_write=False)
        try:
            return decode(body)
        except UNREADABLE:
            self.unread += 1
            what = f"{self.dialect.title} answered with something that is not what its API says"
            raise Unavailable(what) from None

    def checked(self, answer: Answer, *, is_write: bool) -> bytes:
        """The body of a success; else the error is raised that the venue means by it, and its limits are
        kept.
        """
        if 200 <= answer.status < 300:
            return answer.body
        code, text = None, answer.body[:200].decode("latin-1")
        try:
            refusal = say.decode_refusal(answer.body)
            code, text = refusal.code, refusal.msg
        except UNREADABLE:
            pass  # a page of HTML from something in between, or a 503 in plain text
        raise self.error_from(answer.status, code, text, is_write=is_write, wait_s=answer.retry_after_s)

    def error_from(
        self, status: int, code: int | None, text: str, *, is_write: bool, wait_s: float | None
    ) -> ExchangeError:
        """The error that an answer means. If it is a limit, nothing leaves inside the time the venue asked
        for; too many orders stop new orders only.

        Args:
            wait_s: what the answer says beside its text; without it the time that a ban's text names counts.
        """
        named = _BANNED_UNTIL.search(text) if wait_s is None else None
        if named is not None:
            wait_s = max(0.0, (int(named.group(1)) - self.venue_ns() // MS) / 1000)
        rules = self.dialect.errors
        error = rules.error_of(status, code, text, is_write=is_write, retry_after_s=wait_s)
        if isinstance(error, RateLimited):
            now_ns = self.venue_ns()
            if code == TOO_MANY_ORDERS:
                named_pool = "ORDERS/1M" if "minute" in text.lower() else "ORDERS/10S"
                spent = self.budget.exhaust(named_pool, now_ns) or self.budget.exhaust("ORDERS/1M", now_ns)
                error.retry_after_s = spent or error.retry_after_s
            else:
                self.budget.block(error.retry_after_s, error.message, now_ns)
        elif isinstance(error, Unauthorized):
            self.trouble = error.message
        elif code == WRONG_POSITION_SIDE:
            self.trouble = "the account's position mode was changed; it is read anew"
            self.is_mode_due = True
        return error

    def _take(self, costs: tuple[Cost, ...], *, is_cancel: bool = False) -> None:
        now_ns = self.venue_ns()
        wait_s = self.budget.take(costs, now_ns, is_cancel=is_cancel)
        if wait_s:
            if self.budget.blocked_s(now_ns):
                raise RateLimited(f"{self.dialect.title} asked us to wait", retry_after_s=wait_s)
            raise RateLimited("our budget of the venue's rate limit is used up", retry_after_s=wait_s)

    def close(self) -> None:
        self.lines.close()


def request_of(command: Command) -> Request:
    if isinstance(command, Place):
        return Request.PLACE
    return Request.CANCEL if isinstance(command, Cancel) else Request.AMEND


def pool_name(row: Limit) -> str:
    """As the headers spell it: REQUEST_WEIGHT/1M, ORDERS/10S."""
    return f"{row.rateLimitType}/{row.intervalNum}{row.interval[:1]}"


def counted(answer: Answer) -> tuple[Cost, ...]:
    """What the venue counts, by its headers `X-MBX-USED-WEIGHT-(n)(letter)` and `X-MBX-ORDER-COUNT-...`."""
    found = []
    for name, value in answer.headers.items():
        for start, pool in _HEADERS:
            if name.startswith(start) and value.isascii() and value.isdigit():
                found.append((pool + name[len(start) :].upper(), int(value)))
    return tuple(found)
