"""One account at Paradex: what its order path and its reads share, and the reads themselves.

Hides: the clock offset, the budget of the rate limits, client ids in the venue's form, which order a row is
about, whose side a fill has, paging. Must not know: threads (it is safe from any), the WebSocket, engines.
Called by `venue`, `session` and `http_orders`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import orjson

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
)
from api.exchange import AccountMode, FeeRates, FundingPayment, KeyRights, Listener
from api.runtime import ClockLike
from api.types import (
    Amend,
    Answered,
    Balance,
    BalancesHeard,
    Cancel,
    Command,
    Event,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Position,
    Request,
    Side,
    Status,
)
from api.venues.okx.signed_http import SignedLine, SignedLines
from api.venues.paradex import messages as say
from api.venues.paradex import public
from api.venues.paradex import requests as ask
from api.venues.paradex.endpoints import Endpoints
from api.venues.paradex.errors import BAD_MARKETS, BAD_TIME, BAD_TOKEN, OUTCOMES, error_of
from api.venues.paradex.keys import ParadexKey
from api.venues.paradex.public import MS, VENUE, Market, Symbols
from api.venues.paradex.tokens import Tokens
from api.wire import Answer
from api.wire_http import Proxy

log = logging.getLogger("makerdeck.paradex")

T = TypeVar("T")
R = TypeVar("R")
Told: TypeAlias = bytes | ExchangeError
"""The result of a write as the venue wrote it, or the error that it means."""

S_NS = 1_000_000_000
PAGE = 500
MOST_PAGES = 500  # of one history; a longer one is refused rather than cut
HISTORY_PAGES = 5  # of ended orders, to tell the sides of fills
KEPT = 50_000  # orders and client ids that are remembered
RELOAD_S = 60.0  # an unknown market makes the list be read again at most this often
CLOCK_OLD_S = 300.0  # an offset older than this is replaced by any new one
CLOCK_RTT_S = 1.0  # a measurement that took longer is not better than an older one
FOREIGN = "#"  # begins the client id that we give to an order which carries none
HELD_S = 2.0  # a fill whose side is not told yet waits this long for its order
PUBLIC: tuple[Cost, ...] = (("public/min", 1),)
PRIVATE: tuple[Cost, ...] = (("reads/s", 1), ("reads/min", 1))
LOGIN: tuple[Cost, ...] = (("auth/min", 1),)
LIMITS: Mapping[str, tuple[int, int]] = {
    "orders/s": (800, S_NS),
    "orders/min": (17_250, 60 * S_NS),
    "reads/s": (120, S_NS),
    "reads/min": (600, 60 * S_NS),
    "public/min": (1_500, 60 * S_NS),
    "auth/min": (600, 60 * S_NS),
}
"""(requests, window). Orders and private reads count per account, the others per address."""
FOR_CANCELS = 0.2  # of the orders' limits


@dataclass(frozen=True, slots=True)
class Settings:
    """How an account behaves; the defaults suit a market maker.

    `answer_s` is how long an answer is waited for; new orders carry the same time as their `recv_window`, so
    when we give up the venue gives up too. `limit_share`: of each limit, what we use. `silence_s`: without a
    frame for so long a connection counts as lost (the server pings every 55 s; we ping after half of it).
    `funding_paid_sign`: the sign that a payment of ours has in the venue's `payment` (not verified). `stp`
    is asked for with each order and compared with what comes back.
    """

    order_path: str = "socket"
    http_lines: int = 2
    stp: str = "EXPIRE_TAKER"
    limit_share: float = 0.9
    funding_paid_sign: int = -1
    answer_s: float = 3.0
    read_s: float = 10.0
    connect_s: float = 5.0
    clock_every_s: float = 60.0
    silence_s: float = 30.0
    pauses_s: tuple[float, ...] = (0.35, 1.0, 2.0, 5.0, 10.0, 20.0)
    late_s: float = 60.0

    def __post_init__(self) -> None:
        if self.order_path not in ("socket", "http"):
            raise BadInput("order_path", "must be socket or http")
        if self.stp not in ask.STP_MODES:
            raise BadInput("stp", f"must be one of {', '.join(ask.STP_MODES)}")
        if self.funding_paid_sign not in (1, -1):
            raise BadInput("funding_paid_sign", "must be 1 or -1")
        if self.http_lines < 1:
            raise BadInput("http_lines", "must be at least 1")
        if not 0.05 <= self.answer_s <= 30:
            raise BadInput("answer_s", "must be 0.05 to 30 seconds")


@dataclass(slots=True, eq=False)
class Job:
    """One write on its way: a command (one `Answered` follows), or a call (`done` is told its result)."""

    request: ask.Request
    command: Command | None = None
    done: Callable[[Told], None] | None = None
    deadline: float = 0.0
    is_taken: bool = False


@dataclass(slots=True)
class _Known:
    """What we know of an order. `rested`: it was told as open, so it cannot have been refused."""

    client_id: str
    side: Side
    venue_id: str = ""
    rested: bool = False
    is_ours: bool = False
    seq: int = 0


class Account:
    """See the module docstring. `name`: our name of the account."""

    def __init__(
        self,
        key: ParadexKey,
        where: Endpoints,
        clock: ClockLike,
        name: str,
        settings: Settings,
        ids: ask.ClientIds,
        proxy: Proxy | None = None,
    ) -> None:
        if key.chain != where.chain:
            raise BadInput("key", f"was made for the chain {key.chain}; this environment is {where.chain}")
        self.venue = VENUE
        self.key = key
        self.where = where
        self.clock = clock
        self.name = name
        self.settings = settings
        self.proxy = proxy
        self.offset_ns: int | None = None
        self.trouble = ""
        self.unread = 0
        self.foreign_markets = 0
        self.stp_mismatches = 0
        self.busted = 0
        self.duplicates = 0
        self.is_stale = False
        self.listener: Listener | None = None
        self.symbols = Symbols()
        share = settings.limit_share
        self.budget = Budget(
            [
                Pool(label, max(1, int(limit * share)), window, FOR_CANCELS if "orders" in label else 0.0)
                for label, (limit, window) in LIMITS.items()
            ]
        )
        self._map = ids
        self._offset_at = 0.0
        self._used: OrderedDict[str, Side] = OrderedDict()
        self._orders: OrderedDict[str, _Known] = OrderedDict()
        self._held: OrderedDict[str, list[tuple[float, say.FillRow]]] = OrderedDict()
        self._venue_ids: OrderedDict[str, str] = OrderedDict()
        self._money = say.Money({}, "USDC", None)
        self._is_money_known = False
        self._loaded_at: float | None = None
        self._load = threading.Lock()
        self._lock = threading.Lock()
        self.lines = SignedLines(
            where.rest,
            where.hosts,
            headers={},
            connect_s=settings.connect_s,
            answer_s=settings.read_s,
            proxy=proxy,
        )
        self.tokens = Tokens(key, self._log_in, self._login_error, lambda: self.venue_ns() // S_NS)

    # ------------------------------------------------------------------ time

    def venue_ns(self) -> int:
        """The venue's clock as we know it: ours until it was measured."""
        return self.clock.now_ns() + (self.offset_ns or 0)

    def stamp_ms(self) -> int:
        return self.venue_ns() // MS

    @property
    def window_ms(self) -> int:
        return round(self.settings.answer_s * 1000)

    def sync_clock(self, line: SignedLine | SignedLines | None = None) -> int:
        """Measure the offset; the venue's time in UTC nanoseconds. Raises ExchangeError."""
        self._take_for_read(PUBLIC)
        sent_ns = self.clock.now_ns()
        answer = self._asked(line or self.lines, {}, "/system/time", PUBLIC)
        heard_ns = self.clock.now_ns()
        server_ms, now = self._read(answer, PUBLIC, say.decode_time).server_time, time.monotonic()
        is_slow = heard_ns - sent_ns > CLOCK_RTT_S * 1e9
        if self.offset_ns is None or not is_slow or now - self._offset_at >= CLOCK_OLD_S:
            self.offset_ns = server_ms * MS + MS // 2 - (sent_ns + heard_ns) // 2
            self._offset_at = now
        return server_ms * MS

    def need_clock(self) -> None:
        if self.offset_ns is None:
            self.sync_clock()

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

    # ------------------------------------------------------------------ client ids

    def ours(self, theirs: str, venue_id: str) -> str:
        """Our id for the venue's; one that was never translated is itself."""
        if not theirs:
            return FOREIGN + venue_id
        if not theirs.startswith(ask.MAPPED):
            return theirs
        return self._map.get(theirs) or theirs

    def _claim(self, command: Place) -> str:
        """The venue's form of an id that is about to be used for the first time. Paradex would take it again
        after its order ended; the contract of `api.exchange` says that nobody may. Raises Rejected.
        """
        with self._lock:
            if command.client_id in self._used:
                self.duplicates += 1
                raise Rejected("duplicate client id: it was used for another order")
            self._used[command.client_id] = command.side
            if len(self._used) > KEPT:
                self._used.popitem(last=False)
        theirs = ask.theirs_of(command.client_id)
        if theirs != command.client_id:
            try:
                self._map.put(command.client_id, theirs)
            except OSError as error:
                self._release(command.client_id)
                raise Rejected(f"the client id could not be kept ({type(error).__name__})") from None
        return theirs

    def _release(self, client_id: str) -> None:
        with self._lock:
            self._used.pop(client_id, None)

    # ------------------------------------------------------------------ writes

    def request_for(self, command: Command) -> ask.Request:
        """Raises Rejected for what cannot be asked here."""
        market = self.symbols.of(command.instrument)
        if market is None:
            raise Rejected(f"{command.instrument} is not a market of Paradex that was loaded")
        if isinstance(command, Place):
            theirs = self._claim(command)
            try:
                return ask.place(command, market, theirs, self.settings.stp, self.window_ms)
            except Rejected:
                self._release(command.client_id)
                raise
        if isinstance(command, Cancel):
            foreign = foreign_id(command.client_id)
            return ask.cancel(command, market, ask.theirs_of(command.client_id), foreign)
        with self._lock:
            venue_id = self._venue_ids.get(command.client_id, "")
            known = self._orders.get(venue_id)
        if known is None:
            raise UnknownOrder("the order to amend is not known here")
        return ask.amend(command, market, known.side, venue_id)

    def take(self, job: Job) -> None:
        """Take what the job costs from the budget. Raises RateLimited: nothing may be sent now."""
        self._take(job.request.costs, is_cancel=job.request.is_cancel)
        job.is_taken = True

    def settle(self, job: Job, counted: tuple[Cost, ...] = ()) -> None:
        if job.is_taken:
            job.is_taken = False
            self.budget.settle(job.request.costs, counted, self.venue_ns())

    def finish(self, job: Job, result: Told) -> None:
        """End a job with the venue's answer, or with why there is none. May be called again with a late
        answer.
        """
        self.settle(job)
        if job.done is not None:
            job.done(result)
        command = job.command
        if command is None:
            return
        error = result if isinstance(result, ExchangeError) else None
        venue_id: str | None = None
        if not isinstance(result, ExchangeError):
            try:
                venue_id = self._taken(command, result)
            except say.UNREADABLE:
                self.unread += 1
                error = OutcomeUnknown("Paradex answered without saying what became of the order")
        if error is not None:
            if isinstance(command, Place) and not isinstance(error, OutcomeUnknown):
                self._release(command.client_id)
            self.refuse(command, error)
            return
        self.answer(command, Outcome.ACCEPTED, venue_id=venue_id)

    def _taken(self, command: Command, result: bytes) -> str | None:
        """The order's id out of the answer to a write: `{"order": {...}}` over the WebSocket, the order
        itself over HTTP. Raises UNREADABLE.
        """
        if isinstance(command, Cancel):
            return None  # queued: the order's own end follows
        try:
            row = say.decode_taken(result).order
        except msgspec.ValidationError:
            row = say.decode_order(result)
        self._note(row)
        return row.id

    # ------------------------------------------------------------------ what was heard

    def heard_order(self, data: bytes, at_ns: int) -> list[Event]:
        """The events of one push of `orders.*`. Raises UNREADABLE."""
        row = say.decode_order(data)
        market = self.symbols.called(row.market)
        if market is None:
            self.foreign_markets += 1
            self.is_stale = True
            return []
        with self._lock:
            before = self._orders.get(row.id)
            if before is not None and row.seq_no and before.seq == row.seq_no:
                return []  # told already
            rested = before is not None and before.rested
        report = say.report_of(row, market.instrument, self.ours(row.client_id, row.id), rested=rested)
        known = self._note(row)
        known.seq = row.seq_no  # of this feed alone: answers and reads count otherwise
        events: list[Event] = []
        for _, fill in self._released(row.id):
            events.append(FillHeard(at_ns, self._fill(fill, market.instrument, known.side)))
        if row.status != "NEW":  # queued only: nothing is known beyond the answer
            events.append(OrderHeard(at_ns, report))
        return events

    def heard_fill(self, data: bytes, at_ns: int) -> list[Event]:
        """Raises UNREADABLE."""
        row = say.decode_fill(data)
        market = self.symbols.called(row.market)
        if market is None:
            self.foreign_markets += 1
            self.is_stale = True
            return []
        side = self._side_of(row)
        if side is None:
            with self._lock:
                self._held.setdefault(row.order_id, []).append((time.monotonic() + HELD_S, row))
            return []
        return [FillHeard(at_ns, self._fill(row, market.instrument, side))]

    def overdue_fills(self, now: float) -> bool:
        """A fill was held for longer than its order should need to be told."""
        with self._lock:
            return any(rows[0][0] < now for rows in self._held.values())

    def drop_held(self) -> None:
        with self._lock:
            self._held.clear()  # the stream is lost: the histories are read

    def _released(self, order_id: str) -> list[tuple[float, say.FillRow]]:
        with self._lock:
            return self._held.pop(order_id, [])

    def _side_of(self, row: say.FillRow) -> Side | None:
        """Whose side a fill has. `side` is the taker's: ours when we took, the other one's when we made; so a
        maker's side comes from its order alone. None: the order is not known (yet).
        """
        with self._lock:
            side = self._used.get(self.ours(row.client_id, row.order_id)) if row.client_id else None
            if side is None:
                known = self._orders.get(row.order_id)
                side = None if known is None else known.side
        if side is not None:
            return side
        return None if row.liquidity == "MAKER" else say.SIDES[row.side]

    def _fill(self, row: say.FillRow, instrument: Instrument, side: Side) -> Fill:
        if row.fill_type not in say.BOOKED:
            self.trouble = f"the venue made a {row.fill_type[:30]} fill on this account"
            log.error("account=%s market=%s %s", self.name, row.market, self.trouble)
        try:
            return say.fill_of(row, instrument, self.name, self.ours(row.client_id, row.order_id), side)
        except say.UNREADABLE:
            self.is_stale = True  # the market's terms may have changed
            raise

    def heard_bust(self, data: bytes) -> None:
        """A fill was undone by the chain: no event can say so, a person must. Raises UNREADABLE."""
        self.busted += 1
        self.trouble = f"the chain undid fill {say.decode_bust(data).busted_fill_id[:40]}: check the position"
        log.error("account=%s %s", self.name, self.trouble)

    def heard_account(self, data: bytes, at_ns: int) -> BalancesHeard | None:
        """Raises UNREADABLE."""
        row = say.decode_account(data)
        if row.free_collateral:
            with self._lock:
                self._money = say.Money(
                    self._money.held, row.settlement_asset, public.number(row.free_collateral)
                )
        return self._balances_heard(at_ns)

    def heard_balance(self, data: bytes, at_ns: int) -> BalancesHeard | None:
        """Raises UNREADABLE."""
        row = say.decode_balance_event(data)
        if row.settlement_asset_name and row.settlement_asset_balance_after:
            after = public.number(row.settlement_asset_balance_after)
            with self._lock:
                held = {**self._money.held, row.settlement_asset_name: after}
                self._money = say.Money(held, self._money.asset, self._money.free)
        return self._balances_heard(at_ns)

    def _balances_heard(self, at_ns: int) -> BalancesHeard | None:
        """None until both halves were read once: a part of an account is not the account."""
        with self._lock:
            if not self._is_money_known:
                return None
            return BalancesHeard(at_ns, self.venue, self.name, self._money.balances())

    def _note(self, row: say.OrderRow) -> _Known:
        """Remember an order that the venue told of."""
        client_id = self.ours(row.client_id, row.id)
        with self._lock:
            known = self._orders.get(row.id)
            if known is None:
                known = self._orders[row.id] = _Known(client_id, say.SIDES[row.side], row.id)
                self._venue_ids[client_id] = row.id
                for kept in (self._orders, self._venue_ids):
                    if len(kept) > KEPT:
                        kept.popitem(last=False)
            known.rested |= row.status == "OPEN"
            known.is_ours |= client_id in self._used
        if known.is_ours and row.stp and row.stp != self.settings.stp:
            self.stp_mismatches += 1
            self.trouble = f"self-trade prevention is {row.stp[:20]}, asked for {self.settings.stp}"
            log.error("order=%s %s", client_id, self.trouble)
        return known

    # ------------------------------------------------------------------ markets

    def fetch_markets(self) -> tuple[Instrument, ...]:
        """Read the chain's name, all markets and the account's fees; by name."""
        with self._load:
            self._load_markets()
        found = (market.instrument for market in self.symbols.all())
        return tuple(sorted(found, key=lambda instrument: instrument.symbol))

    def need_markets(self) -> None:
        if self._loaded_at is None:
            with self._load:
                if self._loaded_at is None:
                    self._load_markets()

    def reload_if_stale(self) -> None:
        """Read the markets anew when an answer or a push made them doubtful. Raises ExchangeError."""
        if self.is_stale and self._loaded_at is not None and time.monotonic() - self._loaded_at > RELOAD_S:
            with self._load:
                self._load_markets()

    def market(self, instrument: InstrumentId) -> Market:
        """Raises Rejected for a market that the venue does not list."""
        self.need_markets()
        found = self.symbols.of(instrument)
        if found is None:
            raise Rejected(f"{self.venue} lists no {instrument.symbol or instrument}")
        return found

    def _load_markets(self) -> None:
        config = self._public("/system/config", say.decode_config)
        if config.starknet_chain_id != self.where.chain:
            raise Unauthorized(
                f"this Paradex is the chain {config.starknet_chain_id[:60]!r}, not {self.where.chain}"
            )
        rates = self._rates()
        listed: list[Market] = []
        for row in self._public("/markets", public.decode_listings).results:
            try:
                listed.append(public.market_of(row, rates.maker, rates.taker))
            except (ValueError, ArithmeticError) as error:
                log.debug("market=%s left out: %s", row.symbol[:40], error)
        symbols = Symbols(listed)
        for name in symbols.left_out:
            log.warning("market=%s left out: another one has its symbol", name)
        self.symbols = symbols
        self.is_stale = False
        self._loaded_at = time.monotonic()

    def _rates(self) -> FeeRates:
        infos = self._private("/account/info", {}, say.decode_infos).results
        own = [info for info in infos if _same(info.account, self.key.account)] or infos[:1]
        try:
            fees = own[0].fees
            if fees is None:
                raise ValueError("no fees")
            return FeeRates(public.number(fees.maker_rate), public.number(fees.taker_rate))
        except (IndexError, *say.UNREADABLE):
            raise Unavailable("Paradex does not name the account's fee rates") from None

    # ------------------------------------------------------------------ reads

    def fetch_balances(self) -> tuple[Balance, ...]:
        account = self._private("/account", {}, say.decode_account)
        rows = self._private("/balance", {}, say.decode_balances).results
        try:
            held: dict[str, Decimal] = {row.token: public.number(row.size) for row in rows}
            money = say.Money(held, account.settlement_asset, public.number(account.free_collateral))
        except say.UNREADABLE:
            raise Unavailable("Paradex tells a balance that is no number") from None
        with self._lock:
            self._money, self._is_money_known = money, True
        return money.balances()

    def fetch_open(self, instrument: InstrumentId | None) -> tuple[OrderReport, ...]:
        self.need_markets()
        params = {"market": self.market(instrument).instrument.venue_symbol} if instrument else {}
        reports = []
        for row in self._private("/orders", params, say.decode_orders).results:
            market = self.symbols.called(row.market)
            if market is not None:
                reports.append(self._report(row, market))
            else:
                self.foreign_markets += 1
        return tuple(reports)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        """By client id among the open orders, then in the history. Raises UnknownOrder: neither has it."""
        market, theirs = self.market(instrument), ask.theirs_of(client_id)
        foreign = foreign_id(client_id)
        if foreign:
            target = f"/orders/{quote(foreign, safe='')}"
            return self._report(self._private(target, {}, say.decode_order), market)
        try:
            target = f"/orders/by_client_id/{quote(theirs, safe='')}"
            row = self._private(target, {}, say.decode_order)
        except UnknownOrder:
            found = self._history(market, {"client_id": theirs, "page_size": 10})
            if not found:
                raise UnknownOrder("Paradex shows no order of this client id") from None
            row = max(found, key=lambda one: one.last_updated_at)
        return self._report(row, market)

    def _history(self, market: Market, params: Mapping[str, str | int]) -> list[say.OrderRow]:
        query = {"market": market.instrument.venue_symbol, **params}
        return self._private("/orders-history", query, say.decode_orders).results

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        market = self.market(instrument)
        since_ms = max(0, since_ns // MS)
        rows = self._pages("/fills", market, since_ms, say.decode_fills, lambda page: page.results)
        unique = {say.trade_id_of(row): row for row in rows}
        self._learn_sides(market, list(unique.values()), since_ms)
        fills = []
        for row in unique.values():
            try:
                side = self._side_of(row)
                if side is None:
                    raise Unavailable(f"Paradex lists fill {row.id[:40]} of an order it does not show")
                fills.append(self._fill(row, market.instrument, side))
            except say.UNREADABLE:
                raise Unavailable("Paradex lists a fill that cannot be read") from None
        found = (fill for fill in fills if fill.venue_ns >= since_ns)
        return tuple(sorted(found, key=lambda fill: (fill.venue_ns, _rank(fill.trade_id))))

    def _learn_sides(self, market: Market, rows: list[say.FillRow], since_ms: int) -> None:
        """Look the orders up that fills of ours rested as: among the open ones, in the history of the time,
        one by one.
        """

        def unknown() -> list[say.FillRow]:
            return [row for row in rows if self._side_of(row) is None]

        if not unknown():
            return
        symbol = market.instrument.venue_symbol
        for row in self._private("/orders", {"market": symbol}, say.decode_orders).results:
            self._note(row)
        params: dict[str, str | int] = {"market": symbol, "page_size": PAGE}
        for _ in range(HISTORY_PAGES):
            if not unknown():
                return
            page = self._private("/orders-history", params, say.decode_orders)
            for row in page.results:
                self._note(row)
            if not page.next or not page.results:
                break
            params["cursor"] = page.next
        for client_id in {row.client_id for row in unknown() if row.client_id}:
            for row in self._history(market, {"client_id": client_id, "page_size": 10}):
                self._note(row)

    def fetch_positions(self) -> tuple[Position, ...]:
        self.need_markets()
        positions = []
        for row in self._private("/positions", {}, say.decode_positions).results:
            market = self.symbols.called(row.market)
            if market is None:
                self.foreign_markets += 1
                continue
            try:
                position = say.position_of(row, market.instrument.id)
            except say.UNREADABLE:
                raise Unavailable("Paradex tells a position that cannot be read") from None
            if position is not None:
                positions.append(position)
        return tuple(positions)

    def fetch_fee_rates(self, instrument: InstrumentId) -> FeeRates:
        """The market's own rates where it sets some for the API, else the account's of now."""
        symbol = self.market(instrument).instrument.venue_symbol
        rates = self._rates()
        listed = self._public(f"/markets?{urlencode({'market': symbol})}", public.decode_listings).results
        for row in listed:
            if row.symbol == symbol:
                try:
                    maker, taker = public.own_fees(row)
                except say.UNREADABLE:
                    raise Unavailable("Paradex tells fee rates that are no numbers") from None
                return FeeRates(
                    rates.maker if maker is None else maker, rates.taker if taker is None else taker
                )
        raise Unavailable(f"Paradex lists {symbol} no more")

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        """Payments as they were settled (funding accrues all the time and is paid with fills)."""
        market = self.market(instrument)
        since_ms = max(0, since_ns // MS)
        rows = self._pages(
            "/funding/payments", market, since_ms, say.decode_fundings, lambda page: page.results
        )
        sign, asset = self.settings.funding_paid_sign, market.instrument.quote
        try:
            found = {row.id: say.funding_of(row, instrument, asset, sign) for row in rows}
        except say.UNREADABLE:
            raise Unavailable("Paradex lists a funding payment that cannot be read") from None
        kept = (payment for payment in found.values() if payment.venue_ns >= since_ns)
        return tuple(sorted(kept, key=lambda payment: (payment.venue_ns, _rank(payment.payment_id))))

    def fetch_key_rights(self) -> KeyRights:
        """A subkey trades and cannot withdraw. The account's own key can do everything; that ours is one is
        told by the list of subkeys not naming it. A list we may not read tells nothing.
        """
        try:
            rows = self._private("/account/keys/subkeys", {}, say.decode_subkeys).results
        except (Rejected, Unauthorized):
            self._private("/account", {}, say.decode_account)  # so that a wrong key shows
            return KeyRights(can_trade=None, can_withdraw=None, is_ip_bound=None)
        for row in rows:
            if _same(row.public_key, self.key.public_key):
                is_alive = not row.revoked_at
                return KeyRights(is_alive, False, bool(row.allowed_cidrs))
        return KeyRights(can_trade=True, can_withdraw=True, is_ip_bound=None)

    def fetch_account_mode(self) -> AccountMode:
        margin = self._private("/account/margin", {}, say.decode_margin).margin_methodology
        return AccountMode("one-way", margin or None, self.settings.stp)

    def fetch_status(self) -> str:
        """ok, maintenance, cancel_only or post_only. Raises ExchangeError."""
        return self._public("/system/state", say.decode_state).status

    def _report(self, row: say.OrderRow, market: Market) -> OrderReport:
        try:
            known = self._note(row)
            client_id = self.ours(row.client_id, row.id)
            report = say.report_of(row, market.instrument, client_id, rested=known.rested)
            known.rested |= report.status is Status.OPEN  # told as open now, queued or not
            return report
        except say.UNREADABLE as error:
            raise Unavailable(f"Paradex shows an order that we cannot read: {error}") from None

    def _pages(
        self,
        path: str,
        market: Market,
        since_ms: int,
        decode: Callable[[bytes], T],
        rows_of: Callable[[T], list[R]],
    ) -> list[R]:
        """All pages of a history since a time. Raises Unavailable for one that does not end."""
        params: dict[str, str | int] = {
            "market": market.instrument.venue_symbol,
            "page_size": PAGE,
            "start_at": since_ms,
        }
        found: list[R] = []
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            page = self._private(path, params, decode)
            rows = rows_of(page)
            found += rows
            cursor: str | None = getattr(page, "next", None)
            if not cursor or not rows:
                return found
            if cursor in seen:
                raise Unavailable("Paradex pages a history in a circle")
            seen.add(cursor)
            params["cursor"] = cursor
        raise Unavailable("Paradex lists a history that does not end")

    # ------------------------------------------------------------------ asking over HTTP

    def _log_in(self, headers: dict[str, str], path: str) -> Answer:
        self._take_for_read(LOGIN)
        try:
            return self.lines.ask_with(headers, "POST", path, is_write=False)
        finally:
            self.budget.settle(LOGIN, (), self.venue_ns())

    def _login_error(self, answer: Answer) -> ExchangeError:
        return self.error_from(answer, is_write=False, costs=LOGIN)

    def onboard(self, ethereum_account: str) -> None:
        """Register the account once (it may be done again). Raises ExchangeError."""
        headers = {
            "PARADEX-ETHEREUM-ACCOUNT": ethereum_account,
            "PARADEX-STARKNET-ACCOUNT": self.key.account,
            "PARADEX-STARKNET-SIGNATURE": self.key.onboarding(),
        }
        if not ethereum_account.startswith("0x") or not ethereum_account.isalnum():
            raise BadInput("ethereum account", "must be an address, 0x and 40 hexadecimal digits")
        self._take_for_read(LOGIN)
        body = orjson.dumps({"public_key": self.key.public_key})
        try:
            answer = self.lines.ask_with(headers, "POST", "/onboarding", body, is_write=True)
        finally:
            self.budget.settle(LOGIN, (), self.venue_ns())
        if answer.status not in (200, 201):
            raise self.error_from(answer, is_write=True, costs=LOGIN)

    def _public(self, target: str, decode: Callable[[bytes], T]) -> T:
        self._take_for_read(PUBLIC)
        return self._read(self._asked(self.lines, {}, target, PUBLIC), PUBLIC, decode)

    def _private(self, path: str, params: Mapping[str, str | int], decode: Callable[[bytes], T]) -> T:
        """A read with the token; when the venue does not know it any more, once more with a fresh one."""
        self.need_clock()
        target = f"{path}?{urlencode(params)}" if params else path
        for is_retry in (False, True):
            token = self.tokens.get()
            self._take_for_read(PRIVATE)
            try:
                return self._read(self._asked(self.lines, _bearer(token), target, PRIVATE), PRIVATE, decode)
            except Unavailable as error:
                if is_retry or error.code != BAD_TOKEN:
                    raise
            self.tokens.renew(token)
        raise AssertionError("unreachable")

    def write(self, request: ask.Request, lines: SignedLine | SignedLines | None = None) -> bytes:
        """Send one write over HTTP and wait for the venue's result, or the error is raised that it means.
        Sent once; once more only when the token or our clock was refused, with which nothing happened. The
        budget is the caller's.
        """
        if not request.verb:
            raise Unavailable("this needs the WebSocket, which is not connected")
        self._ready_for_write()
        for is_retry in (False, True):
            token = self.tokens.get()
            params = ask.signed(request, self.key, self.stamp_ms())
            body = orjson.dumps(params) if request.has_body else b""
            line = lines or self.lines
            answer = line.ask_with(_bearer(token), request.verb, request.path, body, is_write=True)
            if answer.status in (200, 201, 204):
                self._count(answer, request.costs)
                return answer.body
            error = self.error_from(answer, is_write=True, costs=request.costs)
            if is_retry or error.code not in (BAD_TOKEN, BAD_TIME) or not isinstance(error, Unavailable):
                raise error
            if error.code == BAD_TOKEN:
                self.tokens.renew(token)
            self._ready_for_write()
        raise AssertionError("unreachable")

    def _ready_for_write(self) -> None:
        """Clock and token, whose own failures leave every order untouched."""
        try:
            self.need_clock()
            self.tokens.get()
        except OutcomeUnknown as error:
            raise Unavailable(error.message) from None

    def call(self, request: ask.Request) -> bytes:
        """A write whose end the caller waits for. Raises ExchangeError."""
        self._take(request.costs, is_cancel=request.is_cancel)
        try:
            return self.write(request)
        finally:
            self.budget.settle(request.costs, (), self.venue_ns())

    def _asked(
        self,
        lines: SignedLine | SignedLines,
        headers: Mapping[str, str],
        target: str,
        costs: tuple[Cost, ...],
    ) -> Answer:
        counted: tuple[Cost, ...] = ()
        try:
            answer = lines.ask_with(headers, "GET", target, is_write=False)
            counted = counted_in(answer.headers, costs)
            return answer
        finally:
            self.budget.settle(costs, counted, self.venue_ns())

    def _count(self, answer: Answer, costs: tuple[Cost, ...]) -> None:
        """What the venue counted. (What is in flight is settled by the caller; only sums are set here.)"""
        counted = counted_in(answer.headers, costs)
        if counted:
            self.budget.settle((), counted, self.venue_ns())

    def _read(self, answer: Answer, costs: tuple[Cost, ...], decode: Callable[[bytes], T]) -> T:
        if answer.status != 200:
            raise self.error_from(answer, is_write=False, costs=costs)
        try:
            return decode(answer.body)
        except say.UNREADABLE:
            self.unread += 1
            raise Unavailable("Paradex answered with something that is not what its API says") from None

    def error_from(self, answer: Answer, *, is_write: bool, costs: tuple[Cost, ...]) -> ExchangeError:
        """The error that an answer means. Its limits are kept: a `Retry-After` holds for everything, a 429
        without one for the pools that the request was counted in.
        """
        try:
            told = say.decode_error(answer.body)
        except say.UNREADABLE:  # a page of HTML from something in between: the status alone decides
            told = say.ErrorRow("")
        wait_s = answer.retry_after_s
        error = error_of(answer.status, told.error, told.message, is_write=is_write, retry_after_s=wait_s)
        self.limited(error, costs, wait_s)
        self.learned(error)
        return error

    def limited(self, error: ExchangeError, costs: tuple[Cost, ...], wait_s: float | None = None) -> None:
        """Keep a limit that the venue told of."""
        if not isinstance(error, RateLimited):
            return
        now_ns = self.venue_ns()
        if wait_s is not None:
            self.budget.block(wait_s, error.message, now_ns)
            return
        waits = [self.budget.exhaust(name, now_ns) for name, _ in costs if name.endswith("/s")]
        error.retry_after_s = max([wait for wait in waits if wait] or [error.retry_after_s])

    def learned(self, error: ExchangeError) -> None:
        """What an error says about our clock and our markets."""
        if error.code == BAD_TIME:
            self.offset_ns = None  # measured again in the background, or before the next login
        if error.code in BAD_MARKETS:
            self.is_stale = True

    # ------------------------------------------------------------------ limits

    def _take(self, costs: tuple[Cost, ...], *, is_cancel: bool = False) -> None:
        now_ns = self.venue_ns()
        wait_s = self.budget.take(costs, now_ns, is_cancel=is_cancel)
        if wait_s:
            if self.budget.blocked_s(now_ns):
                raise RateLimited("Paradex asked us to wait", retry_after_s=wait_s)
            raise RateLimited("our budget of Paradex's rate limit is used up", retry_after_s=wait_s)

    def _take_for_read(self, costs: tuple[Cost, ...]) -> None:
        """As `_take`, but waits for the next second: the caller of a read waits anyhow. Inside a time that
        the venue asked for it raises all the same.
        """
        now_ns = self.venue_ns()
        wait_s = self.budget.take(costs, now_ns)
        if wait_s:
            if not self.budget.blocked_s(now_ns) and wait_s <= 1.0:
                threading.Event().wait(wait_s + 0.001)
            self._take(costs)

    def close(self) -> None:
        self.lines.close()


def counted_in(headers: Mapping[str, str], costs: tuple[Cost, ...]) -> tuple[Cost, ...]:
    """How much of a pool the venue has counted, from `X-RateLimit-Limit` and `-Remaining`. The limit's number
    tells which pool is meant (the form of `X-Ratelimit-Window` is not documented).
    """
    limit, left = headers.get("x-ratelimit-limit", ""), headers.get("x-ratelimit-remaining", "")
    if not (limit.isascii() and limit.isdigit() and left.isascii() and left.isdigit()):
        return ()
    return tuple((name, max(0, int(limit) - int(left))) for name, _ in costs if LIMITS[name][0] == int(limit))


def foreign_id(client_id: str) -> str:
    """The venue's id in a name that we gave to an order without a client id; empty for all others."""
    return client_id[len(FOREIGN) :] if client_id.startswith(FOREIGN) else ""


def request_of(command: Command) -> Request:
    if isinstance(command, Place):
        return Request.PLACE
    return Request.AMEND if isinstance(command, Amend) else Request.CANCEL


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _same(one: str, other: str) -> bool:
    """Addresses and keys are compared as numbers: leading zeros come and go."""
    try:
        return int(one, 16) == int(other, 16)
    except ValueError:
        return False


def _rank(number: str) -> tuple[int, str]:
    """Ids rise within a millisecond; one that is no number sorts first."""
    return (int(number) if number.isascii() and number.isdigit() else 0), number
