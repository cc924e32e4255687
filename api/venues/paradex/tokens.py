"""The short-lived token that reads and orders over HTTP carry: fetched with a signature, renewed in time.

Hides: the login request, how long a token lives, who renews it. Must not know: what it is used for. Called by
`account` (reads: any thread), `http_orders` (renews it in the background) and `session` (a fresh one for each
connection; a connection that is authenticated stays so, whatever becomes of the token).

Nobody who sends an order waits here: the order thread gets its token from the thread that opens connections.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import quote

from api.errors import ExchangeError, Unauthorized, Unavailable
from api.venues.paradex import messages as say
from api.venues.paradex.keys import ParadexKey
from api.wire import Answer

SIGNED_FOR_S = 24 * 3600  # how long the login request itself may be used (the venue allows a week)
UNREAD_LIFE_S = 240.0  # of a token whose end we cannot read (they live five minutes)
EARLY_S = 30.0  # before its end a token is renewed
SIGNED_PATH = "/v1/auth"  # also when the request goes to `/auth/{public key}`, as the SDK does it

Ask = Callable[[dict[str, str], str], Answer]
"""(headers, path) -> the answer to a POST without a body."""


class Tokens:
    """See the module docstring.

    Args:
        ask: sends the login. error: the error that an answer means. now_s: the venue's epoch seconds.
    """

    def __init__(
        self, key: ParadexKey, ask: Ask, error: Callable[[Answer], ExchangeError], now_s: Callable[[], int]
    ) -> None:
        self.renewals = 0
        self._key = key
        self._ask = ask
        self._error = error
        self._now_s = now_s
        self._token = ""
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._lock = threading.Lock()

    @property
    def is_due(self) -> bool:
        """It should be renewed now (or there is none)."""
        return time.monotonic() >= self._renew_at

    def get(self) -> str:
        """A token that holds; fetches one where there is none. Raises ExchangeError."""
        if self._token and time.monotonic() < self._ends_at:
            return self._token
        return self.renew(self._token)

    def renew(self, bad: str | None = None) -> str:
        """A fresh one. `bad`: the one that does not do any more; if somebody else has renewed it meanwhile,
        that one is taken. Raises ExchangeError.
        """
        with self._lock:
            is_good = self._token and time.monotonic() < self._ends_at
            if bad is not None and is_good and self._token != bad:
                return self._token
            at_s = self._now_s()
            until_s = at_s + SIGNED_FOR_S
            headers = {
                "PARADEX-STARKNET-ACCOUNT": self._key.account,
                "PARADEX-STARKNET-SIGNATURE": self._key.login(at_s, until_s, SIGNED_PATH),
                "PARADEX-TIMESTAMP": str(at_s),
                "PARADEX-SIGNATURE-EXPIRATION": str(until_s),
            }
            answer = self._ask(headers, f"/auth/{quote(self._key.public_key, safe='')}")
            if answer.status != 200:
                error = self._error(answer)
                if answer.status in (400, 401) and not isinstance(error, Unauthorized):
                    raise Unauthorized(f"Paradex refused the login: {error.message}", code=error.code)
                raise error
            try:
                token = say.decode_token(answer.body).jwt_token
            except say.UNREADABLE:
                raise Unavailable("Paradex answered a login with something that is no token") from None
            if not token.isascii() or not token.isprintable() or not token:
                raise Unavailable("Paradex answered a login with something that is no token")
            now, ends_s = time.monotonic(), say.expiry_of(token)
            life_s = UNREAD_LIFE_S if ends_s is None else float(ends_s - self._now_s())
            self._token = token
            self._ends_at = now + max(life_s - 1.0, 0.0)
            self._renew_at = now + max(life_s - EARLY_S, life_s / 2, 0.5)
            self.renewals += 1
            return token
