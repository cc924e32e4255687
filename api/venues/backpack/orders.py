"""Orders over HTTP: Backpack takes none over its WebSocket.

Hides: which connection a request takes, batches, asking once more what was certainly not executed. Each
connection is a thread that sends one request and waits for its answer; requests about one order take one
connection, so they keep their order. Called by `venue`.
"""

from __future__ import annotations

import logging
import zlib
from collections import deque

from api.errors import ExchangeError, OutcomeUnknown, RateLimited, Unavailable
from api.runtime import Inbox, Service
from api.types import Cancel
from api.venues.backpack import messages as say
from api.venues.backpack import requests as ask
from api.venues.backpack.account import Account, Job
from api.venues.backpack.errors import EXPIRED, NEEDS_REDEEM
from api.venues.backpack.lines import SignedLine
from api.venues.backpack.signing import headers

log = logging.getLogger("makerdeck.backpack")

TURN_S = 0.25  # longest a worker waits before it looks whether it shall stop
WARM_EVERY_S = 25.0  # an idle connection is used this often (for the time), so that it stays open

Result = bytes | ExchangeError


class Sender:
    """Sends what waits over a line and says what came of it. Has no state; for any thread with a line."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def sent(self, line: SignedLine, jobs: list[Job]) -> list[tuple[Job, Result]]:
        """Each job with the body of its success, or its error. A write is sent once; once more only when the
        venue said that it came too late, or that lent funds were in the way: then nothing had happened.
        """
        login = self._account.login
        try:
            if login.offset_ns is None:
                login.sync_clock(line)
            try:
                return self._asked(line, jobs)
            except Unavailable as error:
                if error.code != EXPIRED or jobs[0].is_retried:
                    raise
            for job in jobs:
                job.is_retried = True
            try:
                login.sync_clock(line)
            except RateLimited as error:
                raise Unavailable(
                    f"the request came too late, and the clock waits: {error.message}"
                ) from None
            return self._asked(line, jobs)
        except ExchangeError as error:
            if error.code == NEEDS_REDEEM and len(jobs) == 1 and self._redeems(jobs[0]):
                return self.sent(line, jobs)
            return [(job, error) for job in jobs]

    def _redeems(self, job: Job) -> bool:
        """Lent funds were in the way of a spot order that could not call them back: now it can."""
        if job.params is None or "autoLendRedeem" in job.params or not self._account.needs_redeem():
            return False
        job.params["autoLendRedeem"] = True
        return True

    def _asked(self, line: SignedLine, jobs: list[Job]) -> list[tuple[Job, Result]]:
        account = self._account
        first = jobs[0]
        if first.params is not None:
            every = [job.params for job in jobs if job.params is not None]
            request = ask.place_one(every[0]) if len(jobs) == 1 else ask.place_batch(every)
        elif isinstance(first.command, Cancel):
            request = account.cancel_request(first.command)
        else:
            assert first.request is not None
            request = first.request
        body = self._body(line, request)
        if len(jobs) == 1:
            return [(first, body)]
        return self._sorted(line, jobs, body)

    def _body(self, line: SignedLine, request: ask.Request) -> bytes:
        login = self._account.login
        login.take(is_cancel=request.is_cancel)
        try:
            signed = headers(
                login.key, request.instruction, request.params, login.stamp_ms(), login.window_ms
            )
            answer = line.ask_signed(request.verb, request.path, signed, request.body, is_write=True)
        finally:
            login.settle()
        return login.checked(answer, is_write=True)

    def _sorted(self, line: SignedLine, jobs: list[Job], body: bytes) -> list[tuple[Job, Result]]:
        """The results of a batch, to whom they belong: they come in the order of the orders (an order's own
        client id confirms it). What cannot be told apart is unknown.
        """
        vague = OutcomeUnknown("Backpack answered a batch in a way that we cannot sort")
        try:
            rows = [(say.decode_batch_row(raw), bytes(raw)) for raw in say.decode_batch(body)]
        except say.UNREADABLE:
            self._account.login.unread += 1
            return [(job, vague) for job in jobs]
        if len(rows) != len(jobs):
            return [(job, vague) for job in jobs]
        results: list[tuple[Job, Result]] = []
        for job, (row, raw) in zip(jobs, rows, strict=True):
            assert job.params is not None
            result: Result
            if row.operation == "Ok":
                result = raw if row.clientId == job.params["clientId"] else vague
            else:
                result = self._account.login.error_from(400, row.code or None, row.message, is_write=True)
                if result.code == NEEDS_REDEEM and self._redeems(job):
                    results += self.sent(line, [job])
                    continue
            results.append((job, result))
        return results


class OrderLines:
    """See the module docstring."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sender = Sender(account)
        self._is_ended = False
        self._inboxes: list[Inbox[Job | None]] = [Inbox() for _ in range(account.settings.http_lines)]
        self._services = [
            Service(
                f"{account.venue}-{account.name}-http{number}",
                lambda service, number=number: self._run(service, self._inboxes[number]),  # type: ignore[misc]
                restart_after_s=0.5,
            )
            for number in range(account.settings.http_lines)
        ]

    @property
    def services(self) -> tuple[Service, ...]:
        return tuple(self._services)

    def start(self) -> None:
        for service in self._services:
            service.start()

    def submit(self, job: Job) -> None:
        """Hand over a job; returns at once."""
        assert job.command is not None
        self._inboxes[zlib.crc32(job.command.client_id.encode()) % len(self._inboxes)].put(job)
        if self._is_ended:
            self._refuse_rest()

    def stop(self) -> None:
        for service, inbox in zip(self._services, self._inboxes, strict=True):
            service.stop()
            inbox.put(None)  # wakes it

    def join(self, timeout_s: float) -> None:
        """Wait for the threads; what they never sent is answered as never sent."""
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

    # ------------------------------------------------------------------ the threads

    def _run(self, service: Service, inbox: Inbox[Job | None]) -> None:
        account = self._account
        line = account.login.line()
        waiting: deque[Job] = deque()
        idle_s = WARM_EVERY_S  # warm it at once
        try:
            while not service.stopping:
                job = waiting.popleft() if waiting else inbox.get(0.0 if idle_s >= WARM_EVERY_S else TURN_S)
                service.beat()
                if job is not None:
                    idle_s = 0.0
                    jobs = self._together(job, inbox, waiting)
                    for ended, result in self._sender.sent(line, jobs):
                        account.finish(ended, result)
                    continue
                idle_s += TURN_S
                if idle_s >= WARM_EVERY_S or account.login.is_clock_due:
                    idle_s = 0.0
                    try:
                        account.login.sync_clock(line)
                    except ExchangeError as error:
                        log.warning("account=%s warming failed: %s", account.name, error.message)
        finally:
            for job in waiting:
                account.finish(job, Unavailable("the venue was closed before this was sent"))
            line.close()

    def _together(self, job: Job, inbox: Inbox[Job | None], waiting: deque[Job]) -> list[Job]:
        """With batches on: the new orders that wait right behind this one leave with it."""
        jobs = [job]
        while job.params is not None and len(jobs) < self._account.settings.batch:
            following = waiting.popleft() if waiting else inbox.get(0.0)
            if following is None:
                break
            if following.params is None:
                waiting.appendleft(following)
                break
            jobs.append(following)
        return jobs
