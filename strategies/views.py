"""From an engine's picture to the views of `api.desk`. Pure; every number that leaves the process passes
here.

Called by the desk's publisher. Ticks and lots end here: everything beyond is `Decimal`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from api.desk import (
    FillView,
    OrdersView,
    OrderView,
    ReceiptView,
    SampleView,
    SideView,
    StatsView,
    WorkerSpec,
    WorkerView,
)
from api.types import Fill, Instrument, Side, Term, Trading
from strategies.engine import Figures, Shown, SideShown


@dataclass(slots=True)
class Worker:
    """What the desk knows of one worker besides its engine. Owned by the desk, changed under its lock."""

    id: str
    number: int
    spec: WorkerSpec
    instrument: Instrument
    params: dict[str, Any]
    limits: dict[str, Any]
    derived: tuple[str, ...]
    version: int
    is_demo: bool = False
    state: str = "stopped"
    reason: str = "not started"
    started_ns: int | None = None
    stopped_ns: int | None = None
    receipt: ReceiptView | None = None
    samples: list[SampleView] = field(default_factory=list)


def worker_view(worker: Worker, shown: Shown | None, *, market: str, now_ns: int) -> WorkerView:
    """One worker as faces see it; without a picture yet everything the engine knows is unknown."""
    spec, instrument = worker.spec, worker.instrument
    tick_of = instrument.price
    book = None if shown is None else shown.book
    two_sided = book is not None and book.is_two_sided
    running_s = 0.0
    if worker.started_ns is not None:
        until_ns = now_ns if worker.stopped_ns is None else worker.stopped_ns
        running_s = max(0.0, (until_ns - worker.started_ns) / 1e9)
    mid = None if shown is None else shown.mid
    base, quote = (None, None) if shown is None else (shown.base_total, shown.quote_total)
    total = None if base is None or quote is None or mid is None else quote + base * mid
    return WorkerView(
        id=worker.id,
        name=spec.name or worker.id,
        kind=spec.kind,
        strategy=spec.strategy,
        venue=spec.venue,
        account=spec.account,
        env=spec.env,
        symbol=spec.symbol,
        instrument=str(instrument.id),
        base=instrument.base,
        quote=instrument.quote,
        tick=instrument.tick,
        lot=instrument.lot,
        params=worker.params,
        params_version=worker.version,
        limits=worker.limits,
        limits_derived=worker.derived,
        resume_after_restart=spec.resume_after_restart,
        is_demo=worker.is_demo,
        state=worker.state,
        word=_word(worker.state, shown),
        reason=_reason(worker, shown),
        market=market,
        buy=_side(None if shown is None else shown.buy, instrument),
        sell=_side(None if shown is None else shown.sell, instrument),
        position=None if shown is None else shown.life.position,
        entry_price=None if shown is None else shown.life.entry_price,
        mid=mid,
        best_bid=tick_of(book.bids[0][0]) if book is not None and two_sided else None,
        best_ask=tick_of(book.asks[0][0]) if book is not None and two_sided else None,
        base_balance=base,
        quote_balance=quote,
        total_quote=total,
        market_ns=None if book is None else book.recv_ns,
        published_ns=now_ns,
        stats=_stats(shown),
        open_orders=0 if shown is None else len(shown.orders),
        unknown_orders=0 if shown is None else shown.unknown,
        started_ns=worker.started_ns,
        stopped_ns=worker.stopped_ns,
        running_s=round(running_s, 1),
        receipt=worker.receipt,
    )


def _word(state: str, shown: Shown | None) -> str:
    if state in ("halted", "failed", "stopping", "stopped"):
        return state.upper()
    if shown is None:
        return "WAITING"
    return shown.word if shown.word != "STOPPED" else "WAITING"


def _reason(worker: Worker, shown: Shown | None) -> str:
    if worker.state != "running" or shown is None:
        return worker.reason
    if shown.trading is Trading.DISARMED:
        return "starting"  # the lane has not taken the start from its inbox yet
    reasons = [f"{side}: {s.reason}" for side, s in (("buy", shown.buy), ("sell", shown.sell)) if s.reason]
    if len(reasons) == 2 and shown.buy.reason == shown.sell.reason:
        return shown.buy.reason or ""
    return "; ".join(reasons)


def _side(side: SideShown | None, instrument: Instrument) -> SideView:
    if side is None:
        return SideView(False, "not started", None, None, 0, ())
    return SideView(
        is_quoting=side.orders > 0,
        reason=side.reason,
        price=None if side.ticks is None else instrument.price(side.ticks),
        qty=instrument.qty(side.lots) if side.orders else None,
        orders=side.orders,
        terms=terms_text(side.terms, instrument),
    )


def terms_text(terms: tuple[Term, ...], instrument: Instrument) -> tuple[tuple[str, str], ...]:
    """Terms as text with two digits below the tick, signs on all but the first."""
    digits = max(0, -int(instrument.tick.normalize().as_tuple().exponent)) + 2
    return tuple(
        (name, f"{value:.{digits}f}" if i == 0 else f"{value:+.{digits}f}")
        for i, (name, value) in enumerate(terms)
    )


def _stats(shown: Shown | None) -> StatsView:
    zero = Decimal(0)
    if shown is None:
        return StatsView(
            0, 0, 0, zero, zero, zero, zero, zero, zero, zero, None, None, None, zero, zero, zero, 0, 0, 0, 0
        )
    life: Figures = shown.life
    run: Figures = shown.run
    return StatsView(
        trades=life.trades,
        buys=life.buys,
        sells=life.sells,
        maker_buy_base=life.maker_buy_base,
        maker_sell_base=life.maker_sell_base,
        taker_buy_base=life.taker_buy_base,
        taker_sell_base=life.taker_sell_base,
        traded_quote=life.traded_quote,
        fees=life.fees,
        realized=life.realized,
        unrealized=life.unrealized,
        net=life.net,
        wear_rate=life.wear_rate,
        run_realized=run.realized,
        run_fees=run.fees,
        run_traded_quote=run.traded_quote,
        run_trades=run.trades,
        orders_sent=shown.sent,
        cancels_sent=shown.canceled,
        refused=shown.refused,
    )


def orders_view(
    worker: Worker, shown: Shown | None, queue_ahead: Callable[[str], int | None], now_ns: int
) -> OrdersView:
    """Live orders, best price first on each side, sells on top as in a ladder."""
    if shown is None:
        return OrdersView(worker.id, now_ns, ())
    instrument = worker.instrument
    ordered = sorted(shown.orders, key=lambda o: (o.side is Side.BUY, -o.ticks))
    return OrdersView(
        worker.id,
        now_ns,
        tuple(
            OrderView(
                client_id=o.client_id,
                worker=worker.id,
                side=o.side.value,
                level=o.level,
                price=instrument.price(o.ticks),
                qty=instrument.qty(o.lots),
                filled=instrument.qty(o.filled_lots),
                status=o.status.value,
                request=None if o.request is None else o.request.value,
                is_unknown=o.is_unknown,
                created_ns=o.created_ns,
                queue_ahead=None if (ahead := queue_ahead(o.client_id)) is None else instrument.qty(ahead),
                terms=terms_text(o.why, instrument),
            )
            for o in ordered
        ),
    )


def fill_view(worker_id: str, fill: Fill, instrument: Instrument) -> FillView:
    """One fill for the faces."""
    return FillView(
        trade_id=fill.trade_id,
        worker=worker_id,
        client_id=fill.client_id,
        venue=fill.instrument.venue,
        account=fill.account,
        symbol=fill.instrument.symbol,
        side=fill.side.value,
        price=instrument.price(fill.ticks),
        qty=instrument.qty(fill.lots),
        value=instrument.value(fill.ticks, fill.lots),
        fee=fill.fee,
        fee_asset=fill.fee_asset,
        is_maker=fill.is_maker,
        venue_ns=fill.venue_ns,
    )


def sample(shown: Shown, instrument: Instrument, now_ns: int) -> SampleView:
    """One point of the chart."""
    tick = instrument.tick_float

    def price(side: SideShown) -> float | None:
        return None if side.ticks is None or not side.orders else side.ticks * tick

    net = shown.life.net
    return SampleView(
        at_ns=now_ns,
        mid=None if shown.mid is None else float(shown.mid),
        bid=price(shown.buy),
        ask=price(shown.sell),
        position=float(shown.life.position),
        net=None if net is None else float(net),
    )
