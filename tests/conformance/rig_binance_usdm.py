"""Binance USDT-M futures over its wire-level fake, as a rig of the conformance suite.

Prices are in ticks of 0.01, sizes in lots of 0.001, as in `rigs`. `UsdmRig` is also what `rig_aster` builds
on, and `Seat` what the venue's own tests sit in. The suite speaks of `paper:BTC-USDT`; `ConformanceRig` lets
the venue be called so and changes nothing else. What these venues do otherwise is in `OTHERWISE` with its
reason, and tested in `tests/venues/test_binance_usdm.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from api.exchange import Capabilities, Exchange, Listener
from api.runtime import Clock
from api.signing import HmacKey
from api.types import (
    _GRANT,
    Answered,
    Approved,
    Balance,
    BalancesHeard,
    Command,
    Event,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Request,
    Side,
    Status,
    Tif,
)
from api.venues.binance_usdm import BinanceUsdmTrading, Settings, on_this_machine
from api.venues.paper.faults import Fault
from api.venues.usdm_venue import UsdmTrading
from tests.conformance.market import BTC
from tests.venues.fake_binance_usdm import FakeAccount, FakeBinanceUsdm, Symbol

E = TypeVar("E")
BUY = Side.BUY
BIDS = {10_000: 500, 9_990: 200, 9_980: 400}
ASKS = {10_010: 300, 10_020: 300, 10_030: 300}
PATIENCE_S = 8.0
ANSWER_S = 0.4
QUICK: dict[str, Any] = {
    "answer_s": ANSWER_S,
    "read_s": 2.0,
    "connect_s": 1.0,
    "pauses_s": (0.05, 0.1, 0.2),
    "overlap_s": 0.2,
    "balances_every_s": 0.05,
}
KEYS = {"main": ("api-key-of-main", "secret-of-main"), "other": ("api-key-of-other", "secret-of-other")}
METHODS = {Request.PLACE: "order.place", Request.AMEND: "order.modify", Request.CANCEL: "order.cancel"}
_MARGIN = "it is a perpetual: margin and a position move, not two assets"
_WAITS = "nothing leaves before the time that a limit asks for is over, and HTTP tells whole seconds"
OTHERWISE: dict[str, str] = {
    "test_the_venue_names_itself_its_account_and_what_it_can_do": "it is no simulation",
    "test_a_full_fill_ends_the_order_and_moves_both_assets": _MARGIN,
    "test_what_cannot_be_done_is_rejected_by_its_class[command7-InsufficientFunds]": _MARGIN,
    "test_amending_the_size_down_keeps_the_place_and_up_loses_it": "an amendment loses its place",
    "test_an_amend_that_would_cross_changes_nothing": "such an amendment cancels a post-only order",
    "test_fill_or_kill_is_all_or_nothing": "one that cannot fill is refused (-5021), not expired",
    "test_what_was_not_accepted_says_so_and_can_be_sent_again"
    "[Fault.RATE_LIMITED-Outcome.RATE_LIMITED-RateLimited]": _WAITS,
    "test_a_read_that_fails_raises_and_never_returns_nothing": _WAITS,
    "test_while_the_book_is_not_known_nothing_new_is_accepted_but_cancels_are": "it needs no book of ours",
}
SERVER_TEXT = "Unknown error, please check your request or try again later."


class UsdmRig:
    """One fake venue, one account of ours that trades there, and a market the test moves by hand."""

    venue_name = "binance_usdm"

    def __init__(self, path: str = "socket", *, fake: FakeBinanceUsdm | None = None, **more: Any) -> None:
        self.heard: list[Event] = []
        self.path = path
        self.more = more
        self.fake = fake or self.make_fake(
            [Symbol("BTCUSDT", "BTC", "USDT"), Symbol("ETHUSDT", "ETH", "USDT")]
        )
        self.accounts: dict[str, FakeAccount] = {}
        for name in KEYS if fake is None else ():
            self.accounts[name] = self.make_account(name)
        self._executed = True
        self._made: list[UsdmTrading] = []
        self._exchange = self.trading("main")

    # what differs for another venue of the dialect

    def make_fake(self, symbols: list[Symbol]) -> FakeBinanceUsdm:
        return FakeBinanceUsdm(symbols)

    def make_account(self, name: str) -> FakeAccount:
        return self.fake.hmac_account(*KEYS[name], USDT="100000")

    def make_trading(self, name: str, settings: Settings) -> UsdmTrading:
        where = on_this_machine(self.fake.rest, self.fake.socket, self.fake.stream)
        return BinanceUsdmTrading(HmacKey(*KEYS[name]), account=name, settings=settings, where=where)

    # the verbs of a rig

    @property
    def btc(self) -> InstrumentId:
        return InstrumentId.of(self.venue_name, "BTC-USDT-PERP")

    @property
    def eth(self) -> InstrumentId:
        return InstrumentId.of(self.venue_name, "ETH-USDT-PERP")

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    @property
    def venue(self) -> UsdmTrading:
        return self._exchange

    def trading(self, name: str, **more: Any) -> UsdmTrading:
        made = self.make_trading(name, Settings(**{"order_path": self.path, **QUICK, **self.more, **more}))
        made.fetch_instruments()
        self._made.append(made)
        return made

    def book(self, bids: Mapping[int, int], asks: Mapping[int, int]) -> None:
        self.fake.book("BTCUSDT", _levels(bids), _levels(asks))

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        self.fake.trade("BTCUSDT", side.name, _price(ticks), _qty(lots))

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        method = METHODS[on or Request.PLACE]
        fake = self.fake
        if fault is Fault.DUPLICATE:
            fake.repeat_pushes = 10 * n
        elif fault is Fault.DROPPED_PUSH:
            fake.drop_pushes = 2 * n
        elif fault is Fault.EARLY_FILL:
            fake.fault("early", method, n, late_s=0.15)
        elif fault is Fault.CUT_STREAM:
            fake.fault("cut_after", method, n)
        elif fault is Fault.STALE_LIST:
            fake.hold_list(self.accounts["main"], 0.4)
        elif fault is Fault.SERVER_ERROR:
            for _ in range(n):
                kind = "error_after" if self._executed else "error"
                fake.fault(kind, method, status=503, code=-1000, msg=SERVER_TEXT)
                self._executed = not self._executed
        elif fault is Fault.RATE_LIMITED:
            fake.fault("error", method, n, code=-1003, msg="Too many requests.", status=429, retry_s=0.25)
        elif fault is Fault.UNAVAILABLE:
            fake.fault("error", method, n, code=-1008, msg="Server is currently overloaded.", status=503)
        elif fault is Fault.UNAUTHORIZED:
            fake.fault("error", method, n, code=-2015, msg="Invalid API-key.", status=401)
        elif fault is Fault.READ_FAILED:
            fake.fault("html", None, n, status=502)
        elif fault is Fault.READ_LIMITED:
            fake.fault("error", None, n, code=-1003, msg="Too many requests.", status=429, retry_s=1.0)
        else:
            kinds = {Fault.LOST_ANSWER: "lose_answer", Fault.LOST_COMMAND: "lose_command"}
            fake.fault(kinds.get(fault, "late_answer"), method, n, late_s=0.7)

    def cut(self, for_ms: float) -> None:
        """The private stream ends, and cannot be opened again for so long."""
        self.fake.refuse_sockets = "private"
        self.fake.cut("private")

        def allow() -> None:
            self.fake.refuse_sockets = ""

        self.fake.later(for_ms / 1000, allow)

    def another(self, account: str) -> UsdmTrading:
        return self.trading(account)

    def pass_time(self, until: Callable[[], bool], at_most_s: float) -> bool:
        clock = Clock()
        end_ns = clock.now_ns() + int(at_most_s * 1e9)
        while not until():
            if clock.now_ns() > end_ns:
                return False
            time.sleep(0.001)
        return True

    def close(self) -> None:
        for made in self._made:
            made.close()
        self.fake.close()


def _price(ticks: int) -> str:
    return str(Decimal(ticks) / 100)


def _qty(lots: int) -> str:
    return str(Decimal(lots) / 1000)


def _levels(levels: Mapping[int, int]) -> dict[str, str]:
    return {_price(ticks): _qty(lots) for ticks, lots in levels.items() if lots}


class Renamed:
    """An exchange under the suite's names."""

    def __init__(self, inner: Exchange) -> None:
        self.inner = inner

    @property
    def venue(self) -> str:
        return BTC.venue

    @property
    def account(self) -> str:
        return self.inner.account

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def connect(self, heard: Listener) -> None:
        self.inner.connect(lambda event: heard(_told(event)))

    def send(self, approved: Approved) -> None:
        command = replace(approved.command, instrument=self._there(approved.command.instrument))
        self.inner.send(Approved(command, approved.worker, _GRANT))

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        self.inner.cancel_all(None if instrument is None else self._there(instrument))

    def arm_dead_man(self, timeout_s: float) -> None:
        self.inner.arm_dead_man(timeout_s)

    def fetch_instruments(self) -> tuple[Instrument, ...]:
        found = tuple(replace(i, id=_here(i.id)) for i in self.inner.fetch_instruments())
        return tuple(i for i in found if i.id == BTC)

    def fetch_open_orders(self, instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]:
        rows = self.inner.fetch_open_orders(None if instrument is None else self._there(instrument))
        return tuple(replace(row, instrument=_here(row.instrument)) for row in rows)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        report = self.inner.fetch_order(self._there(instrument), client_id)
        return replace(report, instrument=_here(report.instrument))

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        fills = self.inner.fetch_fills(self._there(instrument), since_ns)
        return tuple(replace(fill, instrument=_here(fill.instrument)) for fill in fills)

    def fetch_balances(self) -> tuple[Balance, ...]:
        return self.inner.fetch_balances()

    def fetch_server_ns(self) -> int:
        return self.inner.fetch_server_ns()

    def close(self) -> None:
        self.inner.close()

    def _there(self, instrument: InstrumentId) -> InstrumentId:
        return InstrumentId.of(self.inner.venue, f"{instrument.symbol}-PERP")


