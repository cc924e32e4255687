"""Housekeeping of a desk: ends runs whose duration is over, finishes stops that were in doubt, watches the
KILL file, the bus and the store.

A thread of its own beside the lane; it decides nothing about quotes, it only tells engines what they cannot
see: that no operator can reach this desk, or that what happens could not be written down.
"""

from __future__ import annotations

from collections.abc import Callable

from api.runtime import Service
from api.types import LinkChanged, SetTrading, Trading
from strategies.roster import RUNNING, Roster
from strategies.views import Worker

KEEP_S = 0.25
KILL_FILE = "KILL"


class Keeper:
    """See the module docstring.

    Args:
        kill: called with a reason when the KILL file appears.
        finish: ends one worker's run, with the reason; returns at once.
    """

    def __init__(
        self, roster: Roster, kill: Callable[[str], None], finish: Callable[[Worker, str], None]
    ) -> None:
        self._roster = roster
        self._kill = kill
        self._finish = finish
        self._links: dict[str, str] = {}
        self._is_lane_lost = False
        self.service = Service("desk-keeper", self._run, restart_after_s=1.0)

    def _run(self, service: Service) -> None:
        while not service.wait(KEEP_S):
            self.look()

    def look(self) -> None:
        """One round."""
        roster, parts = self._roster, self._roster.parts
        if not roster.kill_reason and (parts.data_dir / KILL_FILE).exists():
            self._kill(f"file {KILL_FILE} in the data directory")
        lost_s = parts.bus.lost_for_s
        is_lost = lost_s >= parts.bus_lost_s
        self._link(
            "operator",
            f"the bus is lost for {parts.bus_lost_s:g} s, nobody can reach this desk" if is_lost else "",
        )
        self._link("store", parts.state.trouble)
        roster.save_unsaved()
        self._watch_lane()
        for worker in list(roster.workers.values()):
            shown = roster.shown(worker.id)
            if shown is None:
                continue
            is_this_run = shown.started_ns == worker.started_ns  # else the picture is older than the start
            is_over = worker.state in ("running", "paused") and shown.trading is Trading.STOP and is_this_run
            is_settled = worker.state == "stopping" and not roster.gateway(worker).live_of(worker.id)[0]
            if is_over or is_settled:
                self._finish(worker, shown.reason or worker.reason)

    def _watch_lane(self) -> None:
        """A trading thread that died or hangs cannot see to its orders: the gateways cancel them."""
        roster, parts = self._roster, self._roster.parts
        if parts.lane.is_well:
            self._is_lane_lost = False
            return
        for worker in list(roster.workers.values()):
            if worker.state in RUNNING:
                roster.gateway(worker).abandon(worker.id, "the trading thread does not answer")
                roster.tell(
                    worker,
                    SetTrading(parts.clock.now_ns(), Trading.STOP, "the trading thread did not answer"),
                )
                roster.fail(worker.id, "the trading thread does not answer")
        if not self._is_lane_lost:
            self._is_lane_lost = True
            roster.notice(
                "error",
                "",
                "the trading thread does not answer: its orders are being canceled; start the desk anew",
            )

    def _link(self, link: str, trouble: str) -> None:
        if bool(self._links.get(link)) == bool(trouble):
            return
        self._links[link] = trouble
        roster = self._roster
        now_ns = roster.parts.clock.now_ns()
        roster.parts.lane.inbox.put(LinkChanged(now_ns, "desk", link, not trouble, trouble or "back"))
        roster.notice("error" if trouble else "info", "", trouble or f"{link}: it is back; quoting goes on")
