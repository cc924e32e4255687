"""One product of one account at Backpack: its markets, which order carries which id, and its reads.

Hides: paging, the two places where an order is looked for, what a status means for an order that never
rested, lent funds. Must not know: threads (it is safe from any), sockets, engines. Called by `venue`,
`orders` and `stream`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from api.errors import (
    ExchangeError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    UnknownOrder,
    WouldCross,
)
from api.exchange import AccountMode, FeeRates, FundingPayment, Listener
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
    Status,
    Tif,
)
from api.venues.backpack import messages as say
from api.venues.backpack import requests as ask
from api.venues.backpack.errors import OUTCOMES, REASONS, letters, refusal_of
from api.venues.backpack.login import Login
from api.venues.backpack.names import MARKET_TYPE, VENUE_OF, Product
from api.venues.backpack.public import Market, Markets, decode_markets

log = logging.getLogger("makerdeck.backpack")

PAGE = 1000  # the most rows a history gives at once
HISTORY = ((0, 100), (100, PAGE), (100 + PAGE, PAGE))
"""(offset, rows) of the newest orders of its market among which one that ended is looked for."""
KEPT_ORDERS = 50_000  # orders whose venue id and size are remembered
RELOAD_S = 60.0  # an unknown market makes the list be read again at most this often
FOREIGN = "#"  # begins the client id that we give to an order which carries none of ours


@dataclass(slots=True)
class _Known:
    """What we know of an order. `rested`: it was seen in the book, so it cannot have been refused."""

    venue_id: str
    ticks: int = 0
    lots: int = 0
    rested: bool = False


@dataclass(slots=True, eq=False)
class Job:
    """One write on its way: a command (one `Answered` follows), or a request somebody waits for."""

    command: Command | None = None
    params: ask.Params | None = None  # of a new order
    request: ask.Request | None = None
    is_retried: bool = False


class Account:
    """See the module docstring."""

    def __init__(self, login: Login, product: Product) -> None:
        self.login = login
        self.product: Product = product
        self.venue = VENUE_OF[product]
        self.name = login.name
        self.clock = login.clock
        self.settings = login.settings
        self.listener: Listener | None = None
        self.trouble = ""
        self.foreign_markets = 0
        self.stp_mismatches = 0
        self.is_lending: bool | None = None
        self.is_linked = False
        self.touched = threading.Event()  # balances have changed, or may have
        self._markets = Markets({}, {})
        self._loaded_at: float | None = None
        self._orders: OrderedDict[str, _Known] = OrderedDict()
        self._never_arrived: set[str] = set()
        self._expiries: OrderedDict[str, str] = OrderedDict()
        self._load = threading.Lock()
        self._lock = threading.Lock()
        self._expired = threading.Condition(self._lock)

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
                _request_of(command),
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
        if isinstance(command, Place) and isinstance(error, RateLimited | Unavailable | Unauthorized):
            with self._lock:
                if len(self._never_arrived) >= KEPT_ORDERS:
                    self._never_arrived.clear()  # those are refused from now on, which is safe
                self._never_arrived.add(command.client_id)
        self.answer(command, outcome, error=type(error).__name__, reason=error.message, retry_after_s=wait_s)

    # ------------------------------------------------------------------ writes

    @property
    def redeems(self) -> bool:
        """Whether a spot order may call back funds that are lent out."""
        if self.product != "spot" or self.settings.lending == "never":
            return False
        return self.settings.lending == "always" or bool(self.is_lending)

    def needs_redeem(self) -> bool:
        """The venue says that funds are lent out. True: ask again with their redemption."""
        if self.product != "spot" or self.settings.lending == "never":
            return False
        self.is_lending = True
        return True

    def job_of(self, command: Command) -> Job:
        """Raises Rejected for what cannot be asked here, Unavailable when the id cannot be written down."""
        market = self._markets.by_id.get(command.instrument)
        if market is None and self._loaded_at is None:
            raise Unavailable("Backpack's markets are not loaded yet")
        if market is None:
            raise Rejected(f"{command.instrument} is not a market of {self.venue} that was loaded")
        if isinstance(command, Amend):
            raise Rejected("Backpack amends no orders; cancel and place anew")
        if isinstance(command, Cancel):
            if self._by_id(command.client_id) == (None, None):
                raise UnknownOrder("no order of this client id was sent from here")
            return Job(command)
        params = ask.place(
            command,
            market.instrument,
            0,
            self.settings.stp,
            redeems=self.redeems,
            lends=self.settings.lend_proceeds,
        )
        params["clientId"] = self._number_for(command.client_id)
        return Job(command, params)

    def _number_for(self, client_id: str) -> int:
        numbers = self.login.numbers
        if not client_id or not client_id.isascii() or " " in client_id or client_id.startswith(FOREIGN):
            raise Rejected("a client id is ASCII text without spaces that does not begin with #")
        with self._lock:
            is_free = client_id in self._never_arrived
            self._never_arrived.discard(client_id)
            number = numbers.get(client_id)
            if number is not None:
                if not is_free:
                    raise Rejected("duplicate client id: an order of this id was sent before")
                return number
            try:
                return numbers.assign(client_id, self.clock.now_ns())
            except OSError as error:
                raise Unavailable(
                    f"the table of client ids cannot be written ({type(error).__name__}); nothing was sent"
                ) from None

    def cancel_request(self, command: Cancel) -> ask.Request:
        """Made when it is sent: by then the answer to the order may have named the venue's id."""
        order_id, number = self._by_id(command.client_id)
        symbol = self._markets.by_id[command.instrument].instrument.venue_symbol
        return ask.cancel(symbol, order_id=order_id, number=number)

    def _by_id(self, client_id: str) -> tuple[str | None, int | None]:
        """(the venue's id, the number) as far as they are known."""
        if client_id.startswith(FOREIGN):
            return client_id[len(FOREIGN) :] or None, None
        known = self._orders.get(client_id)
        return (known.venue_id if known is not None else None), self.login.numbers.get(client_id)

    def finish(self, job: Job, result: bytes | ExchangeError) -> None:
        """End a job with the venue's answer, or with why there is none."""
        command = job.command
        if command is None:
            return
        if isinstance(result, ExchangeError):
            self.refuse(command, result)
            return
        try:
            self._accepted(command, say.decode_order(result))
        except say.UNREADABLE:
            self.login.unread += 1
            what = "Backpack accepted the request in words that we cannot read"
            self.refuse(command, OutcomeUnknown(what))

    def _accepted(self, command: Command, row: say.OrderRow) -> None:
        status = say.STATUSES[row.status]
        if isinstance(command, Cancel):
            if status.is_final:
                self.answer(command, Outcome.ACCEPTED, venue_id=row.id)
            else:
                what = f"the cancel was taken, and the order is {row.status}"
                self.refuse(command, OutcomeUnknown(what))
            return
        assert isinstance(command, Place)
        self._check_stp(command, row)
        if status is not Status.EXPIRED or row.executedQuantity:
            rested = status is Status.OPEN or bool(row.executedQuantity)
            self._note(command.client_id, row.id, command.ticks, command.lots, rested=rested)
            self.answer(command, Outcome.ACCEPTED, venue_id=row.id)
            return
        self._note(command.client_id, row.id, command.ticks, command.lots, rested=False)
        refusal = self._refusal(command, row)
        if refusal is None or self._orders[command.client_id].rested:
            self.answer(command, Outcome.ACCEPTED, venue_id=row.id)  # taken, and ended: the report says how
        else:
            self.refuse(command, refusal)

    def _refusal(self, command: Place, row: say.OrderRow) -> ExchangeError | None:
        """Why an order expired at once without a fill: the answer does not say, the stream does."""
        is_taker = command.tif is not Tif.GTC
        reason = row.expiryReason or self._expiry_of(row.id, 0.0 if is_taker else self.settings.expiry_s)
        if letters(reason) == "borrowrequireslendredeem":
            self.needs_redeem()
        kind = refusal_of(reason)
        if kind is not None:
            return kind(f"Backpack: expired at once ({reason})", code=reason)
        if is_taker or letters(reason) in REASONS:
            return None
        if command.post_only:
            return WouldCross("Backpack: a post-only order expired at once, for a reason it did not tell")
        return Rejected(f"Backpack: expired at once ({reason or 'no reason told'})")

    def _expiry_of(self, venue_id: str, within_s: float) -> str:
        deadline = time.monotonic() + within_s
        with self._expired:
            while venue_id not in self._expiries:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._expired.wait(left_s):
                    break
            return self._expiries.get(venue_id, "")

    def _check_stp(self, command: Place, row: say.OrderRow) -> None:
        """The mode is set explicitly and read back: what the venue says it uses must be what we asked for."""
        if row.selfTradePrevention and row.selfTradePrevention != self.settings.stp:
            self.stp_mismatches += 1
            self.trouble = (
                f"self-trade prevention is {row.selfTradePrevention}, asked for {self.settings.stp}"
            )
            log.error("order=%s %s", command.client_id, self.trouble)

    # ------------------------------------------------------------------ what was heard

    def heard_update(self, raw: bytes, at_ns: int) -> list[Event]:
        """An `account.orderUpdate` as events: the fill first, then what it makes of the order.

        Raises:
            UNREADABLE (`messages`): it may have been a fill.
        """
        update = say.decode_update(raw)
        market = self._markets.by_symbol.get(update.s)
        if market is None:
            self.foreign_markets += 1  # the other product's, as a rule: one stream carries both
            return []
        instrument = market.instrument
        client_id = self.client_id_of(update.c, update.i)
        events: list[Event] = []
        fill = say.fill_heard(update, instrument, self.name, client_id)
        if fill is not None:
            events.append(FillHeard(at_ns, fill))
        known = self._orders.get(client_id)
        rests = (known.ticks, known.lots) if known is not None else None
        report = say.report_heard(update, instrument, client_id, rests)
        if report is None:
            log.warning("order=%s has a state or size we do not know: %s", client_id, update.X[:40])
        else:
            if report.status is Status.EXPIRED and not report.filled_lots:
                report = self._refused_or_expired(report, known)
            is_new = update.e in ("orderAccepted", "orderModified", "orderFill")
            self._note(client_id, update.i, report.ticks, report.lots, rested=is_new)
            events.append(OrderHeard(at_ns, report))
        if update.e == "orderExpired":
            with self._expired:
                self._expiries[update.i] = update.R or "Unknown"
                if len(self._expiries) > KEPT_ORDERS:
                    self._expiries.popitem(last=False)
                self._expired.notify_all()
        self.touched.set()
        return events

    def _refused_or_expired(self, report: OrderReport, known: _Known | None) -> OrderReport:
        """An order that expired for a reason that refuses it, and was never seen to rest, was refused."""
        if refusal_of(report.reason) is None or (known is not None and known.rested):
            return report
        return replace(report, status=Status.REJECTED)

    def client_id_of(self, number: int | None, venue_id: str) -> str:
        """Ours, or for an order that carries none of ours a text that names it at the venue."""
        found = None if number is None else self.login.numbers.client_id(number)
        return found if found is not None else f"{FOREIGN}{venue_id}"

    def _note(self, client_id: str, venue_id: str, ticks: int, lots: int, *, rested: bool) -> None:
        with self._lock:
            known = self._orders.get(client_id)
            if known is None:
                known = self._orders[client_id] = _Known(venue_id)
                if len(self._orders) > KEPT_ORDERS:
                    self._orders.popitem(last=False)
            known.venue_id = venue_id
            known.ticks, known.lots = ticks, lots
            known.rested = known.rested or rested

    # ------------------------------------------------------------------ markets

    def fetch_markets(self) -> tuple[Instrument, ...]:
        """Read the markets, the fees and whether funds are lent; those that trade now, by name."""
        with self._load:
            self._load_markets()
        found = (market.instrument for market in self._markets.by_symbol.values() if market.is_trading)
        return tuple(sorted(found, key=lambda instrument: instrument.symbol))

    def need_markets(self) -> None:
        if self._loaded_at is None:
            with self._load:
                if self._loaded_at is None:
                    self._load_markets()

    def market(self, instrument: InstrumentId) -> Market:
        """Raises Rejected for a market that the venue does not list."""
        self.need_markets()
        found = self._markets.by_id.get(instrument)
        if found is None:
            raise Rejected(f"{self.venue} lists no {instrument.symbol or instrument}")
        return found

    def _market_called(self, symbol: str) -> Market:
        """By the venue's own name; a new one makes the list be read again. Raises Unavailable."""
        self.need_markets()
        found = self._markets.by_symbol.get(symbol)
        if found is None and self._loaded_at is not None:
            with self._load:
                if time.monotonic() - self._loaded_at > RELOAD_S:
                    self._load_markets()
            found = self._markets.by_symbol.get(symbol)
        if found is None:
            raise Unavailable(f"Backpack names {symbol[:40]}, which it does not list")
        return found

    def _load_markets(self) -> None:
        fees = self.fetch_fees()
        body = self.login.public("/api/v1/markets")
        try:
            markets = decode_markets(body, self.product, fees)
        except say.UNREADABLE:
            self.login.unread += 1
            raise Unavailable("Backpack's list of markets is not what its API says") from None
        self._markets = markets
        self._loaded_at = time.monotonic()

    # ------------------------------------------------------------------ reads

    def fetch_account(self) -> say.AccountRow:
        row = self.login.signed("accountQuery", "/api/v1/account", {}, say.decode_account)
        self.is_lending = row.autoLend
        if row.liquidating:
            self.trouble = "Backpack is liquidating this account"
        return row

    def fetch_fees(self) -> FeeRates:
        """Of the account, the same in all markets of one product."""
        row = self.fetch_account()
        unit = self.settings.fee_unit
        if self.product == "spot":
            return FeeRates(row.spotMakerFee * unit, row.spotTakerFee * unit)
        return FeeRates(row.futuresMakerFee * unit, row.futuresTakerFee * unit)

    def fetch_mode(self) -> AccountMode:
        """Asks the account, so that a wrong key shows; its modes are fixed: one net position a market, cross
        margin, spot and perpetuals in one account.
        """
        self.fetch_account()
        is_perp = self.product == "perp"
        return AccountMode(
            "one-way" if is_perp else None, "cross" if is_perp else None, self.settings.stp, True
        )

    def fetch_balances(self) -> tuple[Balance, ...]:
        """`free` includes funds that are lent out when orders may call them back; `locked` what is staked."""
        capital = self.login.signed("balanceQuery", "/api/v1/capital", {}, say.decode_capital)
        lent = (
            {row.symbol: row.lendQuantity for row in self.fetch_margin().collateral} if self.redeems else {}
        )
        assets = sorted({*capital, *(asset for asset, amount in lent.items() if amount)})
        none = say.Capital(say.ZERO, say.ZERO)
        return tuple(
            Balance(asset, row.available + lent.get(asset, say.ZERO), row.locked + row.staked)
            for asset in assets
            for row in (capital.get(asset, none),)
        )

    def balances_event(self) -> BalancesHeard:
        balances = self.fetch_balances()
        return BalancesHeard(self.clock.now_ns(), self.venue, self.name, balances)

    def fetch_margin(self) -> say.MarginRow:
        return self.login.signed("collateralQuery", "/api/v1/capital/collateral", {}, say.decode_margin)

    def fetch_address(self, blockchain: str) -> str:
        if not blockchain.isalnum():
            raise Rejected("a blockchain is named by letters and digits, such as Solana")
        path = "/wapi/v1/capital/deposit/address"
        params = {"blockchain": blockchain}
        return self.login.signed("depositAddressQuery", path, params, say.decode_address).address

    def fetch_positions(self) -> tuple[Position, ...]:
        if self.product == "spot":
            return ()
        params = {"marketType": MARKET_TYPE[self.product]}
        try:
            rows = self.login.signed("positionQuery", "/api/v1/position", params, say.decode_positions)
        except UnknownOrder:  # "Position not found": the documented answer for none
            return ()
        found = (say.position_of(row, self._market_called(row.symbol).instrument.id) for row in rows)
        return tuple(position for position in found if position.qty)

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        """Oldest first. The history has no window of time: pages from the newest on."""
        if self.product == "spot":
            return ()
        terms = self.market(instrument).instrument
        found: dict[str, FundingPayment] = {}
        offset = 0
        while True:
            params: ask.Params = {
                "symbol": terms.venue_symbol,
                "limit": PAGE,
                "offset": offset,
                "sortDirection": "Desc",
            }
            rows = self.login.signed(
                "fundingHistoryQueryAll", "/wapi/v1/history/funding", params, say.decode_funding
            )
            page = [say.funding_of(row, terms) for row in rows]
            found |= {payment.payment_id: payment for payment in page if payment.venue_ns >= since_ns}
            if len(rows) < PAGE or any(payment.venue_ns < since_ns for payment in page):
                return tuple(sorted(found.values(), key=lambda payment: payment.venue_ns))
            offset += PAGE

    def fetch_open(self, instrument: InstrumentId | None) -> tuple[OrderReport, ...]:
        """Of this product. An order somebody placed by hand that has no size of its own (a market order by
        value waiting for its trigger) is left out.
        """
        self.need_markets()
        params = {"marketType": MARKET_TYPE[self.product]}
        if instrument is not None:
            params["symbol"] = self.market(instrument).instrument.venue_symbol
        rows = self.login.signed("orderQueryAll", "/api/v1/orders", params, say.decode_orders)
        reports = []
        for row in rows:
            terms = self._market_called(row.symbol).instrument
            client_id = self.client_id_of(row.clientId, row.id)
            if row.quantity is None and client_id.startswith(FOREIGN):
                continue
            report = self._report(row, terms, client_id)
            self._note(client_id, row.id, report.ticks, report.lots, rested=True)
            reports.append(report)
        return tuple(reports)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        """By the client's number while it rests, then in the history. Raises UnknownOrder."""
        terms = self.market(instrument).instrument
        order_id, number = self._by_id(client_id)
        if order_id is None and number is None:
            raise UnknownOrder("no order of this client id was sent from here")
        asked: ask.Params = {"symbol": terms.venue_symbol}
        if number is not None:
            asked["clientId"] = number
        else:
            asked["orderId"] = order_id or ""
        try:
            row = self.login.signed("orderQuery", "/api/v1/order", asked, say.decode_order)
        except UnknownOrder:
            return self._ended(terms, client_id, order_id, number)
        report = self._report(row, terms, client_id)
        self._note(client_id, row.id, report.ticks, report.lots, rested=True)
        return report

    def _ended(
        self, terms: Instrument, client_id: str, order_id: str | None, number: int | None
    ) -> OrderReport:
        """From the history, which knows no client ids to ask for: by the venue's id, or page by page."""
        for offset, limit in HISTORY:
            params: ask.Params = {
                "symbol": terms.venue_symbol,
                "limit": 1 if order_id is not None else limit,
                "offset": offset,
                "sortDirection": "Desc",
            }
            if order_id is not None:
                params["orderId"] = order_id
            rows = self.login.signed(
                "orderHistoryQueryAll", "/wapi/v1/history/orders", params, say.decode_orders
            )
            for row in rows:
                if row.id == order_id or (number is not None and row.clientId == number):
                    return self._ended_report(row, terms, client_id)
            if order_id is not None or len(rows) < limit:
                break
        raise UnknownOrder("Backpack knows no order of this client id, resting or in its history")

    def _ended_report(self, row: say.OrderRow, terms: Instrument, client_id: str) -> OrderReport:
        report = self._report(row, terms, client_id)
        if not report.status.is_final:
            # The book does not have it any more, and the history does not know its end yet.
            raise Unavailable("Backpack's history lags behind its book; ask again")
        known = self._orders.get(client_id)
        if report.status is Status.EXPIRED and not report.filled_lots:
            report = self._refused_or_expired(report, known)
        self._note(client_id, row.id, report.ticks, report.lots, rested=False)
        return report

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        """All of them, those by the system (a liquidation) too, oldest first."""
        terms = self.market(instrument).instrument
        found: dict[tuple[str, str, str, str], Fill] = {}
        offset = 0
        while True:
            params: ask.Params = {
                "symbol": terms.venue_symbol,
                "limit": PAGE,
                "offset": offset,
                "sortDirection": "Asc",
            }
            if since_ns >= say.MS:
                params["from"] = since_ns // say.MS
            rows = self.login.signed(
                "fillHistoryQueryAll", "/wapi/v1/history/fills", params, say.decode_fills
            )
            for row in rows:
                fill = self._fill(row, terms)
                # A time told in whole milliseconds has lost what lies below them.
                least_ns = since_ns if fill.venue_ns % say.MS else since_ns - since_ns % say.MS
                if fill.venue_ns >= least_ns:
                    found[fill.key] = fill
            if len(rows) < PAGE:
                return tuple(sorted(found.values(), key=lambda fill: fill.venue_ns))
            offset += PAGE

    def _fill(self, row: say.FillRow, terms: Instrument) -> Fill:
        try:
            return say.fill_of(row, terms, self.name, self.client_id_of(row.clientId, row.orderId))
        except say.UNREADABLE as error:
            raise Unavailable(f"Backpack shows a fill that we cannot read ({error})") from None

    def _report(self, row: say.OrderRow, terms: Instrument, client_id: str) -> OrderReport:
        try:
            return say.report_of(row, terms, client_id)
        except say.UNREADABLE as error:
            raise Unavailable(f"Backpack shows an order in a state we do not know: {error}") from None


def _request_of(command: Command) -> Request:
    if isinstance(command, Place):
        return Request.PLACE
    return Request.CANCEL if isinstance(command, Cancel) else Request.AMEND
