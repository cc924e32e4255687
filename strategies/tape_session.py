"""A direct run on a tape, from its flags to its report: everything is checked before anything is made.

Hides the composition of a `TapeRun`: instruments, seats, limits from the first two-sided book of each market,
the store. Called by `run.py`; printing is handed in. No clock is read here: pacing waits through the function
it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from api.desk import FillView, OrdersView, WorkerSpec, WorkerView
from api.errors import BadInput
from api.runtime import SteppedClock
from api.types import Fill, Instrument, InstrumentId
from api.venues.paper.instruments import VENUE, Listing, load_instruments
from api.venues.paper.settings import PaperSettings
from api.venues.paper.venue import SteppedPaper
from database.intents import IntentLog
from database.place import lock_trading
from database.state import State
from quote.fold import MarketFold
from quote.tape import Tape, open_tape
from strategies import STRATEGIES
from strategies.backtest import Seat, TapeRun, report
from strategies.defaults import complete_limits
from strategies.views import Worker, fill_view, orders_view, worker_view

FLUSH_S = 10.0
DESK_TAG = "tape"  # client ids of a tape run do not depend on chance
Show = Callable[[WorkerView, OrdersView, tuple[FillView, ...], int], None]


@dataclass(frozen=True, slots=True)
class TapeEnd:
    """`report`: the one JSON object. `seconds`: tape time. `remaining`: own orders left at the venue."""

    report: dict[str, Any]
    views: tuple[WorkerView, ...]
    seconds: float
    remaining: int


@dataclass(frozen=True, slots=True)
class TapeSession:
    """A checked direct run, ready to play once."""

    tape: Tape
    listing: Listing
    seats: tuple[Seat, ...]
    workers: tuple[Worker, ...]
    duration_ns: int | None
    interval_ns: int
    seed: int

    @classmethod
    def open(
        cls,
        *,
        tapes: Sequence[Path],
        symbols: Sequence[str],
        strategy: str,
        params: dict[str, Any],
        duration_s: float | None,
        interval_s: float,
        seed: int,
        paper_file: Path | None,
    ) -> TapeSession:
        """Look at everything; make nothing. `params` as the strategy's schema names them.

        Raises:
            BadInput, BadInputs: a tape, symbol, parameter or the instruments file cannot be used.
        """
        chosen = STRATEGIES[strategy]
        parsed = chosen.parse(params)
        listing = Listing() if paper_file is None else load_instruments(paper_file)
        tape = open_tape(tapes)
        by_symbol = {i.symbol: i for i in listing.instruments}
        on_tape = {i.symbol: i for i in tape.carried(listing.instruments)}
        wrong = [s for s in symbols if s not in on_tape]
        if wrong:
            what = "is not on the tape" if wrong[0] in by_symbol else "is unknown"
            raise BadInput("symbol", f"{wrong[0]!r} {what}; allowed: {', '.join(sorted(on_tape))}")
        instruments = [on_tape[s] for s in symbols]
        if len({i.quote for i in instruments}) > 1:
            raise BadInput("symbol", "markets of different quote currencies cannot share one direct run")
        mids = _first_mids(tape, tuple(on_tape.values()))
        seats, workers = [], []
        for number, instrument in enumerate(instruments, 1):
            mid = mids.get(instrument.id)
            if mid is None:
                raise BadInput("tape", f"there is no two-sided book of {instrument.symbol} on it")
            limits, derived = complete_limits(
                chosen,
                parsed,
                {},
                instrument=instrument,
                mid=mid,
                base_total=listing.balances.get(instrument.base, Decimal(0)),
                quote_total=listing.balances.get(instrument.quote, Decimal(0)),
            )
            worker = f"w{number}"
            seats.append(Seat(worker, number, instrument, chosen, parsed, limits))
            spec = WorkerSpec(
                "market_making",
                strategy,
                VENUE,
                instrument.symbol,
                {},
                name=f"direct {instrument.symbol}",
                id=worker,
            )
            workers.append(
                Worker(
                    worker,
                    number,
                    spec,
                    instrument,
                    parsed.as_dict(),
                    dict(limits.as_dict()),
                    derived,
                    1,
                    state="running",
                    reason="",
                )
            )
        return cls(
            tape,
            listing,
            tuple(seats),
            tuple(workers),
            None if duration_s is None else int(duration_s * 1e9),
            int(interval_s * 1e9),
            seed,
        )

    def run(
        self,
        data_dir: Path,
        *,
        stopping: Callable[[], bool],
        wait: Callable[[float], bool],
        pace: float | None,
        show: Show | None,
        trade_log_url: str | None = None,
    ) -> TapeEnd:
        """Play it, with its store in `data_dir`.

        Args:
            pace: tape time per real time; None: as fast as possible. `wait(seconds)` does the waiting.
            show: called once per worker and round of `interval` tape time.

        Raises:
            BadInput: the store cannot be used.
        """
        with lock_trading(data_dir), ExitStack() as ending:
            state = State.open(data_dir, desk_tag=DESK_TAG)
            ending.callback(state.close)
            intents = IntentLog(data_dir / "intents.log")
            ending.callback(intents.close)
            return self._play(state, intents, stopping, wait, pace, show, data_dir, trade_log_url)

    def _play(
        self,
        state: State,
        intents: IntentLog,
        stopping: Callable[[], bool],
        wait: Callable[[float], bool],
        pace: float | None,
        show: Show | None,
        data_dir: Path,
        trade_log_url: str | None,
    ) -> TapeEnd:
        clock = SteppedClock()
        run_no = state.next_run()
        fold = MarketFold(i for i in self.listing.instruments if i.venue_symbol in self.tape.symbols)
        paper = SteppedPaper(
            fold.builders,
            self.listing.instruments,
            self.listing.balances,
            PaperSettings(venue_run=run_no),
            self.seed,
            clock=clock,
        )
        recent: dict[str, list[FillView]] = {worker.id: [] for worker in self.workers}
        trade_log = None
        if trade_log_url is not None:
            from database.journal import TradeLog

            trade_log = TradeLog.open(trade_log_url, data_dir, {i.id: i for i in self.listing.instruments})

        def on_fill(worker: str | None, fill: Fill, instrument: Instrument) -> None:
            state.record_fill(worker or "", fill, instrument)
            if worker is not None:
                recent[worker].append(fill_view(worker, fill, instrument))

        def on_round(now_ns: int) -> None:
            for worker in self.workers:
                fills, recent[worker.id] = tuple(recent[worker.id]), []
                shown = run.engines[worker.id].shown(now_ns)
                if show is not None:
                    view = worker_view(worker, shown, market="REPLAY", now_ns=now_ns)
                    show(view, orders_view(worker, shown, paper.queue_ahead, now_ns), fills, now_ns)

        run = TapeRun(
            self.seats,
            fold=fold,
            paper=paper,
            clock=clock,
            intents=intents,
            desk_tag=DESK_TAG,
            run_no=run_no,
            duration_ns=self.duration_ns,
            on_fill=on_fill,
            on_step=trade_log.record_step if trade_log is not None else lambda step: None,
            on_round=on_round,
            round_ns=self.interval_ns,
        )
        for worker in self.workers:
            worker.started_ns = self.tape.first_ns
            if trade_log is not None:
                trade_log.record_run(self._view(run, worker), "started")
        ended = run.play(_paced(self.tape, pace, wait), stopping)
        run.gateway.settle(lambda: state.flush(FLUSH_S))
        for worker in self.workers:
            worker.state, worker.stopped_ns = "stopped", run.ended_ns
        views = tuple(self._view(run, worker) for worker in self.workers)
        if trade_log is not None:
            for view in views:
                trade_log.record_run(view, "ended")
            trade_log.close()
        return TapeEnd(report(run), views, (run.ended_ns - self.tape.first_ns) / 1e9, ended.remaining)

    def _view(self, run: TapeRun, worker: Worker) -> WorkerView:
        now_ns = run.clock.now_ns()
        return worker_view(worker, run.engines[worker.id].shown(now_ns), market="REPLAY", now_ns=now_ns)


def _first_mids(tape: Tape, instruments: tuple[Instrument, ...]) -> dict[InstrumentId, Decimal]:
    """The first mid of each market: what derived limits are made from."""
    fold = MarketFold(instruments, with_books=False)
    mids: dict[InstrumentId, Decimal] = {}
    for recv_ns, symbol, raw in tape.frames():
        fold.fold(raw, recv_ns, recv_ns, symbol)
        for key, builder in fold.builders.items():
            if key not in mids and builder.is_synced and builder.best_bid and builder.best_ask:
                mids[key] = builder.instrument.tick * (builder.best_bid[0] + builder.best_ask[0]) / 2
        if len(mids) == len(instruments):
            break
    return mids


def _paced(tape: Tape, pace: float | None, wait: Callable[[float], bool]) -> Iterator[tuple[int, str, bytes]]:
    """The tape's frames, no faster than `pace` times real time; waiting ends early when `wait` says True."""
    last_ns = tape.first_ns
    owed_s = 0.0
    for recv_ns, symbol, raw in tape.frames():
        if pace is not None:
            owed_s += (recv_ns - last_ns) / 1e9 / pace
            last_ns = recv_ns
            if owed_s >= 0.02:
                wait(owed_s)
                owed_s = 0.0
        yield recv_ns, symbol, raw
