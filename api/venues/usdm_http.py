"""Orders over HTTP: the order path where there is no WebSocket API, and the way out while that is down.

Hides: which connection a request takes. Each connection is a thread that sends one request and waits for its
answer; requests about one order take one connection, so they keep their order. Called by `usdm_session` and
`usdm_venue`.
"""

from __future__ import annotations

import logging
import zlib

from api.errors import ExchangeError, OutcomeUnknown, Unavailable
from api.runtime import Inbox, Service
from api.venues.usdm_account import Account, Job, counted
from api.wire_http import HttpLine

log = logging.getLogger("makerdeck.usdm")

TURN_S = 0.25  # longest a worker waits before it looks whether it shall stop
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
                f"{account.dialect.name}-{account.name}-http{number}",
                lambda service, number=number: self._run(service, self._inboxes[number]),  # type: ignore[misc]
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
        name = job.commands[0].client_id if job.commands else job.request.path
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
            while (job := inbox.get(0.0)) is not None:
                self._account.finish(job, Unavailable("the venue was closed before this was sent"))

    def _run(self, service: Service, inbox: Inbox[Job | None]) -> None:
        account = self._account
        settings = account.settings
        line = HttpLine(
            account.where.rest,
            account.where.hosts,
            headers=dict(account.signer.headers),
            connect_s=settings.connect_s,
            answer_s=settings.answer_s,
            proxy=account.proxy,
        )
        idle_s = WARM_EVERY_S  # warm it at once
        try:
            while not service.stopping:
                is_due = self._is_main and idle_s >= WARM_EVERY_S
                job = inbox.get(0.0 if is_due else TURN_S)
                service.beat()
                if job is not None:
                    idle_s = 0.0
                    account.finish(job, self._sent(line, job))
                    continue
                idle_s += TURN_S
                if is_due:
                    idle_s = 0.0
                    try:
                        account.sync_clock(line)
                    except ExchangeError as error:
                        log.warning("account=%s warming failed: %s", account.name, error.message)
        finally:
            line.close()

    def _sent(self, line: HttpLine, job: Job) -> bytes | ExchangeError:
        """The body of a success, or the error. Sent once; once more only where the venue says that nothing
        happened because of the time or the nonce.
        """
        account = self._account
        try:
            account.take(job)
            if account.offset_ns is None:
                self._sync(line)
            try:
                return self._ask(line, job)
            except Unavailable as error:
                if job.is_retried or not account.is_clock(error):
                    raise
            job.is_retried = True
            self._sync(line)
            account.take(job)
            return self._ask(line, job)
        except ExchangeError as error:
            return error

    def _sync(self, line: HttpLine) -> None:
        try:
            self._account.sync_clock(line)
        except OutcomeUnknown:  # a read: nothing was done to the order
            raise Unavailable("the venue's clock could not be read") from None

    def _ask(self, line: HttpLine, job: Job) -> bytes:
        account, request = self._account, job.request
        text = account.signer.form(request.params, account.venue_ns())
        if request.verb == "DELETE" and not account.dialect.delete_in_body:
            answer = line.ask("DELETE", f"{request.path}?{text}", is_write=True)
        else:
            answer = line.ask(request.verb, request.path, text.encode(), is_write=True)
        account.settle(job, counted(answer))
        return account.checked(answer, is_write=True)
