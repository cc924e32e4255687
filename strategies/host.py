"""Everything a desk stands on, built in one place and taken down in order: store, intents, venue, feeds,
lane, gateway, Desk.

Hides the order of building and unbuilding, and which market stands behind the paper venue: a recording, a
paper venue in another process, the live public market, else the synthetic one. Called by `run.py` for the
desk's process, the terminal's own desk and direct runs; it knows no face.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from api.desk import WorkerSpec, WorkerView
from api.errors import BadInput, BadInputs, Conflict, ExchangeError
from api.exchange import DepthView, Exchange
from api.gateway import Gateway
from api.runtime import Board, Clock, Inbox, Service
from api.types import Event, Fill, Instrument, InstrumentId, Step
from api.venues import trading_venues
from api.venues.paper.client import PaperClient
from api.venues.paper.instruments import VENUE, Listing, load_instruments, settled
from api.venues.paper.settings import PaperSettings
from api.venues.paper.venue import ThreadedPaper
from database.intents import IntentLog
from database.place import lock_trading
from database.state import State
from quote.bus import Bus
from quote.feed import FrameSource, LiveSource, SyntheticSource, TapeSource, probe_live
from quote.market import MarketPublisher
from quote.room import Room, to_inbox
from quote.tape import open_tape
from strategies import STRATEGIES
from strategies.desk import LocalDesk
from strategies.lane import Lane, LaneItem, LaneService
from strategies.roster import Parts

if TYPE_CHECKING:  # the trade log's ORM is imported when it is switched on
    from database.journal import TradeLog

log = logging.getLogger("makerdeck.host")

POLL_S = 0.1  # the gateway's housekeeping
SYNC_S = 1.0  # group fsync of the intent log
FLUSH_S = 2.0  # how long a fill may take to be durable before it is looked at again
PROBE_S = 2.0  # how long the live market may take to answer at start
DEMO_PAUSE_S = 3.0
EVERYTHING = 10**9

DEMO = WorkerSpec(
    kind="market_making",
    strategy="standard",
    venue=VENUE,
    symbol="BTC-USDT",
    params={"spread": 0.05, "quantity": "0.01", "max_orders": 3, "interval": 10},
    limits={},
    name="demo",
)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the composer decides. `tapes` and `paper_url` exclude each other; `speed` is times real time."""

    name: str
    env: str
    version: str
    data_dir: Path
    seed: int = 7
    tapes: tuple[Path, ...] = ()
    speed: float = 1.0
    at_end: str = "loop"
    paper_url: str | None = None
    paper_token: str = field(default="", repr=False)
    paper_file: Path | None = None
    bus_lost_s: float = 5.0
    has_trade_log: bool = False
    trade_log_url: str | None = field(default=None, repr=False)
    live_market: bool = True


def check_specs(s: HostSettings, specs: Sequence[WorkerSpec]) -> None:
    """Look at workers that are to be made before anything is: parameters, symbols, sizes.

    A venue in another process has a list of its own, so symbols and sizes are left to the desk then.

    Raises:
        BadInputs: every mistake found.
    """
    listing = Listing() if s.paper_file is None else load_instruments(s.paper_file)
    by_symbol = {instrument.symbol: instrument for instrument in listing.instruments}
    errors: list[BadInput] = []
    for spec in specs:
        strategy = STRATEGIES[spec.strategy]
        try:
            quantity, _ = strategy.order_size(strategy.parse(spec.params))
        except BadInputs as error:
            errors.extend(one for one in error.errors if one.field not in {e.field for e in errors})
            continue
        instrument = by_symbol.get(spec.symbol)
        if s.paper_url is not None:
            continue
        if instrument is None:
            known = ", ".join(sorted(by_symbol))
            errors.append(BadInput("symbol", f"{spec.symbol!r} is unknown at {spec.venue}; allowed: {known}"))
        elif quantity is not None and quantity < instrument.min_qty:
            text = f"{quantity:f} {instrument.base} is below the venue's minimum; allowed: at least "
            errors.append(BadInput("params.quantity", f"{text}{instrument.min_qty:f}"))
    if errors:
        raise BadInputs(tuple(errors))


