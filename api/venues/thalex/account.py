"""One account at Thalex: what its order path and its reads share, and the reads themselves.

Hides: the clock offset, the budget of requests, which order carries which client id, paging, over which
connection a read goes. Must not know: threads (it is safe from any), the session's connection, engines.
Called by `venue` and `session`.

Whose an order is: the number it was sent with tells (`ids`, durable), else its label, which is our client id
as text, else the venue's own id, where it was heard before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec

from api.budget import Budget, Cost, Pool
from api.errors import (
    BadInput,
    ExchangeError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
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
)
from api.types import Request as Kind
from api.venues.thalex import messages as say
from api.venues.thalex import requests as ask
from api.venues.thalex.endpoints import Endpoints
from api.venues.thalex.errors import BACK_OFF_S, OUTCOMES, error_of
from api.venues.thalex.ids import ClientIds, Numbers
from api.venues.thalex.keys import ThalexKey
from api.venues.thalex.public import NAME, UNDERLYINGS, UNREADABLE, Market, Markets, decode_markets
from api.venues.thalex.side_line import SideLine
from api.wire_http import HttpLines, Proxy

log = logging.getLogger("makerdeck.thalex")

T = TypeVar("T")

REQUESTS = "requests"
MOST_PAGES = 500  # of one history; a longer one is refused rather than cut
KEPT = 50_000  # orders whose ids and ends are remembered
RELOAD_S = 60.0  # an unknown market makes the list be read again at most this often
MEASURE_AGAIN_S = 30.0  # after the clock could not be measured
DEAD_MAN_S = (1, 3600)  # whole seconds; the venue's own bounds are not documented


@dataclass(frozen=True, slots=True)
class Settings:
    """How an account behaves; the defaults suit a market maker.

    `account`: the venue's number of the account; empty: the key's default one. `fees`: the account's rates,
    which the venue tells only in trades (the default is a guess on the careful side: give your own). Not
    verified, hence settings: `requests_per_s` (the venue's limits are not published) with the share only
    cancels may use, `back_off_s` after a refusal for too many requests, and `stp_level` and `stp_action`:
    they need to be enabled for the account, so they are sent only when set; otherwise the documented
    default of the venue holds (customer, cancel the aggressor after a partial fill). `collar`: what the venue
    does with a price beyond its safety collar. `silence_s`: without a frame for so long (we ping after half
    of it) a connection counts as lost. `clock_old_s`: an older measurement is renewed before a login.
    """

    account: str = ""
    fees: FeeRates = FeeRates(Decimal("0.0005"), Decimal("0.0005"))
    collar: str = "reject"
    stp_level: str = ""
    stp_action: str = ""
    requests_per_s: int = 40
    for_cancels: float = 0.25
    back_off_s: float = BACK_OFF_S
    answer_s: float = 3.0
    read_s: float = 10.0
    connect_s: float = 5.0
    clock_old_s: float = 300.0
    silence_s: float = 20.0
    overlap_s: float = 2.0
    pauses_s: tuple[float, ...] = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0)
    late_s: float = 60.0

    def __post_init__(self) -> None:
        if self.collar not in ask.COLLARS:
            raise BadInput("collar", f"must be one of {', '.join(ask.COLLARS)}")
        if self.stp_level not in ask.STP_LEVELS:
            raise BadInput("stp_level", "must be customer, account or disabled, or empty")
        if self.stp_action not in ask.STP_ACTIONS:
            raise BadInput("stp_action", f"must be one of {', '.join(ask.STP_ACTIONS[1:])}, or empty")
        if self.requests_per_s < 1:
            raise BadInput("requests_per_s", "must be at least 1")
        if not 0 <= self.for_cancels < 1:
            raise BadInput("for_cancels", "must be at least 0 and below 1")

    @property
    def terms(self) -> ask.Terms:
        return ask.Terms(self.collar, self.stp_level, self.stp_action)


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way: a command (one `Answered` follows), or a call (`done` is told)."""

    request: ask.Request | None
    command: Command | None = None
    done: Callable[[bytes | ExchangeError], None] | None = None
    wait_s: float | None = None
    deadline: float = 0.0
    is_taken: bool = False
    is_late: bool = False
    session: int = 0
    """The connection it left over."""

    @property
    def is_write(self) -> bool:
        return self.command is not None or (self.request is not None and self.request.is_write)

    @property
    def is_cancel(self) -> bool:
        return isinstance(self.command, Cancel) or (self.request is not None and self.request.is_cancel)


Submit = Callable[[Job], bool]
"""Hands a job to the session; False: it has no connection that works, and the job is still the caller's."""


class _Result(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw()
    error: say.Error | None = None


_decode_result = msgspec.json.Decoder(_Result, strict=False).decode


class Account:
    """See the module docstring. `name`: our name of the account."""

    def __init__(
        self,
        key: ThalexKey,
        where: Endpoints,
        clock: ClockLike,
        name: str,
        settings: Settings,
        ids: ClientIds,
        proxy: Proxy | None = None,
    ) -> None:
        self.key = key
        self.where = where
        self.clock = clock
        self.name = name
        self.settings = settings
        self.proxy = proxy
        self.terms = settings.terms
        self.numbers = Numbers(ids)
        self.offset_ns: int | None = None
        self.budget = Budget((Pool(REQUESTS, settings.requests_per_s, 1_000_000_000, settings.for_cancels),))
        self.trouble = ""
        self.unread = 0
        self.foreign_markets = 0
        self.untold_fees = 0
        self.corrections = 0
        self.listener: Listener | None = None
        self.submit: Submit | None = None
        self._markets = Markets({}, {})
        self._loaded_at: float | None = None
        self._load = threading.Lock()
        self._measured_at = 0.0
        self._measure_at = 0.0
        self._lock = threading.Lock()
        self._used: OrderedDict[str, None] = OrderedDict()
        self._released: OrderedDict[str, None] = OrderedDict()
        self._venue_ids: OrderedDict[str, str] = OrderedDict()
        self._own_ids: OrderedDict[str, str] = OrderedDict()
        self._sessions: OrderedDict[str, int] = OrderedDict()
        self._ends: OrderedDict[str, OrderReport] = OrderedDict()
        self._placing: dict[str, Place] = {}
        self._withheld: dict[str, OrderReport] = {}
        self._crossed: OrderedDict[str, None] = OrderedDict()
        self._public = HttpLines(
            where.rest, where.hosts, connect_s=settings.connect_s, answer_s=settings.read_s, proxy=proxy
        )
        self._side = SideLine(
            where.socket,
            where.hosts,
            self._side_login,
            connect_s=settings.connect_s,
            proxy=proxy,
        )

    # ------------------------------------------------------------------ time

    def venue_ns(self) -> int:
        """The venue's clock as we know it: ours until it was measured."""
        return self.clock.now_ns() + (self.offset_ns or 0)

    def sync_clock(self) -> int:
        """Measure the offset; the venue's time in UTC nanoseconds, as we know it then. Thalex has no request
        for its time, so the `Date` of an HTTP answer is taken (RFC 9110 6.6.1), which holds whole seconds:
        good to half a second, which is enough for the only stamp that is signed, that of a login.

        Raises:
            ExchangeError: no answer, or one without a date.
        """
        sent_ns = self.clock.now_ns()
        answer = self._public_get("/public/system_info")
        heard_ns = self.clock.now_ns()
        told = answer.headers.get("date", "")
        try:
            at_ns = int(parsedate_to_datetime(told).timestamp()) * say.NS
        except (ValueError, TypeError, IndexError):
            raise Unavailable("Thalex did not tell its time") from None
        middle_ns = (sent_ns + heard_ns) // 2
        off_ns = at_ns + say.NS // 2 - middle_ns
        # Within the second that the date stands for there is nothing to correct.
        self.offset_ns = 0 if abs(off_ns) <= say.NS // 2 + (heard_ns - sent_ns) // 2 else off_ns
        self._measured_at = time.monotonic()
        return self.venue_ns()

    def sync_clock_if_old(self) -> None:
        """Before a login. A failure is no reason not to try: our own clock may be good."""
        now = time.monotonic()
        if now < self._measure_at:
            return  # it failed a moment ago, and waiting for it keeps us from connecting
        if self.offset_ns is None or now - self._measured_at > self.settings.clock_old_s:
            try:
                self.sync_clock()
            except ExchangeError as error:
                self._measure_at = time.monotonic() + MEASURE_AGAIN_S
                log.warning("account=%s clock not measured: %s", self.name, error.message)

    def login(self) -> ask.Request:
        return ask.login(self.key.token(self.venue_ns() // say.NS), self.settings.account)

    def _side_login(self) -> ask.Request:
        self.sync_clock_if_old()
        return self.login()

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
                _kind_of(command),
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

    def check(self, command: Command) -> None:
        """Raises Rejected for what cannot be asked here; a client id is used up by this."""
        market = self._markets.by_id.get(command.instrument)
        if market is None:
            raise Rejected(f"{command.instrument} is not a market of Thalex that was loaded")
        if isinstance(command, Place):
            ask.place(command, market, 0, self.terms)
            self._use_once(command.client_id)

    def request_for(self, command: Command, session: int) -> ask.Request:
        """The request, to leave over this session now.

        Raises:
            Rejected: it cannot be asked. UnknownOrder: nothing tells which order it is. Unavailable: the
                number of a new order could not be kept, so the order must not leave.
        """
        market = self._markets.by_id.get(command.instrument)
        if market is None:
            raise Rejected(f"{command.instrument} is listed no more")
        if isinstance(command, Place):
            try:
                number = self.numbers.assign(command.client_id, self.clock.now_ns())
            except OSError as error:
                raise Unavailable(f"the client id could not be kept ({type(error).__name__})") from None
            with self._lock:
                _keep(self._sessions, command.client_id, session)
                self._placing[command.client_id] = command
            return ask.place(command, market, number, self.terms)
        order = self._address(command.client_id, session)
        if isinstance(command, Cancel):
            return ask.cancel(order)
        return ask.amend(command, market, order, self.terms)

    def _address(self, client_id: str, session: int) -> bytes:
        venue_id = self._venue_ids.get(client_id)
        if venue_id is not None:
            return ask.by_id(venue_id)
        number = self.numbers.get(client_id)
        if number is not None and self._sessions.get(client_id) == session:
            return ask.by_number(number)
        raise UnknownOrder("no order of this session has this id, and none was heard of that has")

    def _use_once(self, client_id: str) -> None:
        """The venue forgets a number with its session, and would take our id again; we do not."""
        with self._lock:
            is_free = client_id in self._released
            if client_id in self._used or (not is_free and self.numbers.get(client_id) is not None):
                raise Rejected(f"duplicate client id {client_id}")
            self._released.pop(client_id, None)
            _keep(self._used, client_id, None)

    def _release(self, client_id: str) -> None:
        """It never became an order."""
        with self._lock:
            self._used.pop(client_id, None)
            _keep(self._released, client_id, None)

    def unsent(self, command: Command) -> None:
        """The session was lost between two looks at it; not a byte left."""
        if isinstance(command, Place):
            self._release(command.client_id)
        self.refuse(command, Unavailable("there is no connection to Thalex"))

    def take(self, job: Job) -> None:
        """Take what the job costs from the budget. Raises RateLimited: nothing may be sent now."""
        wait_s = self.budget.take(_COST, self.venue_ns(), is_cancel=job.is_cancel)
        if wait_s:
            why = self.budget.blocked_why() or "the budget of requests is used up"
            raise RateLimited(f"not sent: {why}", retry_after_s=wait_s)
        job.is_taken = True

    def settle(self, job: Job) -> None:
        if job.is_taken:
            job.is_taken = False
            self.budget.settle(_COST, (), self.venue_ns())

    def error_from(self, status: int, code: int | None, text: str, *, is_write: bool) -> ExchangeError:
        error = error_of(status, code, text[:300], is_write=is_write, back_off_s=self.settings.back_off_s)
        if isinstance(error, RateLimited):
            self.budget.block(error.retry_after_s, "Thalex asked for fewer requests", self.venue_ns())
        return error

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
        if isinstance(command, Place):
            self._placing.pop(command.client_id, None)
        if isinstance(result, ExchangeError):
            error: ExchangeError | None = result
            venue_id = None
        else:
            try:
                error, venue_id = self._judge(command, say.decode_order(result))
                if job.is_late and isinstance(error, WouldCross) and command.client_id in self._ends:
                    error = None  # told as expired by now: the order was taken, and is over
            except UNREADABLE:
                self.unread += 1
                venue_id = None
                error = OutcomeUnknown("Thalex accepted the request in words that we cannot read")
        withheld = self._withheld.pop(command.client_id, None) if isinstance(command, Place) else None
        if isinstance(error, WouldCross):
            with self._lock:
                _keep(self._crossed, command.client_id, None)
                self._ends.pop(command.client_id, None)
        if error is None:
            self.answer(command, Outcome.ACCEPTED, venue_id=venue_id)
        else:
            if isinstance(command, Place) and not isinstance(error, OutcomeUnknown | WouldCross):
                self._release(command.client_id)
            self.refuse(command, error)
        if withheld is not None and not isinstance(error, WouldCross):
            self.tell(OrderHeard(self.clock.now_ns(), withheld))

    def _judge(self, command: Command, row: say.OrderRow) -> tuple[ExchangeError | None, str | None]:
        """What the venue's word on the order means for the request."""
        self._note(row, command.client_id)
        is_over = row.status in ("cancelled", "cancelled_partially_filled")
        if isinstance(command, Place):
            if command.post_only and is_over and say.is_refused_post_only(row):
                return WouldCross("Thalex: a post-only order would have taken"), None
            return None, row.order_id
        if isinstance(command, Cancel) and not is_over:
            what = f"the cancel was taken, and the order is {row.status[:40]}"
            return OutcomeUnknown(f"Thalex: {what}"), row.order_id
        return None, row.order_id

    # ------------------------------------------------------------------ what was heard

    def heard_orders(self, data: bytes, at_ns: int) -> list[Event]:
        """Raises UNREADABLE."""
        events: list[Event] = []
        for row in say.decode_orders(data):
            market = self._markets.by_symbol.get(row.instrument_name)
            if market is None:
                self.foreign_markets += 1  # a combination, an option, or a listing newer than our list
                continue
            client_id = self.client_id_of(row.order_id, row.client_order_id, row.label)
            self._note(row, client_id)
            report = say.report_of(row, market.instrument, client_id, at_ns)
            if report is None:
                continue
            with self._lock:
                is_refused = say.is_refused_post_only(row)
                if is_refused and client_id in self._crossed:
                    continue  # the answer said so; an order that was refused was never there to expire
                if report.status.is_final:
                    _keep(self._ends, client_id, report)
                asked = self._placing.get(client_id)
                if is_refused and asked is not None and asked.post_only:
                    self._withheld[client_id] = report  # the answer will say so, as a refusal
                    continue
            events.append(OrderHeard(at_ns, report))
        return events

    def heard_trades(self, data: bytes, at_ns: int) -> list[Event]:
        """Raises UNREADABLE."""
        events: list[Event] = []
        for row in say.decode_trades(data):
            fill = self._fill(row)
            if fill is not None:
                events.append(FillHeard(at_ns, fill))
        return events

    def heard_summary(self, data: bytes, at_ns: int) -> BalancesHeard:
        """Raises UNREADABLE."""
        return BalancesHeard(at_ns, NAME, self.name, say.balances_of(say.decode_summary(data)))

    def client_id_of(self, order_id: str, number: int | None, label: object) -> str:
        """Ours where we know it; else the label, else a name made of the venue's own id."""
        known = None if number is None else self.numbers.client_id(number)
        if known is None:
            known = self._own_ids.get(order_id)
        if known is not None:
            return known
        return label if isinstance(label, str) and label else f"{NAME}-{order_id}"

    def _note(self, row: say.OrderRow, client_id: str) -> None:
        with self._lock:
            _keep(self._venue_ids, client_id, row.order_id)
            _keep(self._own_ids, row.order_id, client_id)

    def _fill(self, row: say.TradeRow) -> Fill | None:
        market = self._markets.by_symbol.get(row.instrument_name)
        if market is None:
            self.foreign_markets += 1
            return None
        if row.trade_type in say.CORRECTIONS:
            self.corrections += 1
            self.trouble = (
                f"Thalex corrected a trade ({row.trade_type} {row.trade_id[:40]}): compare positions"
            )
            log.error("account=%s %s", self.name, self.trouble)
            return None
        if row.trade_type not in say.FILLS:
            return None  # settlements, transfers: they move the position, and no order of ours made them
        client_id = self.client_id_of(row.order_id, row.client_order_id, row.label)
        fill, is_told = say.fill_of(row, market.instrument, self.name, client_id)
        if not is_told:
            self.untold_fees += 1
            self.trouble = f"trade {row.trade_id[:40]} came without its fee; the rate by setting was taken"
            log.warning("account=%s %s", self.name, self.trouble)
        if market.instrument.qty(fill.lots) != row.amount:
            # Orders of ours are in whole lots, so this is a leg of something else in the account.
            self.trouble = f"trade {row.trade_id[:40]} is not in whole lots: compare positions"
            log.error("account=%s %s", self.name, self.trouble)
        return fill if fill.lots > 0 else None

    # ------------------------------------------------------------------ calls

    def call(self, request: ask.Request) -> bytes:
        """A private request whose end the caller waits for: over the session when it is up, else over a
        connection of its own. The `result`, as it came.

        Raises:
            ExchangeError: OutcomeUnknown only for a write.
        """
        submit = self.submit
        if submit is not None:
            ended = threading.Event()
            results: list[bytes | ExchangeError] = []

            def done(result: bytes | ExchangeError) -> None:
                results.append(result)
                ended.set()

            wait_s = self.settings.answer_s if request.is_write else self.settings.read_s
            if submit(Job(request, done=done, wait_s=wait_s)):
                if not ended.wait(wait_s + self.settings.answer_s):
                    what = "Thalex: no answer"
                    raise OutcomeUnknown(what) if request.is_write else Unavailable(what)
                if isinstance(results[0], ExchangeError):
                    raise results[0]
                return results[0]
        return self._call_aside(request)

    def _call_aside(self, request: ask.Request) -> bytes:
        job = Job(request)
        self.take(job)
        try:
            raw = self._side.call(request, self.settings.read_s)
        finally:
            self.settle(job)
        try:
            told = _decode_result(raw)
        except UNREADABLE:
            self.unread += 1
            what = "Thalex answered in words that we cannot read"
            raise (OutcomeUnknown(what) if request.is_write else Unavailable(what)) from None
        if told.error is not None:
            raise self.error_from(200, told.error.code, told.error.message, is_write=request.is_write)
        return bytes(told.result)

    def _read(self, request: ask.Request, decode: Callable[[bytes], T]) -> T:
        raw = self.call(request)
        try:
            return decode(raw)
        except UNREADABLE:
            self.unread += 1
            raise Unavailable("Thalex answered in words that we cannot read") from None

    def _public_get(self, target: str) -> _PublicAnswer:
        job = Job(None)
        self.take(job)
        try:
            answer = self._public.ask("GET", target, is_write=False)
        finally:
            self.settle(job)
        try:
            told = _decode_result(answer.body)
        except UNREADABLE:
            told = None
        if told is not None and told.error is not None:
            raise self.error_from(answer.status, told.error.code, told.error.message, is_write=False)
        if answer.status != 200 or told is None:
            if answer.status == 200:
                self.unread += 1
                raise Unavailable("Thalex answered in words that we cannot read")
            retry_s = _seconds(answer.headers.get("retry-after"))
            error = error_of(
                answer.status,
                None,
                "",
                is_write=False,
                retry_after_s=retry_s,
                back_off_s=self.settings.back_off_s,
            )
            if isinstance(error, RateLimited):
                self.budget.block(error.retry_after_s, "Thalex asked for fewer requests", self.venue_ns())
            raise error
        return _PublicAnswer(bytes(told.result), dict(answer.headers))

    # ------------------------------------------------------------------ reads

    def fetch_markets(self) -> tuple[Instrument, ...]:
        answer = self._public_get("/public/instruments")
        try:
            markets = decode_markets(answer.result, self.settings.fees, UNDERLYINGS)
        except UNREADABLE:
            self.unread += 1
            raise Unavailable("Thalex answered in words that we cannot read") from None
        self._markets = markets
        self._loaded_at = time.monotonic()
        return tuple(market.instrument for market in markets.by_symbol.values())

    def market(self, instrument: InstrumentId) -> Market:
        """Raises Rejected: Thalex has no such market. ExchangeError: the list could not be read."""
        found = self._markets.by_id.get(instrument)
        if found is None:
            self._reload()
            found = self._markets.by_id.get(instrument)
        if found is None:
            raise Rejected(f"{instrument} is not a market of Thalex")
        return found

    def _reload(self) -> None:
        with self._load:
            if self._loaded_at is None or time.monotonic() - self._loaded_at > RELOAD_S:
                self.fetch_markets()

    def _market_named(self, symbol: str) -> Market | None:
        """None: not a perpetual or future (an option, say)."""
        if symbol not in self._markets.by_symbol:
            self._reload()
        return self._markets.by_symbol.get(symbol)

    def fetch_rows(self, instrument: InstrumentId | None) -> list[tuple[say.OrderRow, Market]]:
        wanted = None if instrument is None else self.market(instrument)
        found = []
        for row in self._read(ask.OPEN_ORDERS, say.decode_orders):
            if not row.instrument_name:
                continue
            market = self._market_named(row.instrument_name)
            if market is not None and (wanted is None or market is wanted):
                found.append((row, market))
        return found

    def fetch_open(self, instrument: InstrumentId | None) -> tuple[OrderReport, ...]:
        now_ns = self.clock.now_ns()
        return tuple(self._report(row, market, now_ns) for row, market in self.fetch_rows(instrument))

    def _report(self, row: say.OrderRow, market: Market, now_ns: int) -> OrderReport:
        client_id = self.client_id_of(row.order_id, row.client_order_id, row.label)
        self._note(row, client_id)
        try:
            report = say.report_of(row, market.instrument, client_id, now_ns)
        except UNREADABLE:
            report = None
        if report is None:
            self.unread += 1
            raise Unavailable("Thalex told of an order in words that we cannot read")
        return report

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        """There is no request for one order: the open ones are looked through, then the history by label;
        that leaves out orders of market makers that ended without a fill, so at last what was heard counts.
        """
        market = self.market(instrument)
        now_ns = self.clock.now_ns()
        for row, found in self.fetch_rows(instrument):
            report = self._report(row, found, now_ns)
            if report.client_id == client_id:
                return report
        if ask.LABEL_FORM.fullmatch(client_id) is not None:
            request = ask.history(
                "order_history",
                symbols=(market.instrument.venue_symbol,),
                label=client_id,
                is_ascending=False,
            )
            for row in self._read(request, say.decode_order_page).orders:
                report = self._report(row, market, now_ns)
                if report.client_id == client_id:
                    return report
        ended = self._ends.get(client_id)
        if ended is not None:
            return ended
        raise UnknownOrder(f"Thalex knows no order {client_id[:64]}, or not yet")

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        """The venue keeps 90 days, and tells a trade with a slight delay."""
        market = self.market(instrument)
        rows: list[say.TradeRow] = []
        bookmark = ""
        for _ in range(MOST_PAGES):
            request = ask.history(
                "trade_history",
                symbols=(market.instrument.venue_symbol,),
                since_s=max(0, since_ns) // say.NS,
                bookmark=bookmark,
            )
            page = self._read(request, say.decode_trade_page)
            rows.extend(page.trades)
            if not page.bookmark or page.bookmark == bookmark:
                break
            bookmark = page.bookmark
        else:
            raise Rejected("the history of trades is too long to be read in one go; ask for a later start")
        fills: dict[str, Fill] = {}
        for row in rows:
            try:
                fill = self._fill(row) if row.instrument_name == market.instrument.venue_symbol else None
            except UNREADABLE:
                self.unread += 1
                raise Unavailable("Thalex told of a trade in words that we cannot read") from None
            if fill is not None and fill.venue_ns >= since_ns:
                fills.setdefault(fill.trade_id, fill)
        return tuple(sorted(fills.values(), key=lambda fill: (fill.venue_ns, fill.trade_id)))

    def fetch_balances(self) -> tuple[Balance, ...]:
        return say.balances_of(self._read(ask.ACCOUNT_SUMMARY, say.decode_summary))

    def fetch_positions(self) -> tuple[Position, ...]:
        found = []
        for row in self._read(ask.PORTFOLIO, say.decode_positions):
            market = self._market_named(row.instrument_name)
            position = None if market is None else say.position_of(row, market.instrument)
            if position is not None:
                found.append(position)
        return tuple(found)

    def fetch_fee_rates(self, instrument: InstrumentId) -> FeeRates:
        """As the newest trades in this market tell; the rates by setting for a side that has none yet."""
        market = self.market(instrument)
        request = ask.history(
            "trade_history", symbols=(market.instrument.venue_symbol,), is_ascending=False, limit=100
        )
        told: dict[str, Decimal] = {}
        for row in self._read(request, say.decode_trade_page).trades:
            if row.fee_rate is not None and row.maker_taker and row.trade_type == "normal":
                told.setdefault(row.maker_taker, row.fee_rate)
        fees = self.settings.fees
        return FeeRates(told.get("maker", fees.maker), told.get("taker", fees.taker))

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        """Funding accrues all the time and is paid with the daily settlement; this is what was paid."""
        market = self.market(instrument)
        symbol = market.instrument.venue_symbol
        payments = []
        counts: Counter[tuple[Decimal, str]] = Counter()
        bookmark = ""
        for _ in range(MOST_PAGES):
            request = ask.history(
                "transaction_history",
                symbols=(symbol,),
                since_s=max(0, since_ns) // say.NS,
                types="perpetual_funding",
                bookmark=bookmark,
            )
            page = self._read(request, say.decode_transaction_page)
            for row in page.transactions:
                kind = row.transaction_type.replace("_", " ")  # asked for with one, told with the other
                if row.instrument_name != symbol or kind != "perpetual funding":
                    continue
                counts[(row.time, row.asset)] += 1
                payment = say.funding_of(row, market.instrument, counts[(row.time, row.asset)])
                if payment.venue_ns >= since_ns:
                    payments.append(payment)
            if not page.bookmark or page.bookmark == bookmark:
                break
            bookmark = page.bookmark
        else:
            raise Rejected("the history of funding is too long to be read in one go; ask for a later start")
        return tuple(sorted(payments, key=lambda payment: payment.venue_ns))

    def fetch_key_rights(self) -> KeyRights:
        """Thalex tells a key nothing of its rights; that it may look is proved by looking.

        Raises:
            Unauthorized: it may not.
        """
        self._read(ask.ACCOUNT_SUMMARY, say.decode_summary)
        return KeyRights(None, None, None)

    def fetch_account_mode(self) -> AccountMode:
        """Positions are net. The venue tells neither the margin nor the STP mode, so an STP level is only
        known where orders ask for one (`Settings.stp_level`) and the venue takes them.
        """
        self._read(ask.ACCOUNT_SUMMARY, say.decode_summary)
        return AccountMode("one-way", None, self.settings.stp_level or None)

    def close(self) -> None:
        self._public.close()
        self._side.close()


@dataclass(frozen=True, slots=True)
class _PublicAnswer:
    result: bytes
    headers: dict[str, str]


_COST: tuple[Cost, ...] = ((REQUESTS, 1),)


def _kind_of(command: Command) -> Kind:
    if isinstance(command, Place):
        return Kind.PLACE
    return Kind.AMEND if isinstance(command, Amend) else Kind.CANCEL


def _keep(table: OrderedDict[str, T], name: str, value: T) -> None:
    table[name] = value
    table.move_to_end(name)
    while len(table) > KEPT:
        table.popitem(last=False)


def _seconds(told: str | None) -> float | None:
    return float(told) if told and told.isascii() and told.isdigit() else None
