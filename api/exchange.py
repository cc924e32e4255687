"""The contract every venue keeps. `tests/conformance` runs this docstring against each of them.

A venue is a translator: it turns approved commands into its own protocol and everything it hears into our
events.

**Orders.** `send(approved)` never blocks on a network and never raises for what the venue may say: it hands
the command to the venue's own order path and returns. Exactly one `Answered` follows for each command,
through the listener given to `connect`: ACCEPTED, REJECTED (with the class of `api.errors`), RATE_LIMITED,
UNAVAILABLE (never sent), UNAUTHORIZED or UNKNOWN (sent, no answer within the venue's deadline). A late answer
may follow an UNKNOWN one. A command is sent at most once; the client id is ours and the venue refuses a
second order with the same id.

**Reports.** Order reports and fills come through the same listener, in the order the venue sent them,
possibly before the answer, possibly twice, possibly after a cancel was accepted. Each fill carries a trade id
that is unique per (venue, account, symbol). Client ids that are not ours are reported all the same; the
gateway decides.

**Reads.** `fetch_...` goes to the venue and blocks up to the venue's timeout; it raises an `ExchangeError`
and never returns a guess: an empty tuple means that the venue said "none".

**Links.** `LinkChanged(link="account")` goes down when the private stream is lost and up only after it works
again; the gateway reconciles before anybody trades. `close` is idempotent.

**Threads.** The listener is called from the venue's threads and must only hand over. All methods are
thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from api.types import Approved, Balance, Event, Fill, Instrument, InstrumentId, OrderReport, Place, Position

Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue can do; the core asks these and never the venue's name."""

    post_only: bool = True
    ioc: bool = True
    fok: bool = True
    amend: bool = False
    amend_keeps_queue: bool = False
    cancel_all: bool = False
    query_by_client_id: bool = True
    self_trade_prevention: tuple[str, ...] = ()
    dead_man: bool = False
    max_batch: int = 1
    maker_rebates: bool = False
    is_simulated: bool = False


class Exchange(Protocol):
    """One account at one venue. See the module docstring for what each call promises."""

    @property
    def venue(self) -> str: ...

    @property
    def account(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def connect(self, heard: Listener) -> None:
        """Open the private stream; events are delivered to `heard` from now on, a `LinkChanged` up first."""

    def send(self, approved: Approved) -> None:
        """Hand one approved command to the venue. One `Answered` follows."""

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        """Ask the venue to cancel every order of this account in `instrument` (None: everywhere) that carries
        our client-id prefix, or all of them where the venue cannot tell. Only where
        `capabilities.cancel_all`. Raises ExchangeError.
        """

    def arm_dead_man(self, timeout_s: float) -> None:
        """(Re)start the venue's countdown after which it cancels everything; 0 disarms. Only where
        `capabilities.dead_man`.
        """

    def fetch_instruments(self) -> tuple[Instrument, ...]: ...

    def fetch_open_orders(self, instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]: ...

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        """Raises UnknownOrder when the venue does not know the id (which is not yet proof that it never
        will).
        """

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        """Every fill of this account in `instrument` with `venue_ns >= since_ns`, oldest first, all pages."""

    def fetch_balances(self) -> tuple[Balance, ...]: ...

    def fetch_server_ns(self) -> int:
        """The venue's clock, UTC nanoseconds."""

    def close(self) -> None: ...


class DepthView(Protocol):
    """What a simulated venue needs of a market: the full rebuilt book. `quote.book.BookBuilder` is one."""

    @property
    def instrument(self) -> Instrument: ...

    @property
    def is_synced(self) -> bool: ...

    @property
    def best_bid(self) -> tuple[int, int] | None:
        """(ticks, lots), newest known touch (best bid/ask stream included)."""

    @property
    def best_ask(self) -> tuple[int, int] | None: ...

    def lots_at(self, is_bid: bool, ticks: int) -> int:
        """Displayed lots at one price, 0 where there is none."""

    def walk(self, is_bid: bool, limit_ticks: int | None) -> tuple[tuple[int, int], ...]:
        """Levels of that side from the best outwards, no worse than `limit_ticks` (None: all)."""


class IntentStore(Protocol):
    """Where an intent is written before the first byte leaves (`database.state`)."""

    def record_place(self, worker: str, account: str, place: Place, at_ns: int) -> None:
        """Durable against kill -9 when it returns. Raises OSError when it cannot be written: then nothing is
        sent.
        """

    def record_done(self, client_id: str, at_ns: int) -> None:
        """This intent is closed by what the venue said. May be lost; the venue is asked again then."""


def quantity_text(value: Decimal) -> str:
    """Plain decimal text without exponent and without trailing zeros: what goes on a wire."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class FeeRates:
    """Fractions of value; paid is positive, a rebate negative."""

    maker: Decimal
    taker: Decimal


@dataclass(frozen=True, slots=True)
class FundingPayment:
    """One funding payment of a position; `amount` paid is positive, received negative, in `asset`."""

    instrument: InstrumentId
    payment_id: str
    amount: Decimal
    asset: str
    venue_ns: int


@dataclass(frozen=True, slots=True)
class KeyRights:
    """What a key may do, as the venue tells; None: the venue does not say."""

    can_trade: bool | None
    can_withdraw: bool | None
    is_ip_bound: bool | None


@dataclass(frozen=True, slots=True)
class AccountMode:
    """How the account is set up, as the venue tells; None: not told or not applicable.

    `position_mode`: "one-way" or "hedge". `self_trade_prevention`: the venue's own word.
    """

    position_mode: str | None
    margin_mode: str | None
    self_trade_prevention: str | None
    is_unified: bool | None = None


class AccountReads(Protocol):
    """What a real venue tells of an account besides orders. Each goes to the venue and raises ExchangeError;
    a read that failed is never an empty or flat answer. In hedge mode an order that does not reduce opens
    LONG with a buy and SHORT with a sell; one that reduces closes the other way round.
    """

    def fetch_positions(self) -> tuple[Position, ...]:
        """Open positions, signed base quantity. Spot venues: an empty tuple."""

    def fetch_fee_rates(self, instrument: InstrumentId) -> FeeRates: ...

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        """Oldest first. Spot venues: an empty tuple."""

    def fetch_key_rights(self) -> KeyRights: ...

    def fetch_account_mode(self) -> AccountMode: ...
