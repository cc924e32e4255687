"""The same engines on a tape, with the paper venue and a stepped clock: one loop, one thread, no chance left.

`TapeRun` steps tape, venue (first) and engines. Hides the order in which things of one moment happen: what is
due at the venue, timers of engines, polls of the gateway, then the frame: the venue hears it before any
engine does. Durations and intervals count tape time. Called by `run.py` for a direct run on a tape, by
benchmarks and by tests. Pacing is the caller's:
`frames` may come as slowly as it likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from api.exchange import IntentStore
from api.gateway import Gateway
from api.risk import Limits
from api.runtime import SteppedClock
from api.types import (
    BookChanged,
    BookLost,
    Fill,
    Instrument,
    InstrumentId,
    SetTrading,
    Step,
    Trading,
)
from api.venues.paper.venue import SteppedPaper
from quote.fold import MarketFold
from strategies.base import Params, Strategy
from strategies.engine import Engine
from strategies.lane import AddEngine, ForWorker, Lane, LaneItem
from strategies.trace import Trace

POLL_NS = 100_000_000  # the gateway's housekeeping, in tape time
STOP_STEP_NS = 10_000_000  # how finely time is stepped while the last cancels settle
STOP_NS = 10_000_000_000  # and for how long


@dataclass(frozen=True, slots=True)
class Seat:
    """One worker of the run."""

    worker: str
    number: int
    instrument: Instrument
    strategy: Strategy
    params: Params
    limits: Limits


@dataclass(frozen=True, slots=True)
class Ended:
    """How the run ended. `remaining`: own orders still open at the venue after the stop (0 on two reads is
    clean).
    """

    remaining: int
    frames: int


class TapeRun:
    """See the module docstring.

    Args:
        fold: rebuilds every market of the tape; `paper`: built over `fold.builders` with `clock`.
        on_fill: each new fill once, before any engine hears it. on_step: each Step that did something.
        on_round: called every `round_ns` of tape time while workers run, with the time.
    """

    def __init__(
        self,
        seats: tuple[Seat, ...],
        *,
        fold: MarketFold,
        paper: SteppedPaper,
        clock: SteppedClock,
        intents: IntentStore,
        desk_tag: str,
        run_no: int,
        duration_ns: int | None,
        on_fill: Callable[[str | None, Fill, Instrument], None],
        on_step: Callable[[Step], None] = lambda step: None,
        on_round: Callable[[int], None] = lambda now_ns: None,
        round_ns: int | None = None,
    ) -> None:
        self.trace = Trace()
        self.fold = fold
        self.paper = paper
        self.clock = clock
        self.fills = 0
        self.ended_ns = 0
        self._pending: deque[LaneItem] = deque()
        self._numbers = {seat.number: seat.worker for seat in seats}
        self._duration_ns = duration_ns
        self._on_fill = on_fill
        self._on_round = on_round
        self._round_ns = round_ns
        instruments = {seat.instrument.id: seat.instrument for seat in seats}
        exchange = paper.exchange("main")
        self.gateway = Gateway(
            exchange,
            paper.listed(),
            clock=clock,
            intents=intents,
            desk_tag=desk_tag,
            run_no=run_no,
            deliver=self._pending.append,
            on_fill=self._fill,
            resolve_worker=self._numbers.get,
        )
        self.lane = Lane(clock, record=on_step, trace=self.trace)
        self.lane.add_gateway(self.gateway)
        self._instruments = instruments
        self._exchange = exchange
        for seat in seats:
            self._seat(seat)

    @property
    def engines(self) -> dict[str, Engine]:
        return self.lane.engines

    @property
    def orders_sent(self) -> int:
        return sum(engine.orders.sent for engine in self.lane.engines.values())

    def play(self, frames: Iterator[tuple[int, str, bytes]], stopping: Callable[[], bool]) -> Ended:
        """Play to the end of the tape, or until `stopping()`; then cancel everything and confirm.

        Markets are followed to the tape's end even when the duration is over before it. A frame or two may
        pass between a `stopping()` that turned True and the stop.
        """
        clock, lane, fold, paper = self.clock, self.lane, self.fold, self.paper
        count = last_ns = 0
        begun = False
        ended: int | None = None
        next_poll = next_round = end_ns = 0
        for recv_ns, symbol, raw in frames:
            count += 1
            last_ns = recv_ns
            if not begun:
                begun = True
                clock.step_to(recv_ns)
                paper.advance(recv_ns)
                self._begin(recv_ns)
                next_poll = recv_ns
                next_round = recv_ns + (self._round_ns or 0)
                end_ns = 2**63 - 1 if self._duration_ns is None else recv_ns + self._duration_ns
            if ended is None:
                while True:
                    due_ns = min(lane.wake_ns(), next_poll, end_ns)
                    venue_ns = paper.core.next_due_ns
                    if venue_ns is not None and venue_ns <= due_ns:
                        due_ns = venue_ns
                    if due_ns > recv_ns:
                        break
                    clock.step_to(due_ns)
                    paper.advance(due_ns)
                    self._drain()
                    if due_ns >= next_poll:
                        self.gateway.poll(due_ns)
                        next_poll = due_ns + POLL_NS
                        self._drain()
                    lane.timers(due_ns)
                    self._drain()
                    if due_ns >= end_ns:
                        break
                if recv_ns >= end_ns or stopping():
                    ended = self._end(
                        min(end_ns, recv_ns), "the duration is over" if recv_ns >= end_ns else "stopped"
                    )
            clock.step_to(recv_ns)
            for event in fold.fold(raw, recv_ns, recv_ns, symbol):
                if ended is None:
                    paper.on_market(event)
                    self._drain()
                    if isinstance(event, (BookChanged, BookLost)):
                        lane.handle(event)
                        self._drain()
            if ended is None and self._round_ns is not None and recv_ns >= next_round:
                self._on_round(recv_ns)
                next_round = recv_ns + self._round_ns
            if ended is not None and stopping():
                break
        if ended is None:
            ended = self._end(last_ns, "end of the tape")
        return Ended(ended, count)

    # ------------------------------------------------------------------ inside

    def _seat(self, seat: Seat) -> None:
        gateway = self.gateway
        engine = Engine(
            seat.worker,
            seat.instrument,
            seat.strategy,
            seat.params,
            seat.limits,
            version=1,
            next_id=lambda: gateway.next_client_id(seat.number),
            others_touch=lambda: gateway.others_touch(seat.instrument.id, seat.worker),
        )
        self.lane.handle(AddEngine(engine, gateway))

    def _begin(self, at_ns: int) -> None:
        self._exchange.connect(self._pending.append)
        self._drain()
        self.gateway.poll(at_ns)
        self._drain()
        for worker in self._numbers.values():
            self.lane.handle(ForWorker(worker, SetTrading(at_ns, Trading.RUN, "")))
        self._drain()

    def _end(self, at_ns: int, reason: str) -> int:
        """Cancel everything and let the cancels settle; what the venue still lists, on two reads."""
        self.ended_ns = at_ns
        self.clock.step_to(at_ns)
        for worker in self._numbers.values():
            self.lane.handle(ForWorker(worker, SetTrading(at_ns, Trading.STOP, reason)))
        self._drain()
        now_ns, until_ns = at_ns, at_ns + STOP_NS
        while self.gateway.live_count and now_ns < until_ns:
            now_ns += STOP_STEP_NS
            self.paper.advance(now_ns)
            self._drain()
            self.gateway.poll(now_ns)
            self._drain()
            self.lane.timers(now_ns)
            self._drain()
        first = self.gateway.count_at_venue(None)
        return max(first, self.gateway.count_at_venue(None), self.gateway.live_count)

    def _drain(self) -> None:
        pending = self._pending
        while pending:
            self.lane.handle(pending.popleft())

    def _fill(self, worker: str | None, fill: Fill) -> None:
        self.fills += 1
        self._on_fill(worker, fill, self._instruments[fill.instrument])


def report(run: TapeRun) -> dict[str, Any]:
    """The one JSON object of a direct run on a tape (see the README for its fields). Amounts are decimal
    text.
    """
    total = realized = unrealized = fees = Decimal(0)
    unknown = False
    currency = ""
    position: dict[str, str] = {}
    for engine in run.engines.values():
        instrument, ledger = engine.instrument, engine.ledger
        currency = instrument.quote
        held = Decimal(position.get(instrument.symbol, "0")) + ledger.position
        position[instrument.symbol] = plain(held)
        mid = _mid(run, instrument)
        gain = ledger.unrealized(mid)
        unknown = unknown or gain is None
        realized += ledger.realized
        unrealized += gain or Decimal(0)
        fees += ledger.fees
        total += ledger.realized + (gain or Decimal(0)) - ledger.fees
    return {
        "schema": 1,
        "event_hash": run.trace.hexdigest(),
        "orders_sent": run.orders_sent,
        "fills": run.fills,
        "position": position,
        "pnl": {
            "total": None if unknown else plain(total),
            "realized": plain(realized),
            "unrealized": None if unknown else plain(unrealized),
            "fees": plain(fees),
            "currency": currency,
        },
        "markets": {
            builder.instrument.symbol: _market(run, key) for key, builder in run.fold.builders.items()
        },
    }


def _mid(run: TapeRun, instrument: Instrument) -> Decimal | None:
    builder = run.fold.builders[instrument.id]
    bid, ask = builder.best_bid, builder.best_ask
    return None if bid is None or ask is None else instrument.tick * (bid[0] + ask[0]) / 2


def _market(run: TapeRun, key: InstrumentId) -> dict[str, Any]:
    stats, instrument = run.fold.stats(key), run.fold.builders[key].instrument
    vwap = None
    if stats.base_lots:
        exact = instrument.tick * stats.quote_ticks_lots / stats.base_lots
        vwap = format(exact.quantize(Decimal("1e-8"), rounding=ROUND_HALF_EVEN), "f")

    def level(found: tuple[int, int] | None) -> list[str] | None:
        return None if found is None else [plain(instrument.price(found[0])), plain(instrument.qty(found[1]))]

    return {
        "diffs_applied": stats.diffs_applied,
        "resyncs": stats.resyncs,
        "trades": stats.trades,
        "base_volume": plain(instrument.qty(stats.base_lots)),
        "taker_buy_volume": plain(instrument.qty(stats.taker_buy_lots)),
        "vwap": vwap,
        "best_bid": level(stats.best_bid),
        "best_ask": level(stats.best_ask),
        "book_ticker_checked": stats.ticker_checked,
        "book_ticker_mismatches": stats.ticker_mismatches,
    }


def plain(value: Decimal) -> str:
    """Decimal text without exponent or trailing zeros; zero is "0"."""
    made = format(value, "f")
    made = made.rstrip("0").rstrip(".") if "." in made else made
    return "0" if made in ("", "-0") else made
