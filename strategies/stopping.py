"""Ending runs: cancel, wait, and believe an empty list only when the venue said so twice. With a receipt.

Called by the desk's stop, kill and close, and by the keeper when a duration is over. Hides how long each step
may take. A receipt says what really happened; what is in doubt at the deadline stays "stopping" and is
finished later by the keeper.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from api.desk import ReceiptView
from api.errors import ExchangeError
from api.gateway import CONFIRM_GAP_S, Gateway
from api.types import SetTrading, Trading
from strategies.roster import RUNNING, Roster
from strategies.views import Worker

log = logging.getLogger("makerdeck.desk")

ACK_S = 1.0  # the lane shows what it was told within this time


def stop_all(roster: Roster, workers: Sequence[Worker], reason: str, deadline_s: float) -> bool:
    """Stop these workers at the same time; True when each was confirmed empty. Each gets its receipt."""
    clock = roster.parts.clock
    began_ns = clock.now_ns()
    asked: dict[str, int] = {}
    filled: dict[str, int] = {}
    for worker in workers:
        shown = roster.shown(worker.id)
        asked[worker.id] = roster.gateway(worker).live_of(worker.id)[0]
        filled[worker.id] = 0 if shown is None else shown.fills
        with roster.lock:
            worker.state, worker.reason = "stopping", reason
            worker.stopped_ns = worker.stopped_ns or began_ns
            roster.parts.state.save_worker(roster.row(worker))
        roster.tell(worker, SetTrading(began_ns, Trading.STOP, reason))

    def left_s() -> float:
        return deadline_s - (clock.now_ns() - began_ns) / 1e9

    confirmed = True
    for worker in workers:
        gateway = roster.gateway(worker)
        roster.wait_for(
            worker,
            lambda s, w=worker, g=gateway: (  # type: ignore[misc]
                s.trading is Trading.STOP and not s.orders and not g.live_of(w.id)[0]
            ),
            max(0.1, left_s()),
        )
    remaining = {
        gateway: confirm_none(gateway, workers[0].number if len(workers) == 1 else None, max(0.5, left_s()))
        for gateway in dict.fromkeys(roster.gateway(worker) for worker in workers)
    }
    for worker in workers:
        confirmed = (
            _end(roster, worker, remaining[roster.gateway(worker)], asked, filled, began_ns) and confirmed
        )
    return confirmed


def _end(
    roster: Roster,
    worker: Worker,
    remaining: int | None,
    asked: dict[str, int],
    filled: dict[str, int],
    began_ns: int,
) -> bool:
    parts, gateway = roster.parts, roster.gateway(worker)
    live, unknown = gateway.live_of(worker.id)
    confirmed = remaining == 0 and live == 0
    shown = roster.shown(worker.id)
    now_ns = parts.clock.now_ns()
    after_s = (now_ns - began_ns) / 1e9
    with roster.lock:
        worker.receipt = ReceiptView(
            action="stop",
            at_ns=began_ns,
            asked=asked[worker.id],
            canceled=max(0, asked[worker.id] - live),
            filled=0 if shown is None else max(0, shown.fills - filled[worker.id]),
            remaining=live if remaining is None else max(remaining, live),
            unknown=unknown,
            confirmed=confirmed,
            confirmed_ns=now_ns if confirmed else None,
            text=(
                f"{asked[worker.id]} orders canceled, none left: the venue said so twice"
                if confirmed
                else f"{live} orders still live or in doubt after {after_s:.0f} s"
                + ("; the venue could not be read" if remaining is None else "")
            )
            + ". The position stays.",
        )
        if confirmed:
            worker.state = "halted" if roster.kill_reason else "stopped"
        parts.state.save_worker(roster.row(worker))
    if confirmed:
        roster.tell(worker, SetTrading(now_ns, Trading.DISARMED, worker.reason))
        roster.wait_for(worker, lambda s: s.trading is Trading.DISARMED, ACK_S)
    roster.notice(
        "info" if confirmed else "error",
        worker.id,
        f"{worker.spec.name} {worker.reason}: {worker.receipt.text}",
    )
    parts.on_run(roster.view(worker), "ended")
    return confirmed


def kill_all(roster: Roster, reason: str, by: str, deadline_s: float) -> ReceiptView:
    """Refuse everything new, cancel everything everywhere, latch it, and say what the venues confirmed.

    Works without the lane: gateways cancel by themselves before anybody is told.
    """
    parts = roster.parts
    began_ns = parts.clock.now_ns()
    asked = sum(gateway.kill(reason) for gateway in parts.gateways.values())
    roster.kill_reason = reason
    try:
        parts.state.set_kill(reason, by, began_ns)
    except OSError as error:
        roster.trouble("kill", f"the latch could not be stored: {error}")
        log.error("the kill latch could not be stored: %s", error)
    fills_before = roster.fill_count
    with roster.lock:
        workers = list(roster.workers.values())
        ran = [worker for worker in workers if worker.state in RUNNING]
        for worker in workers:
            worker.reason = reason
            if worker in ran:
                worker.stopped_ns = began_ns
            worker.state = "halted"
    for worker in workers:
        roster.tell(worker, SetTrading(began_ns, Trading.STOP, f"killed: {reason}"))
    counts = [confirm_none(gateway, None, deadline_s) for gateway in parts.gateways.values()]
    for worker in workers:
        roster.tell(worker, SetTrading(parts.clock.now_ns(), Trading.DISARMED, reason))
        try:
            parts.state.save_worker(roster.row(worker))
        except OSError as error:
            log.error("worker=%s could not be stored: %s", worker.id, error)
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
            f"{asked} orders canceled everywhere; the venue confirmed none twice"
            if confirmed
            else f"{asked} cancels sent, {live} orders still live or in doubt; canceling goes on"
        )
        + ". Nothing was sold or bought; positions stay.",
    )
    with roster.lock:
        for worker in ran:
            worker.receipt = receipt  # of the whole kill: every browser sees what it did
    return receipt


def confirm_none(gateway: Gateway, number: int | None, deadline_s: float) -> int | None:
    """Open orders the venue lists for worker `number` (None: for this desk): 0 only when two reads in a row
    agree.

    None: it could not be read until the deadline.
    """
    waiter = threading.Event()
    tries = max(2, int(deadline_s / CONFIRM_GAP_S))
    empty, last = 0, None
    for _ in range(tries):
        try:
            last = gateway.count_at_venue(number)
            empty = empty + 1 if last == 0 else 0
        except ExchangeError as error:
            last, empty = None, 0
            log.warning("venue=%s cannot confirm open orders: %s", gateway.exchange.venue, error.message)
        if empty >= 2:
            return 0
        waiter.wait(CONFIRM_GAP_S)
    return 1 if last == 0 else last