class Host:
    """A desk and all it stands on. `start()`, then use `.desk`, then `close()`.

    Raises (on construction):
        BadInput: the data directory, the tape or the instruments file cannot be used; nothing runs then.
        DataDirBusy: the desk before this one does not end.
    """

    def __init__(self, settings: HostSettings, bus: Bus) -> None:
        self._s = settings
        self.bus = bus
        self.clock = Clock()
        self.run_id = secrets.token_hex(8)
        tape = open_tape(settings.tapes) if settings.tapes else None
        listing = Listing() if settings.paper_file is None else load_instruments(settings.paper_file)
        self._lock = lock_trading(settings.data_dir)
        self.state = State.open(settings.data_dir)
        try:
            self.intents = IntentLog(settings.data_dir / "intents.log")
        except BadInput:
            self.state.close()
            raise
        self.run_no = self.state.next_run()
        self.is_first_run = self.run_no == 1
        self._board = Board()
        self._inbox: Inbox[LaneItem] = Inbox()
        self._views: dict[InstrumentId, DepthView] = {}
        self._services: list[Service] = []
        self._remote: PaperClient | None = None
        self._paper: ThreadedPaper | None = None
        fills = [stored.fill for stored in self.state.fills(limit=EVERYTHING)]
        exchange, listeners, queue_ahead, instruments = self._venue(listing, fills)
        self.instruments: Mapping[InstrumentId, Instrument] = {i.id: i for i in instruments}
        self._publisher = MarketPublisher(bus, (), self.clock)
        self._room = self._make_room(tape, listeners)
        self._trade_log = _open_trade_log(settings, self.instruments)
        self.lane = LaneService(
            "lane-1",
            Lane(self.clock, record=self._record, crashed=lambda w, e: self.desk.roster.crashed(w, e)),
            self._inbox,
            self.clock,
            self._board,
        )
        self.gateway = self._gateway(exchange, fills)
        self.lane.lane.add_gateway(self.gateway)
        self.desk = LocalDesk(
            Parts(
                name=settings.name,
                env=settings.env,
                version=settings.version,
                run_id=self.run_id,
                data_dir=settings.data_dir,
                clock=self.clock,
                state=self.state,
                bus=bus,
                board=self._board,
                lane=self.lane,
                gateways={exchange.venue: self.gateway},
                instruments=self.instruments,
                market=self._room,
                queue_ahead=queue_ahead,
                venues=self._venues,
                bus_lost_s=settings.bus_lost_s,
                has_trade_log=self._trade_log is not None,
                on_run=self._run_changed,
            )
        )

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Start every thread, bring workers back, connect the account. The demo worker comes with
        `make_demo`.
        """
        self.state.on_trouble = lambda text: self.desk.roster.trouble("store", text)
        if self._paper is not None:
            self._paper.start()
        self.lane.service.start()
        self.desk.open()  # before the venue's first word: a fill it tells again finds its worker
        self._services.append(Service("gateway-poll", self._poll, restart_after_s=1.0).start())
        self.gateway.exchange.connect(self._inbox.put)
        self._publisher.start()
        log.info(
            "desk=%s run=%d market=%s data=%s", self._s.name, self.run_no, self._room.label, self._s.data_dir
        )

    def make_demo(self) -> None:
        """On the first start of an empty data directory: create and start one paper worker named demo."""
        if self.is_first_run and not self.desk.workers():
            self._services.append(Service("demo", self._demo).start())

    def close(self) -> bool:
        """Stop in order: workers, orders, feeds, venue, store. True when nothing of ours is left at the
        venue.
        """
        clean = self.desk.close()
        for service in self._services:
            service.stop()
        for service in self._services:
            service.join(2.0)
        self._publisher.stop()
        self._room.close()
        self.lane.service.stop()
        self.lane.service.join(2.0)
        self.gateway.exchange.close()
        if self._paper is not None:
            self._paper.close()
        if self._trade_log is not None:
            self._trade_log.close()
        self.gateway.settle(lambda: self.state.flush(FLUSH_S))
        kept = self.state.close()
        self.intents.close()
        self._lock.release()
        return clean and kept

    # ------------------------------------------------------------------ building

    def _venue(
        self, listing: Listing, fills: list[Fill]
    ) -> tuple[Exchange, list[Callable[[Event], None]], Callable[[str], int | None], Sequence[Instrument]]:
        s = self._s
        to_lane = to_inbox(self._inbox.put_latest, self._inbox.put_instead)
        if s.paper_url is not None:
            client = PaperClient(s.paper_url, s.paper_token, clock=self.clock)
            try:
                listed = client.fetch_instruments()
            except ExchangeError as error:
                client.close()
                raise BadInput("paper_url", f"no paper venue answers there: {error.message}") from None
            self._remote = client
            return client, [to_lane], client.queue_ahead, listed
        paper = ThreadedPaper(
            self._views,
            listing.instruments,
            listing.balances,
            PaperSettings(venue_run=self.run_no),
            s.seed,
            clock=self.clock,
        )
        self._paper = paper
        exchange = paper.exchange("main", settled(listing.balances, fills, listing.instruments))
        return exchange, [paper.on_market, to_lane], paper.queue_ahead, listing.instruments

    def _make_room(self, tape: Any, listeners: list[Callable[[Event], None]]) -> Room:
        s, clock = self._s, self.clock
        together = False
        instruments: Iterable[Instrument] = self.instruments.values()
        make: Callable[[Sequence[Instrument]], FrameSource]
        if self._remote is not None:
            remote = self._remote
            frames = remote.frames()
            label, together = frames.label, True
            make = lambda markets: frames  # noqa: E731
        elif tape is not None:
            label, together = "REPLAY", True
            instruments = tape.carried(instruments)
            make = lambda markets: TapeSource(tape, clock, s.speed, s.at_end)  # noqa: E731
        elif s.live_market and probe_live(PROBE_S):
            label = "LIVE"
            make = lambda markets: LiveSource(markets, clock)  # noqa: E731
        else:
            label = "SYNTHETIC"
            make = lambda markets: SyntheticSource(markets, s.seed, clock)  # noqa: E731
        return Room(
            label,
            instruments,
            make,
            clock,
            listeners,
            self._views,
            together=together,
            on_feed=self._publisher.add,
        )

    def _gateway(self, exchange: Exchange, fills: list[Fill]) -> Gateway:
        last: dict[InstrumentId, int] = {}
        for fill in fills:
            last[fill.instrument] = max(fill.venue_ns, last.get(fill.instrument, 0))
        return Gateway(
            exchange,
            self.instruments.values(),
            clock=self.clock,
            intents=self.intents,
            desk_tag=self.state.identity().desk_tag,
            run_no=self.run_no,
            deliver=self._inbox.put,
            on_fill=self._heard_fill,
            resolve_worker=lambda number: self.desk.roster.owner(number),
            known_trades=[fill.key for fill in fills],
            last_fill_ns=last,
            open_intents=[(i.worker, i.place, i.at_ns) for i in self.intents.open_intents()],
        )

    def _venues(self) -> list[dict[str, Any]]:
        return [
            {
                "name": entry.name,
                "title": entry.title,
                "envs": list(entry.envs),
                "market_types": ["spot"],
                "symbols": sorted(i.symbol for i in self.instruments.values() if self._room.carries(i)),
                "configured": True,
                "capabilities": msgspec.to_builtins(self.gateway.exchange.capabilities),
            }
            for entry in trading_venues()
            if entry.name == self.gateway.exchange.venue
        ]

    # ------------------------------------------------------------------ threads

    def _poll(self, service: Service) -> None:
        synced_ns = 0
        while not service.wait(POLL_S):
            now_ns = self.clock.now_ns()
            self.gateway.poll(now_ns)
            if self.gateway.trouble:
                self.desk.roster.trouble("account", self.gateway.trouble)
            else:
                self.desk.roster.trouble("account", "")
            if now_ns - synced_ns > SYNC_S * 1e9:
                synced_ns = now_ns
                self.gateway.settle(lambda: self.state.flush(FLUSH_S))
                self._sync_intents()

    def _sync_intents(self) -> None:
        try:
            self.intents.sync()
        except OSError as error:
            self.desk.roster.trouble("intents", f"the intent log cannot be synced: {error.strerror or error}")
        else:
            self.desk.roster.trouble("intents", "")

    def _demo(self, service: Service) -> None:
        while not service.stopping:
            try:
                made = self.desk.create(DEMO, by="first start", is_demo=True)
                self.desk.start(made.id, by="first start")
                return
            except BadInputs as error:
                log.info("the demo worker waits: %s", error)
            except Conflict as error:
                log.info("the demo worker was not started: %s", error)
                return
            if service.wait(DEMO_PAUSE_S):
                return

    def _record(self, step: Step) -> None:
        if self._trade_log is not None:
            self._trade_log.record_step(step)

    def _heard_fill(self, worker: str | None, fill: Fill) -> None:
        self.desk.roster.heard_fill(worker, fill)
        if self._trade_log is not None and worker not in self.lane.lane.engines:
            instrument = self.instruments[fill.instrument]
            self._trade_log.record_fill(worker or "", fill, instrument, self.clock.now_ns())

    def _run_changed(self, view: WorkerView, what: str) -> None:
        if self._trade_log is not None:
            self._trade_log.record_run(view, what)


def _open_trade_log(s: HostSettings, instruments: Mapping[InstrumentId, Instrument]) -> TradeLog | None:
    if not s.has_trade_log:
        return None
    from database.journal import TradeLog

    return TradeLog.open(s.trade_log_url, s.data_dir, instruments)
