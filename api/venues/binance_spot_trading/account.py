"""One account at Binance spot: what its order path and its reads share, and the reads themselves.

Hides: the clock offset, the budget of the rate limits, which order number carries which client id, paging.
Must not know: threads (it is safe from any), the WebSocket, engines. Called by `venue`, `session` and
`http_orders`.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar
from urllib.parse import urlencode

from api.budget import Budget, Cost, Pool
from api.errors import (
    BadInput,
    ExchangeError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unavailable,
    UnknownOrder,
)
from api.exchange import Listener
from api.runtime import ClockLike
from api.signing import Key
from api.types import (
    Amend,
    Answered,
    Balance,
    BalancesHeard,
    Cancel,
    Command,
    Event,
    Fill,
    Instrument,
    InstrumentId,
    OrderReport,
    Outcome,
    Place,
    Request,
)
from api.venues.binance_spot import NAME
from api.venues.binance_spot_trading import messages as say
from api.venues.binance_spot_trading import requests as ask
from api.venues.binance_spot_trading.endpoints import Endpoints
from api.venues.binance_spot_trading.errors import (
    INVALID_TIMESTAMP,
    OUTCOMES,
    TOO_MANY_ORDERS,
    error_of,
)
from api.wire import Answer
from api.wire_http import HttpLine, HttpLines, Proxy

log = logging.getLogger("makerdeck.binance_spot")

T = TypeVar("T")

STP_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT", "NONE")
WINDOW_MS = 24 * 3600 * 1000  # of `myTrades` with times
MOST_WINDOWS = 30  # of those; a history further back is read from its first trade
PAGE = 1000  # rows of `myTrades` and `allOrders`
KEPT_IDS = 50_000  # order numbers whose client id is remembered
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


@dataclass(frozen=True, slots=True)
class Settings:
    """How an account behaves; the defaults suit a market maker.

    `answer_s` is how long an answer is waited for. It equals `recv_window_s`, for which the venue takes a
    request: when we give up, the venue gives up too, so an order that is absent seconds later can no longer
    arrive. `for_cancels` is the share of the request weight that only cancels may use. `max_age_s`:
    connections live for 24 hours at the venue; ours are replaced earlier, by overlap. `silence_s`: without a
    frame for so long (the venue pings every 20 s, we ping after half of this) a connection counts as lost.
    """

    order_path: str = "socket"
    http_lines: int = 2
    stp: str = "EXPIRE_TAKER"
    recv_window_s: float = 3.0
    answer_s: float = 3.0
    read_s: float = 10.0
    connect_s: float = 5.0
    clock_every_s: float = 60.0
    for_cancels: float = 0.2
    silence_s: float = 15.0
    max_age_s: float = 23 * 3600.0
    overlap_s: float = 3.0
    pauses_s: tuple[float, ...] = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0)
    late_s: float = 60.0

    def __post_init__(self) -> None:
        if self.order_path not in ("socket", "http"):
            raise BadInput("order_path", "must be socket or http")
        if self.stp not in STP_MODES:
            raise BadInput("stp", f"must be one of {', '.join(STP_MODES)}")
        if not 0 < self.recv_window_s <= 60:
            raise BadInput("recv_window_s", "must be above 0 and at most 60 seconds")
        if self.http_lines < 1:
            raise BadInput("http_lines", "must be at least 1")


@dataclass(frozen=True, slots=True)
class Commission:
    """Fee rates of one market as fractions of value, paid is positive; `discount` is off the standard part
    while paid in `discount_asset`, None when it is not switched on.
    """

    maker: Decimal
    taker: Decimal
    discount: Decimal | None
    discount_asset: str


@dataclass(slots=True, eq=False)
class Job:
    """One write on its way: a command (one `Answered` follows), or a call (`done` is told)."""

    request: ask.Request
    command: Command | None = None
    done: Callable[[bytes | ExchangeError], None] | None = None
    deadline: float = 0.0
    is_taken: bool = False
    is_retried: bool = False


class Account:
    """See the module docstring.

    Args:
        name: our name of the account.
    """

    def __init__(
        self,
        key: Key,
        where: Endpoints,
        clock: ClockLike,
        name: str,
        settings: Settings,
        proxy: Proxy | None = None,
    ) -> None:
        self.key = key
        self.where = where
        self.clock = clock
        self.name = name
        self.settings = settings
        self.proxy = proxy
        self.recv_window_ms = round(settings.recv_window_s * 1000)
        self.offset_ns: int | None = None
        self.budget = Budget(
            (
                Pool("REQUEST_WEIGHT/1M", 6000, 60_000_000_000, settings.for_cancels),
                Pool("ORDERS/10S", 50, 10_000_000_000),
                Pool("ORDERS/1D", 160_000, 86_400_000_000_000),
            )
        )
        self.trouble = ""
        self.unread = 0
        self.foreign_markets = 0
        self.stp_mismatches = 0
        self.listener: Listener | None = None
        self.texts: dict[InstrumentId, ask.MarketTexts] = {}
        self._by_symbol: dict[str, say.Market] = {}
        self._place_costs: tuple[Cost, ...] = ((ask.WEIGHT, 1), ("ORDERS/10S", 1), ("ORDERS/1D", 1))
        self._offset_at = 0.0
        self._ids: OrderedDict[str, str] = OrderedDict()
        self._used: OrderedDict[str, None] = OrderedDict()
        self._rests: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._balances: dict[str, Balance] = {}
        self._loaded_at: float | None = None
        self._load = threading.Lock()
        self._lock = threading.Lock()
        self.headers = {"X-MBX-APIKEY": key.api_key}
        self.lines = HttpLines(
            where.rest,
            where.hosts,
            headers=self.headers,
            connect_s=settings.connect_s,
            answer_s=settings.read_s,
            proxy=proxy,
        )

    # ------------------------------------------------------------------ time

    def venue_ns(self) -> int:
        """The venue's clock as we know it: ours until it was measured."""
        return self.clock.now_ns() + (self.offset_ns or 0)

    def stamp_ms(self) -> int:
        return self.venue_ns() // say.MS

    def measured(self, server_ms: int, sent_ns: int, heard_ns: int) -> None:
        """The venue's time in an answer to a question that left at `sent_ns` (both ours)."""
        is_slow = heard_ns - sent_ns > CLOCK_RTT_S * 1e9
        now = time.monotonic()
        if self.offset_ns is not None and is_slow and now - self._offset_at < CLOCK_OLD_S:
            return
        self.offset_ns = server_ms * say.MS + say.MS // 2 - (sent_ns + heard_ns) // 2
        self._offset_at = now

    def sync_clock(self, line: HttpLine | HttpLines | None = None) -> int:
        """Measure the offset over HTTP; the venue's time in UTC nanoseconds. Raises ExchangeError."""
        self._take(((ask.WEIGHT, 1),))
        sent_ns = self.clock.now_ns()
        answer = (line or self.lines).ask("GET", "/v3/time", is_write=False)
        heard_ns = self.clock.now_ns()
        told = self._read(answer, ((ask.WEIGHT, 1),), say.decode_time)
        self.measured(told.serverTime, sent_ns, heard_ns)
        return told.serverTime * say.MS

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
        """Raises Rejected for what cannot be asked here."""
        texts = self.texts.get(command.instrument)
        if texts is None:
            raise Rejected(f"{command.instrument} is not a market of Binance spot that was loaded")
        if isinstance(command, Place):
            request = ask.place(command, texts, self.recv_window_ms, self._place_costs)
            self._use_once(command.client_id)
            return request
        if isinstance(command, Cancel):
            return ask.cancel(command, texts.market.instrument.venue_symbol, self.recv_window_ms)
        return ask.amend(command, texts, self._rests.get(command.client_id), self.recv_window_ms)

    def _use_once(self, client_id: str) -> None:
        """Binance forgets a client id when its order ends, and would take it again; we do not."""
        with self._lock:
            if client_id in self._used:
                raise Rejected(f"duplicate client id {client_id}")
            self._used[client_id] = None
            if len(self._used) > KEPT_IDS:
                self._used.popitem(last=False)

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
        command = job.command
        if command is None:
            return
        if isinstance(result, ExchangeError):
            if job.is_retried and isinstance(result, Rejected) and "Duplicate" in result.message:
                result = OutcomeUnknown("Binance has an order with this id: the first request had arrived")
            if isinstance(command, Place) and not isinstance(result, OutcomeUnknown):
                with self._lock:
                    self._used.pop(command.client_id, None)  # it never became an order
            self.refuse(command, result)
            return
        try:
            self._accepted(command, result)
        except say.UNREADABLE:
            self.unread += 1
            what = "Binance accepted the request in words that we cannot read"
            self.refuse(command, OutcomeUnknown(what))

    def _accepted(self, command: Command, result: bytes) -> None:
        if isinstance(command, Amend):
            amended = say.decode_amended(result).amendedOrder
            self.note_id(str(amended.orderId), command.client_id)
            self.note_rest(command.client_id, command.ticks, command.lots)
            self.answer(command, Outcome.ACCEPTED, venue_id=str(amended.orderId))
            return
        row = say.decode_order(result)
        venue_id = str(row.orderId)
        self.note_id(venue_id, command.client_id)
        if isinstance(command, Place):
            self.note_rest(command.client_id, command.ticks, command.lots)
            self._check_stp(command, row)
            self.answer(command, Outcome.ACCEPTED, venue_id=venue_id)
        elif row.status == "CANCELED":
            self._rests.pop(command.client_id, None)
            self.answer(command, Outcome.ACCEPTED, venue_id=venue_id)
        else:
            what = f"the cancel was taken, and the order is {row.status or 'in no state'}"
            self.refuse(command, OutcomeUnknown(what))

    def _check_stp(self, command: Place, row: say.OrderRow) -> None:
        """The mode is set explicitly and read back: what the venue says it uses must be what we asked for."""
        asked = self.texts[command.instrument].stp
        if row.selfTradePreventionMode and row.selfTradePreventionMode != asked and asked:
            self.stp_mismatches += 1
            self.trouble = f"self-trade prevention is {row.selfTradePreventionMode}, asked for {asked}"
            log.error("order=%s %s", command.client_id, self.trouble)

    # ------------------------------------------------------------------ what was heard

    def heard_execution(self, raw: bytes, at_ns: int) -> list[Event]:
        """Raises UNREADABLE (`messages`)."""
        execution = say.decode_execution(raw)
        market = self._by_symbol.get(execution.s)
        if market is None:
            self.foreign_markets += 1
            return []
        client_id = say.own_id(execution)
        self.note_id(str(execution.i), client_id)
        events = say.heard(execution, market.instrument, self.name, at_ns)
        status = say.STATUSES.get(execution.X)
        if status is None:
            log.warning("order=%s has a status we do not know: %s", client_id, execution.X[:40])
        elif status.is_final:
            self._rests.pop(client_id, None)
        else:
            instrument, side = market.instrument, say.SIDES[execution.S]
            self.note_rest(client_id, instrument.ticks(execution.p, side), instrument.lots(execution.q))
        return events

    def heard_position(self, raw: bytes, at_ns: int) -> BalancesHeard:
        """All assets we know of, with those that were just touched. Raises UNREADABLE (`messages`)."""
        told = say.decode_position(raw)
        with self._lock:
            for row in told.B:
                self._balances[row.a] = Balance(row.a, row.f, row.l)
            balances = tuple(self._balances.values())
        return BalancesHeard(at_ns, NAME, self.name, balances)

    def note_id(self, venue_id: str, client_id: str) -> None:
        with self._lock:
            self._ids[venue_id] = client_id
            self._ids.move_to_end(venue_id)
            if len(self._ids) > KEPT_IDS:
                self._ids.popitem(last=False)

    def note_rest(self, client_id: str, ticks: int, lots: int) -> None:
        with self._lock:
            self._rests[client_id] = (ticks, lots)
            if len(self._rests) > KEPT_IDS:
                self._rests.popitem(last=False)

    # ------------------------------------------------------------------ markets

    def fetch_markets(self) -> tuple[Instrument, ...]:
        """Read all markets, the rate limits and the account's fees; those that trade now, by name."""
        with self._load:
            self._load_markets()
        return tuple(
            sorted((m.instrument for m in self._by_symbol.values() if m.is_trading), key=lambda i: i.symbol)
        )

    def need_markets(self) -> None:
        if self._loaded_at is None:
            with self._load:
                if self._loaded_at is None:
                    self._load_markets()

    def market(self, instrument: InstrumentId) -> say.Market:
        """Raises Rejected for a market that the venue does not list."""
        self.need_markets()
        texts = self.texts.get(instrument)
        if texts is None:
            raise Rejected(f"Binance spot lists no {instrument.symbol or instrument}")
        return texts.market

    def market_called(self, symbol: str) -> say.Market | None:
        """By the venue's own name; a new one makes the list be read again. None: not listed."""
        self.need_markets()
        market = self._by_symbol.get(symbol)
        if market is None and self._loaded_at is not None:
            with self._load:
                if time.monotonic() - self._loaded_at > RELOAD_S:
                    self._load_markets()
            market = self._by_symbol.get(symbol)
        return market

    def stp_of(self, market: say.Market) -> str:
        """The mode we ask for in this market: the set one where it is allowed, else the strictest that is."""
        allowed = market.stp_modes
        for mode in (self.settings.stp, *STP_MODES):
            if mode in allowed:
                return mode
        return ""

    def _load_markets(self) -> None:
        raw = self._public("/v3/exchangeInfo", {}, 20, say.decode_exchange)
        account = self._signed("/v3/account", {"omitZeroBalances": "true"}, 20, say.decode_account)
        try:
            maker, taker = say.account_fees(account)
        except ValueError as error:
            raise Unavailable(f"Binance: {error}") from None
        with self._lock:
            self._balances = {balance.asset: balance for balance in say.balances_of(account)}
        texts: dict[InstrumentId, ask.MarketTexts] = {}
        by_symbol: dict[str, say.Market] = {}
        for row in raw.symbols:
            try:
                market = say.market_of(row, maker, taker)
            except ValueError as error:
                log.warning("market=%s left out: %s", row.symbol[:40], error)
                continue
            by_symbol[row.symbol] = market
            texts[market.instrument.id] = ask.MarketTexts.of(market, self.stp_of(market))
        self._use_limits(raw.rateLimits)
        self.texts, self._by_symbol = texts, by_symbol
        self._loaded_at = time.monotonic()

    def _use_limits(self, rows: list[say.Used]) -> None:
        pools = []
        for row in rows:
            unit_ns = _UNIT_NS.get(row.interval)
            if unit_ns is None or row.intervalNum <= 0 or row.limit <= 0:
                continue
            share = self.settings.for_cancels if row.rateLimitType == "REQUEST_WEIGHT" else 0.0
            pools.append(Pool(pool_name(row), row.limit, row.intervalNum * unit_ns, share))
        if any(pool.name == ask.WEIGHT for pool in pools):
            self.budget.set_pools(pools)
            orders = tuple((pool.name, 1) for pool in pools if pool.name.startswith("ORDERS/"))
            self._place_costs = ((ask.WEIGHT, 1), *orders)

    # ------------------------------------------------------------------ reads

    def fetch_balances(self) -> tuple[Balance, ...]:
        account = self._signed("/v3/account", {"omitZeroBalances": "true"}, 20, say.decode_account)
        balances = say.balances_of(account)
        with self._lock:
            self._balances = {balance.asset: balance for balance in balances}
        return balances

    def fetch_commission(self, instrument: InstrumentId) -> Commission:
        """Fee rates of one market (weight 20)."""
        symbol = self.market(instrument).instrument.venue_symbol
        row = self._signed("/v3/account/commission", {"symbol": symbol}, 20, say.decode_commission)
        maker, taker = say.commission_fees(row)
        discount = row.discount
        is_on = discount.enabledForAccount and discount.enabledForSymbol
        return Commission(
            maker, taker, say.plain(discount.discount) if is_on else None, discount.discountAsset
        )

    def fetch_open(self, instrument: InstrumentId | None) -> tuple[OrderReport, ...]:
        """Weight 6 for one market, 80 for all."""
        self.need_markets()
        params = {} if instrument is None else {"symbol": self.market(instrument).instrument.venue_symbol}
        rows = self._signed("/v3/openOrders", params, 6 if params else 80, say.decode_orders)
        reports = []
        for row in rows:
            market = self.market_called(row.symbol)
            if market is None:
                self.foreign_markets += 1  # not ours: we trade only what is listed
                log.warning("an order rests in %s, which Binance does not list", row.symbol[:40])
                continue
            report = self._report(row, market.instrument)
            self.note_id(str(row.orderId), report.client_id)
            self.note_rest(report.client_id, report.ticks, report.lots)
            reports.append(report)
        return tuple(reports)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        """Raises UnknownOrder."""
        market = self.market(instrument)
        if ask.CLIENT_ID.fullmatch(client_id) is None:
            raise UnknownOrder("Binance spot has no order with such a client id")
        params = {"symbol": market.instrument.venue_symbol, "origClientOrderId": client_id}
        row = self._signed("/v3/order", params, 4, say.decode_order)
        self.note_id(str(row.orderId), row.own_id)
        return self._report(row, market.instrument)

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        """The first fill is looked for in windows of 24 hours; from it on, pages follow its id, with no
        window to miss one in.
        """
        market = self.market(instrument)
        symbol = market.instrument.venue_symbol
        rows: list[say.TradeRow] = []
        start_ms = max(0, since_ns // say.MS)
        now_ms = self.stamp_ms()
        if now_ms - start_ms > MOST_WINDOWS * WINDOW_MS:
            rows = self._trades(symbol, {"fromId": 0, "limit": PAGE})
            is_last = len(rows) < PAGE
        else:
            is_last = False
            while not rows and start_ms <= now_ms:
                times = {"startTime": start_ms, "endTime": start_ms + WINDOW_MS - 1, "limit": PAGE}
                rows = self._trades(symbol, times)
                start_ms += WINDOW_MS
        while rows and not is_last:
            page = self._trades(symbol, {"fromId": rows[-1].id + 1, "limit": PAGE})
            is_last = len(page) < PAGE
            rows.extend(page)
        unique = {row.id: row for row in rows if row.time * say.MS >= since_ns - since_ns % say.MS}
        ordered = sorted(unique.values(), key=lambda row: (row.time, row.id))
        ids = self._client_ids(symbol, {str(row.orderId) for row in ordered})
        fills = (say.fill_of(row, market.instrument, self.name, ids[str(row.orderId)]) for row in ordered)
        return tuple(fill for fill in fills if fill.venue_ns >= since_ns)

    def _trades(self, symbol: str, params: Mapping[str, str | int]) -> list[say.TradeRow]:
        rows = self._signed("/v3/myTrades", {"symbol": symbol, **params}, 20, say.decode_trades)
        return sorted(rows, key=lambda row: row.id)

    def _client_ids(self, symbol: str, venue_ids: set[str]) -> dict[str, str]:
        """Which client id each order number carries: `myTrades` does not say. Empty: an order too old to be
        asked for.
        """
        with self._lock:
            found = {number: self._ids[number] for number in venue_ids if number in self._ids}
        missing = sorted(venue_ids - found.keys(), key=int)
        while len(missing) > LOOK_UP_ONE_BY_ONE:
            since: ask.Params = {"symbol": symbol, "orderId": missing[0], "limit": PAGE}
            rows = self._signed("/v3/allOrders", since, 20, say.decode_orders)
            for row in rows:
                self.note_id(str(row.orderId), row.own_id)
                found[str(row.orderId)] = row.own_id
            is_last = len(rows) < PAGE
            last = max((row.orderId for row in rows), default=0)
            missing = [number for number in missing if number not in found and int(number) > last]
            if is_last:
                break
        for number in sorted(venue_ids - found.keys(), key=int):
            try:
                row = self._signed("/v3/order", {"symbol": symbol, "orderId": number}, 4, say.decode_order)
            except UnknownOrder:
                found[number] = ""
                continue
            found[number] = row.own_id
            self.note_id(number, row.own_id)
        return found

    def _report(self, row: say.OrderRow, instrument: Instrument) -> OrderReport:
        try:
            return say.report_of(row, instrument, self.clock.now_ns())
        except KeyError as error:
            raise Unavailable(f"Binance shows an order in a state we do not know: {error}") from None

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
        windowed = {**params, "recvWindow": self.recv_window_ms}
        for is_retry in (False, True):
            self._take(costs)
            query = ask.over_http(windowed, self.stamp_ms(), self.key)
            try:
                return self._read(self._asked("GET", f"{path}?{query}", costs), costs, decode)
            except Unavailable as error:
                if is_retry or error.code != str(INVALID_TIMESTAMP):
                    raise
            self.sync_clock()
        raise AssertionError("unreachable")

    def _asked(self, method: str, target: str, costs: tuple[Cost, ...]) -> Answer:
        try:
            return self.lines.ask(method, target, is_write=False)
        except ExchangeError:
            self.budget.settle(costs, (), self.venue_ns())
            raise

    def _read(self, answer: Answer, costs: tuple[Cost, ...], decode: Callable[[bytes], T]) -> T:
        self.budget.settle(costs, counted(answer), self.venue_ns())
        body = self.checked(answer, is_write=False)
        try:
            return decode(body)
        except say.UNREADABLE:
            self.unread += 1
            raise Unavailable("Binance answered with something that is not what its API says") from None

    def checked(self, answer: Answer, *, is_write: bool) -> bytes:
        """The body of a success; else the error is raised that the venue means by it, and its limits are
        kept.
        """
        if 200 <= answer.status < 300:
            return answer.body
        code, text = None, ""
        try:
            refusal = say.decode_refusal(answer.body)
            code, text = refusal.code, refusal.msg
        except say.UNREADABLE:
            pass  # a page of HTML from something in between: the status alone decides
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
            wait_s = max(0.0, (int(named.group(1)) - self.stamp_ms()) / 1000)
        error = error_of(status, code, text, is_write=is_write, retry_after_s=wait_s)
        if isinstance(error, RateLimited):
            now_ns = self.venue_ns()
            if code == TOO_MANY_ORDERS:
                error.retry_after_s = self.budget.exhaust("ORDERS/10S", now_ns) or error.retry_after_s
            else:
                self.budget.block(error.retry_after_s, error.message, now_ns)
        return error

    def _take(self, costs: tuple[Cost, ...], *, is_cancel: bool = False) -> None:
        now_ns = self.venue_ns()
        wait_s = self.budget.take(costs, now_ns, is_cancel=is_cancel)
        if wait_s:
            if self.budget.blocked_s(now_ns):
                raise RateLimited("Binance asked us to wait", retry_after_s=wait_s)
            raise RateLimited("our budget of Binance's rate limit is used up", retry_after_s=wait_s)

    def close(self) -> None:
        self.lines.close()


def request_of(command: Command) -> Request:
    if isinstance(command, Place):
        return Request.PLACE
    return Request.CANCEL if isinstance(command, Cancel) else Request.AMEND


def pool_name(row: say.Used) -> str:
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
