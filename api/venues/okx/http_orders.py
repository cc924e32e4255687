"""Orders over HTTP: the order path where it is set so, and the way out while the private socket is down or
does not know a market's number.

Hides: which connection a request takes. Each connection is a thread that sends one request and waits for its
answer; requests about one order take one connection, so they keep their order. The first one also measures
the clock, which keeps its connection warm. Called by `session` and `venue`.
"""

from __future__ import annotations

import logging
import time
import zlib

from api.errors import ExchangeError, Unavailable
from api.runtime import Inbox, Service
from api.venues.okx.account import Account, Job, Told
from api.venues.okx.signed_http import SignedLine

log = logging.getLogger("makerdeck.okx")

TURN_S = 0.25  # longest a worker waits before it looks whether it shall stop
AGAIN_S = 0.5  # between measurements while the clock is in doubt
WARM_EVERY_S = 25.0  # an idle order connection is used this often (for the time), so that it stays open


class HttpOrders:
    """See the module docstring.

    Args:
        is_main: orders always go this way: the connections are opened at the start and kept warm.
    """

    def __init__(self, account: Account, *, is_main: bool) -> None:
        self._account = account
        self._is_main = is_main
        self._is_ended = False
        count = account.settings.http_lines if is_main else 1
        self._inboxes: list[Inbox[Job | None]] = [Inbox() for _ in range(count)]
        self._services = [
            Service(
                f"{account.venue}-{account.name}-http{number}",
                lambda service, number=number: self._run(service, number),  # type: ignore[misc]
                restart_after_s=0.5,
            )
            for number in range(count)
        ]

    @property
    def services(self) -> tuple[Service, ...]:
        return tuple(self._services)

    def start(self) -> None:
        for service in self._services:
            service.start()

    def submit(self, job: Job) -> None:
        name = job.command.client_id if job.command is not None else job.request.path
        self._inboxes[zlib.crc32(name.encode()) % len(self._inboxes)].put(job)
        if self._is_ended:
            self._refuse_rest()

    def stop(self) -> None:
        for service, inbox in zip(self._services, self._inboxes, strict=True):
            service.stop()
            inbox.put(None)  # wakes it

    def join(self, timeout_s: float) -> None:
        for service in self._services:
            service.join(timeout_s)
        self._is_ended = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        for inbox in self._inboxes:
            while len(inbox):
                job = inbox.get(0.0)
                if job is not None:
                    self._account.finish(job, Unavailable("the venue was closed before this was sent"))

    def _run(self, service: Service, number: int) -> None:
        account, inbox = self._account, self._inboxes[number]
        settings = account.settings
        line = SignedLine(
            account.where.rest,
            account.where.hosts,
            headers=account.where.headers,
            connect_s=settings.connect_s,
            answer_s=settings.answer_s,
            proxy=account.proxy,
        )
        used_at = looked_at = 0.0  # look, and with it warm the connection, at once
        try:
            while not service.stopping:
                job = inbox.get(TURN_S if looked_at else 0.0)
                service.beat()
                now = time.monotonic()
                if job is not None:
                    account.finish(job, self._sent(line, job))
                    used_at = now
                is_cold = self._is_main and now - max(used_at, looked_at) >= WARM_EVERY_S
                every_s = AGAIN_S if account.is_clock_doubtful else settings.clock_every_s
                if is_cold or (number == 0 and now - looked_at >= every_s):
                    looked_at = now
                    self._look_after(line)
        finally:
            line.close()

    def _look_after(self, line: SignedLine) -> None:
        account = self._account
        try:
            account.sync_clock(line)
            account.reload_if_stale()
        except ExchangeError as error:
            log.warning(
                "account=%s the clock or the markets could not be read: %s", account.name, error.message
            )

    def _sent(self, line: SignedLine, job: Job) -> Told:
        account = self._account
        try:
            if not job.is_taken:
                account.take(job)
            told = account.write(job.request, line)
        except ExchangeError as error:
            return error
        return account.items_of(told.code, told.msg, bytes(told.data), job.request.costs)
