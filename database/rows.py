"""What the always-on store hands out: value types without a database behind them.

Called by whoever reads `database.state`; importing this costs nothing of SQLAlchemy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from api.desk import FillView, WorkerSpec
from api.ledger import Entry
from api.types import Fill, Instrument


@dataclass(frozen=True, slots=True)
class Identity:
    """`desk_tag`: four characters of [a-z0-9], made once a data directory, first part of every client id.
    `run_no`: how often a desk was started on it.
    """

    desk_tag: str
    run_no: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker as it was written last. `spec` is JSON: a `Decimal` in its params or limits comes back as
    text.

    `state` is one of `api.desk.STATES`. `version` numbers params and limits. `extra` (JSON values) is the
    desk's own: counters, last receipt and the like.
    """

    id: str
    spec: WorkerSpec
    state: str
    resume: bool = False
    is_demo: bool = False
    version: int = 1
    created_ns: int = 0
    started_ns: int | None = None
    stopped_ns: int | None = None
    reason: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VersionRow:
    worker: str
    version: int
    at_ns: int
    by: str
    reason: str
    params: dict[str, Any]
    limits: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KillRow:
    reason: str
    by: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class LatchRow:
    """A limit that fired and stays so until a person clears it. `scope`: a worker id, "venue/account" or
    "desk".
    """

    scope: str
    rule: str
    reason: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class LatchEvent:
    """One line of the record: who set or cleared what. The kill latch has scope "desk" and rule "kill"."""

    at_ns: int
    scope: str
    rule: str
    action: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoredFill:
    """A fill with the instrument as it was at that moment, and the rate its fee was converted at (None:
    unknown).
    """

    worker: str
    fill: Fill
    instrument: Instrument
    quote_per_fee_asset: Decimal | None = None

    @property
    def price(self) -> Decimal:
        return self.instrument.price(self.fill.ticks)

    @property
    def qty(self) -> Decimal:
        return self.instrument.qty(self.fill.lots)

    @property
    def value(self) -> Decimal:
        """In quote."""
        return self.instrument.value(self.fill.ticks, self.fill.lots)

    @property
    def order_key(self) -> tuple[int, int, str]:
        """Exchange time, then trade id: the order in which fills count."""
        return (self.fill.venue_ns, len(self.fill.trade_id), self.fill.trade_id)

    def entry(self) -> Entry:
        """As money, for `api.ledger.Ledger.book`."""
        return Entry.of(self.fill, self.instrument, self.quote_per_fee_asset)

    def view(self) -> FillView:
        """As a face sees it."""
        fill = self.fill
        return FillView(
            trade_id=fill.trade_id,
            worker=self.worker,
            client_id=fill.client_id,
            venue=fill.instrument.venue,
            account=fill.account,
            symbol=fill.instrument.symbol,
            side=fill.side.value,
            price=self.price,
            qty=self.qty,
            value=self.value,
            fee=fill.fee,
            fee_asset=fill.fee_asset,
            is_maker=fill.is_maker,
            venue_ns=fill.venue_ns,
        )
