"""Ending runs: cancel, wait, and believe an empty list only when the venue said so twice. With a receipt.

Called by the desk's stop, kill and close, and by the keeper when a duration is over. Hides how long each step
may take. A receipt says what really happened; what is in doubt at the deadline stays "stopping" and is
finished later by the keeper.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial

from api.desk import ReceiptView
from api.errors import ExchangeError
from api.gateway import CONFIRM_GAP_S, Gateway
from api.runtime import ClockLike
from api.types import SetTrading, Trading
from strategies.roster import RUNNING, Roster
from strategies.views import Worker

log = logging.getLogger("makerdeck.desk")

ACK_S = 1.0  # the lane shows what it was told within this time
LANE_S = 2.0  # a lane that did not act on a stop for so long is passed over


def stop_all(roster: Roster, workers: Sequence[Worker], reason: str, deadline_s: float) -> bool:
    """Stop these workers at the same time; True when each was confirmed empty. Each gets its receipt.

    The engines are told before anything else, and nothing that is written down holds this up. A lane that
    does not act within `LANE_S` is passed over: the gateway cancels by itself.
    """
    clock = roster.parts.clock
    began_ns = clock.now_ns()
    before: dict[str, tuple[int, int, int]] = {}
    for worker in workers:
        shown = roster.shown(worker.id)
        asked = roster.gateway(worker).live_of(worker.id)[0]
        before[worker.id] = (asked, 0, 0) if shown is None else (asked, shown.fills, shown.ended_filled)
        with roster.lock:
            worker.state, worker.reason = "stopping", reason
            worker.stopped_ns = worker.stopped_ns or began_ns
            roster.tell(worker, SetTrading(began_ns, Trading.STOP, reason))

    def left_s() -> float:
        return deadline_s - (clock.now_ns() - began_ns) / 1e9

    for worker in workers:
        if not roster.wait_for(worker, lambda s: s.trading is Trading.STOP, min(LANE_S, max(0.05, left_s()))):
            roster.gateway(worker).abandon(worker.id, reason)
    for worker in workers:
        gateway = roster.gateway(worker)
        roster.wait_until(partial(_has_none, gateway, worker.id), max(0.1, left_s()))
    number = workers[0].number if len(workers) == 1 else None
    remaining = {
        gateway: confirm_none(gateway, number, clock, max(0.5, left_s()))
        for gateway in dict.fromkeys(roster.gateway(worker) for worker in workers)
    }
    ended = [_end(roster, w, remaining[roster.gateway(w)], before[w.id], began_ns) for w in workers]
    return all(ended)


def _has_none(gateway: Gateway, worker_id: str) -> bool:
    return not gateway.live_of(worker_id)[0]


def _end(
    roster: Roster, worker: Worker, remaining: int | None, before: tuple[int, int, int], began_ns: int
) -> bool:
    parts, gateway = roster.parts, roster.gateway(worker)
    asked, fills_before, filled_before = before
    live, unknown = gateway.live_of(worker.id)
    confirmed = remaining == 0 and live == 0
    if confirmed:  # what the engine still says of its last orders, for the receipt
        roster.wait_for(worker, lambda s: not s.orders, ACK_S)
    shown = roster.shown(worker.id)
    now_ns = parts.clock.now_ns()
    after_s = (now_ns - began_ns) / 1e9
    filled_orders = 0 if shown is None else max(0, shown.ended_filled - filled_before)
    canceled = max(0, asked - live - filled_orders)
    with roster.lock:
        worker.receipt = ReceiptView(
            action="stop",
            at_ns=began_ns,
            asked=asked,
            canceled=canceled,
            filled=0 if shown is None else max(0, shown.fills - fills_before),
            remaining=live if remaining is None else max(remaining, live),
            unknown=unknown,
            confirmed=confirmed,
            confirmed_ns=now_ns if confirmed else None,
            text=(
                f"{canceled} orders canceled, {filled_orders} filled, none left: the venue said so twice"
                if confirmed
                else f"{live} orders still live or in doubt after {after_s:.0f} s"
                + ("; the venue could not be read" if remaining is None else "")
            )
            + ". The position stays.",
        )
        if confirmed:
            worker.state = "halted" if roster.kill_reason else "stopped"
            roster.tell(worker, SetTrading(now_ns, Trading.DISARMED, worker.reason))
    roster.save(worker)
    if confirmed:
        roster.wait_for(worker, lambda s: s.trading is Trading.DISARMED, ACK_S)
    roster.notice(
        "info" if confirmed else "error",
        worker.id,
        f"{worker.spec.name} {worker.reason}: {worker.receipt.text}",
    )
    parts.on_run(roster.view(worker), "ended")
    return confirmed


def kill_all(roster: Roster, reason: str, by: str, deadline_s: float) -> ReceiptView:
    """Refuse everything new, stop every engine, latch it, cancel everything everywhere, and say what the
    venues confirmed. In that order; each gateway by itself, so that a slow or broken one holds up no other.

    Works without the lane and without the store.
    """
    parts = roster.parts
    began_ns = parts.clock.now_ns()
    asked = 0
    for gateway in parts.gateways.values():
        asked += gateway.latch(reason)
    with roster.lock:
        roster.kill_reason = reason
        workers = list(roster.workers.values())
        ran = [worker for worker in workers if worker.state in RUNNING]
        for worker in workers:
            worker.reason = reason
            if worker in ran:
                worker.stopped_ns = began_ns
            worker.state = "halted"
            roster.tell(worker, SetTrading(began_ns, Trading.STOP, f"killed: {reason}"))
    fills_before = roster.fill_count
    try:
        parts.state.set_kill(reason, by, began_ns)
    except OSError as error:
        roster.trouble("kill", f"the latch could not be stored: {error}")
        log.error("the kill latch could not be stored: %s", error)
    for gateway in parts.gateways.values():
        try:
            gateway.kill(reason)
        except (ExchangeError, RuntimeError) as error:  # not connected yet: its poll cancels what is doomed
            log.error("venue=%s cannot cancel just now: %s", gateway.exchange.venue, error)
    counts = [confirm_none(gateway, None, parts.clock, deadline_s) for gateway in parts.gateways.values()]
    live = sum(gateway.live_count for gateway in parts.gateways.values())
    confirmed = live == 0 and all(count == 0 for count in counts)
    now_ns = parts.clock.now_ns()
    receipt = ReceiptView(
        action="kill",
        at_ns=began_ns,
        asked=asked,
        canceled=max(0, asked - live),
        filled=roster.fill_count - fills_before,
        remaining=max(live, sum(count or 0 for count in counts)),
        unknown=sum(gateway.unknown_count for gateway in parts.gateways.values()),
        confirmed=confirmed,
        confirmed_ns=now_ns if confirmed else None,
        text=(
            f"{asked} orders ended everywhere; the venue confirmed none twice"
            if confirmed
            else f"{asked} cancels sent, {live} orders still live or in doubt; canceling goes on"
        )
        + ". Nothing was sold or bought to close; positions stay.",
    )
    with roster.lock:
        for worker in ran:
            worker.receipt = receipt  # of the whole kill: every browser sees what it did
        if roster.kill_reason:
            for worker in workers:
                roster.tell(worker, SetTrading(now_ns, Trading.DISARMED, f"killed: {reason}"))
    for worker in workers:
        roster.save(worker)
    return receipt


def confirm_none(gateway: Gateway, number: int | None, clock: ClockLike, deadline_s: float) -> int | None:
    """Open orders the venue lists for worker `number` (None: for this desk): 0 only when two reads in a row
    agree.

    None: it could not be read. No read begins after the deadline.
    """
    waiter = threading.Event()
    until_ns = clock.now_ns() + int(deadline_s * 1e9)
    empty, last = 0, None
    while True:
        try:
            last = gateway.count_at_venue(number)
            empty = empty + 1 if last == 0 else 0
        except ExchangeError as error:
            last, empty = None, 0
            log.warning("venue=%s cannot confirm open orders: %s", gateway.exchange.venue, error.message)
        if empty >= 2:
            return 0
        waiter.wait(CONFIRM_GAP_S)
        if clock.now_ns() >= until_ns:
            return 1 if last == 0 else last
