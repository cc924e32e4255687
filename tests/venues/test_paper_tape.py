"""The paper venue on the recorded market: no fill better than the tape or larger, and the same run twice."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path

import pytest

from api.types import BookChanged, Cancel, Event, Fill, FillHeard, Side, Traded
from api.venues.paper.instruments import BUILTIN
from api.venues.paper.venue import SteppedPaper
from quote.fold import MarketFold
from quote.tape import Frame, open_tape
from tests.conformance.rigs import approved, place
from tests.shared import shared

BTC = BUILTIN[0]
FRAMES = 12_000  # the first hundred seconds
BALANCES = {"USDT": Decimal(10_000_000), "BTC": Decimal(100)}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    path: Path = shared("market_data/binance_ws_2024-08/spot_btcusdt_20240808.gz")
    return [frame for frame, _ in zip(open_tape([path]).frames(), range(FRAMES), strict=False)]


class Maker:
    """Quotes two levels a side at and behind the touch, again every 200 books; sometimes takes. Checks each
    fill."""

    def __init__(self) -> None:
        self.fold = MarketFold([BTC])
        self.paper = SteppedPaper(self.fold.builders, [BTC], BALANCES)
        self.exchange = self.paper.exchange()
        self.lines: list[str] = []
        self.sent = 0
        self.books = 0
        self.live: list[str] = []
        self.exchange.connect(self._heard)

    @property
    def fills(self) -> list[Fill]:
        return self.paper.core.accounts["main"].fills.get(BTC.id, [])

    def _heard(self, event: Event) -> None:
        self.lines.append(repr(event))
        if isinstance(event, FillHeard):
            assert event.fill in self.fills

    def play(self, frames: list[Frame]) -> None:
        for recv_ns, symbol, raw in frames:
            self.paper.advance(recv_ns)
            for event in self.fold.fold(raw, recv_ns, recv_ns, symbol):
                before = len(self.fills)
                self.paper.on_market(event)
                self._check(event, self.fills[before:])
                if isinstance(event, BookChanged):
                    self._quote(event)

    def _quote(self, event: BookChanged) -> None:
        self.books += 1
        if self.books % 200 != 1 or not event.book.is_two_sided:
            return
        for name in self.live:
            self.exchange.send(approved(Cancel(name, BTC.id)))
        self.live = []
        for side, touch in ((Side.BUY, event.book.bids[0][0]), (Side.SELL, event.book.asks[0][0])):
            for away in (0, 300):
                self.sent += 1
                self.live.append(f"q{self.sent}")
                ticks = touch - side.sign * away
                self.exchange.send(approved(place(self.live[-1], side, ticks, 2_000, instrument=BTC.id)))
        if self.books % 1_000 == 1:
            self.sent += 1
            taker = place(f"t{self.sent}", Side.BUY, event.book.asks[0][0] + 50, 5_000, post_only=False)
            self.exchange.send(approved(taker))

    def _check(self, event: Event, fills: list[Fill]) -> None:
        if isinstance(event, Traded):
            trade = event.trade
            assert sum(fill.lots for fill in fills) <= trade.lots
            for fill in fills:
                assert fill.is_maker and fill.side is trade.side.opposite
                assert (fill.ticks - trade.ticks) * fill.side.sign >= 0
        elif isinstance(event, BookChanged):
            for fill in fills:
                touch = event.book.asks[0] if fill.side is Side.BUY else event.book.bids[0]
                assert (fill.ticks - touch[0]) * fill.side.sign >= 0

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


def test_no_fill_is_better_or_larger_than_the_tape_and_two_runs_are_one(frames: list[Frame]) -> None:
    first, second = Maker(), Maker()
    first.play(frames)
    second.play(frames)
    assert first.digest() == second.digest()
    makers = [fill for fill in first.fills if fill.is_maker]
    takers = [fill for fill in first.fills if not fill.is_maker]
    assert len(makers) > 20 and len(takers) > 2
    assert all(min(b.free, b.locked) >= 0 for b in first.exchange.fetch_balances())