def _here(instrument: InstrumentId) -> InstrumentId:
    return InstrumentId.of(BTC.venue, instrument.symbol.removesuffix("-PERP"))


def _told(event: Event) -> Event:
    if isinstance(event, OrderHeard):
        return replace(event, report=replace(event.report, instrument=_here(event.report.instrument)))
    if isinstance(event, FillHeard):
        return replace(event, fill=replace(event.fill, instrument=_here(event.fill.instrument)))
    if isinstance(event, Answered):
        return replace(event, instrument=_here(event.instrument))
    if isinstance(event, LinkChanged | BalancesHeard):
        return replace(event, venue=BTC.venue)
    return event


class ConformanceRig:
    """A `UsdmRig` under the suite's names."""

    def __init__(self, make: Callable[[], UsdmRig], otherwise: Mapping[str, str] = OTHERWISE) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
        name, _, case = test.partition("[")
        reason = otherwise.get(name) or otherwise.get(f"{name}[{case.partition('-')[2]}")
        if reason is not None:
            pytest.skip(f"the venue differs: {reason}")
        self.inner = make()
        self.inner.fake.weight_limit = 1_000_000  # the suite polls
        self.inner.venue.fetch_instruments()
        for account in self.inner.accounts.values():
            account.wallet["BTC"] = Decimal(100)
        self.heard = self.inner.heard
        self._exchange = Renamed(self.inner.exchange)

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    def book(self, bids: Mapping[int, int], asks: Mapping[int, int]) -> None:
        self.inner.book(bids, asks)

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        self.inner.trade(side, ticks, lots)

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        self.inner.fault(fault, n, on=on)

    def cut(self, for_ms: float) -> None:
        self.inner.cut(for_ms)

    def another(self, account: str) -> Exchange:
        return Renamed(self.inner.another(account))

    def pass_time(self, until: Callable[[], bool], at_most_s: float) -> bool:
        return self.inner.pass_time(until, at_most_s)

    def close(self) -> None:
        self.inner.close()


