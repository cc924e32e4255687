"""Orders over HTTP: the order path where it is set so, and the way out while the WebSocket is down; and in
the background the clock, the token and the markets are kept fresh.

Hides: which connection a request takes. Each connection is a thread that sends one request and waits for its
answer; requests about one order take one connection, so they keep their order. Called by `session` and
`venue`.
"""

from __future__ import annotations

import logging
import zlib

from api.errors import ExchangeError, Unavailable
from api.runtime import Inbox, Service
from api.venues.okx.signed_http import SignedLine
from api.venues.paradex.account import Account, Job, Told

log = logging.getLogger("makerdeck.paradex")

TURN_S = 0.25  # longest a worker waits before it looks whether it shall stop


class HttpOrders:
    """See the module docstring.

    Args:
        is_main: orders always go this way.
    """

    def __init__(self, account: Account, *, is_main: bool) -> None:
        self._account = account
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
        self._keeper = Service(f"{account.venue}-{account.name}-keeper", self._keep, restart_after_s=0.5)

    @property
    def services(self) -> tuple[Service, ...]:
        return (*self._services, self._keeper)

    def start(self) -> None:
        for service in self.services:
            service.start()

    def submit(self, job: Job) -> None:
        name = job.request.client_id or job.request.path
        self._inboxes[zlib.crc32(name.encode()) % len(self._inboxes)].put(job)
        if self._is_ended:
            self._refuse_rest()

    def stop(self) -> None:
        for service in self.services:
            service.stop()
        for inbox in self._inboxes:
            inbox.put(None)  # wakes its worker

    def join(self, timeout_s: float) -> None:
        for service in self.services:
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
            connect_s=settings.connect_s,
            answer_s=settings.answer_s,
            proxy=account.proxy,
        )
        try:
            while not service.stopping:
                job = inbox.get(TURN_S)
                service.beat()
                if job is not None:
                    account.finish(job, self._sent(line, job))
        finally:
            line.close()

    def _sent(self, line: SignedLine, job: Job) -> Told:
        account = self._account
        try:
            if not job.is_taken:
                account.take(job)
            return account.write(job.request, line)
        except ExchangeError as error:
            return error
        except ValueError as error:
            return Unavailable(f"it could not be signed ({error})")

    def _keep(self, service: Service) -> None:
        """Nobody who trades waits for a token or the clock: they are renewed here before they are needed."""
        account = self._account
        idle_s = pause_s = 0.0
        while not service.wait(TURN_S):
            service.beat()
            idle_s += TURN_S
            pause_s = max(0.0, pause_s - TURN_S)
            if pause_s:
                continue
            try:
                if account.offset_ns is None or idle_s >= account.settings.clock_every_s:
                    idle_s = 0.0
                    account.sync_clock()
                if account.tokens.is_due:
                    account.tokens.renew()
                account.reload_if_stale()
            except ExchangeError as error:
                pause_s = 5.0
                log.warning(
                    "account=%s clock, token or markets could not be read: %s", account.name, error.message
                )
