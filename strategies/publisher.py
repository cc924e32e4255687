"""Snapshots of the desk onto the bus, at a fixed pace, off every hot path.

Called by nobody: it is a thread of its own that reads the board and the desk and publishes the topics of
`api.desk`. Only what changed goes out at its pace; everything once a second, so that readers can tell a
quiet desk from a dead one.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from api.desk import (
    TOPIC_DESK,
    TOPIC_FILLS,
    TOPIC_NOTICES,
    TOPIC_ORDERS,
    TOPIC_SERIES,
    TOPIC_WORKER,
    DeskView,
    NoticesView,
    OrdersView,
    WorkerView,
)
from api.runtime import Board, ClockLike, Service
from quote.bus import Bus
from strategies.roster import Roster

PUBLISH_S = 0.1  # pace of what changed
TTL_S = 10.0  # a topic nobody refreshes for so long is gone: its desk is not there


class Source(Protocol):
    """What the publisher asks of the desk."""

    def view(self) -> DeskView: ...

    def worker(self, worker_id: str) -> WorkerView: ...

    def orders(self, worker_id: str) -> OrdersView: ...

    def notices(self) -> NoticesView: ...


class Publisher:
    """See the module docstring. A new fill or notice goes out at the next beat, not at the next second."""

    def __init__(self, bus: Bus, board: Board, clock: ClockLike, desk: Source, roster: Roster) -> None:
        self._bus = bus
        self._board = board
        self._clock = clock
        self._source = desk
        self._roster = roster
        self.service = Service("desk-publisher", self._run, restart_after_s=1.0)

    def _run(self, service: Service) -> None:
        seen, second, counts = 0, 0, (-1, -1)
        while not service.wait(PUBLISH_S):
            now_ns = self._clock.now_ns()
            seen, pictures = self._board.since(seen)
            is_second = now_ns // 1_000_000_000 != second
            second = now_ns // 1_000_000_000
            self._workers(now_ns, {t.removeprefix("engine/") for t in pictures}, is_second)
            fresh = (self._roster.fill_count, self._roster.notice_count)
            if is_second or fresh[0] != counts[0]:
                self._put(TOPIC_FILLS, self._roster.newest_fills())
            if is_second or fresh[1] != counts[1]:
                self._put(TOPIC_NOTICES, self._source.notices())
            counts = fresh
            if is_second:
                self._put(TOPIC_DESK, self._source.view())

    def _workers(self, now_ns: int, changed: set[str], is_second: bool) -> None:
        for worker_id in self._roster.worker_ids():
            if not is_second and worker_id not in changed:
                continue
            try:
                self._put(TOPIC_WORKER + worker_id, self._source.worker(worker_id))
                self._put(TOPIC_ORDERS + worker_id, self._source.orders(worker_id))
                series = self._roster.take_sample(worker_id, now_ns) if is_second else None
            except LookupError:
                continue  # deleted in this very moment
            if series is not None:
                self._put(TOPIC_SERIES + worker_id, series)

    def _put(self, topic: str, view: object) -> None:
        self._bus.publish(topic, msgspec.json.encode(view), ttl_s=TTL_S)