class Seat:
    """A rig somebody listens to: commands in, and questions about what was heard."""

    def __init__(self, rig: UsdmRig) -> None:
        self.rig = rig
        self.fake = rig.fake
        self.heard = rig.heard
        self.btc = rig.btc

    @property
    def venue(self) -> UsdmTrading:
        return self.rig.venue

    @property
    def account(self) -> FakeAccount:
        return self.rig.accounts["main"]

    def connect(self) -> Seat:
        self.rig.book(BIDS, ASKS)
        self.fake.book("ETHUSDT", {"10": "5"}, {"11": "5"})
        self.venue.connect(self.heard.append)
        self.wait(lambda: self.links()[-1:] == [True])
        if self.rig.path == "socket" and self.venue._account.where.socket:
            self.wait(lambda: self.venue._session is not None and self.venue._session.is_open)
        return self

    def wait(self, until: Callable[[], object], at_most_s: float = PATIENCE_S) -> None:
        assert self.rig.pass_time(lambda: bool(until()), at_most_s), f"never came; heard {self.heard}"

    def settle(self, for_s: float = 0.08) -> None:
        self.rig.pass_time(lambda: False, for_s)

    def send(self, command: Command) -> None:
        self.venue.send(Approved(command, "w", _GRANT))

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in tuple(self.heard) if isinstance(event, kind)]

    def links(self) -> list[bool]:
        return [event.is_up for event in self.all(LinkChanged)]

    def answers(self, client_id: str, request: Request = Request.PLACE) -> list[Answered]:
        return [a for a in self.all(Answered) if (a.client_id, a.request) == (client_id, request)]

    def answer(self, client_id: str, request: Request = Request.PLACE) -> Answered:
        self.wait(lambda: self.answers(client_id, request))
        return self.answers(client_id, request)[0]

    def reports(self, client_id: str) -> list[OrderReport]:
        return [e.report for e in self.all(OrderHeard) if e.report.client_id == client_id]

    def fills(self, client_id: str) -> list[Fill]:
        return [e.fill for e in self.all(FillHeard) if e.fill.client_id == client_id]

    def status(self, client_id: str, status: Status) -> OrderReport:
        self.wait(lambda: any(report.status is status for report in self.reports(client_id)))
        return next(report for report in self.reports(client_id) if report.status is status)

    def place(
        self,
        client_id: str,
        side: Side = BUY,
        ticks: int = 9_990,
        lots: int = 100,
        *,
        tif: Tif = Tif.GTC,
        post_only: bool | None = None,
        reduce_only: bool = False,
        instrument: InstrumentId | None = None,
    ) -> Place:
        only = tif is Tif.GTC if post_only is None else post_only
        return Place(client_id, instrument or self.btc, side, ticks, lots, tif, only, reduce_only)

    def rest(self, client_id: str, side: Side = BUY, ticks: int = 9_990, lots: int = 100) -> None:
        self.send(self.place(client_id, side, ticks, lots))
        assert self.answer(client_id).outcome is Outcome.ACCEPTED
        self.status(client_id, Status.OPEN)

    def open_ids(self) -> list[str]:
        return sorted(report.client_id for report in self.venue.fetch_open_orders())

    def sent(self, method: str) -> list[dict[str, str]]:
        return [params for _, called, params in self.fake.calls if called == method]


def rig() -> ConformanceRig:
    return ConformanceRig(UsdmRig)
