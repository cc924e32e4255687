"""Settings of one paper venue. Plain numbers with reasons; knows nothing else. Read by `core`, made by
whoever builds a venue."""

from __future__ import annotations

from dataclasses import dataclass

from api.errors import BadInput

SELF_TRADE_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "NONE")


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """How the venue behaves. Delays are one way, in milliseconds; 0 is allowed for each.

    place_delay_ms: from our sending of an order or amend to the matching engine. 20 ms is a desk on an
        ordinary line to a data centre on the same continent; the same for cancel_delay_ms.
    hear_delay_ms: from the matching engine to our hearing of it (answers, reports, fills, balances).
    self_trade: what happens when an order would meet one of the same account. The first four modes of Binance
        spot by name; default EXPIRE_TAKER as there.
    answer_timeout_ms: how long the desk's side waits for an answer before the outcome is UNKNOWN (only lost
        and late answers get that far); None: whoever carries the commands keeps that deadline
        (`client.PaperClient`).
    late_answer_ms: when a late answer arrives, after the command was sent.
    early_fill_ms: how long an acknowledgement is held back by the fault EARLY_FILL.
    cut_ms: how long a cut stream stays down; stale_ms: how long a lagging list stays as it was.
    retry_after_s: what an injected 429 asks for, seconds.
    rate_limit: orders and amends an account may send per rate_window_s; None: no limit. Cancels do not count,
        as on Binance.
    max_open_orders: per account and instrument (Binance spot: MAX_NUM_ORDERS 200).
    list_lag_ms: how far `fetch_open_orders` lags behind at all times.
    venue_run: raised at each restart of a venue whose accounts go on, so that trade and order ids never
        repeat.
    """

    place_delay_ms: float = 20.0
    cancel_delay_ms: float = 20.0
    hear_delay_ms: float = 10.0
    self_trade: str = "EXPIRE_TAKER"
    answer_timeout_ms: float | None = 5_000.0
    late_answer_ms: float = 7_500.0
    early_fill_ms: float = 100.0
    cut_ms: float = 1_000.0
    stale_ms: float = 1_000.0
    retry_after_s: float = 1.0
    rate_limit: int | None = None
    rate_window_s: float = 10.0
    max_open_orders: int = 200
    list_lag_ms: float = 0.0
    venue_run: int = 1

    def __post_init__(self) -> None:
        for name in (
            "place_delay_ms",
            "cancel_delay_ms",
            "hear_delay_ms",
            "late_answer_ms",
            "early_fill_ms",
            "cut_ms",
            "stale_ms",
            "list_lag_ms",
        ):
            value = getattr(self, name)
            if not 0 <= value <= 600_000:  # false for NaN too
                raise BadInput(name, f"must be from 0 to 600000 ms, got {value}")
        if self.answer_timeout_ms is not None and not 0 < self.answer_timeout_ms <= 600_000:
            raise BadInput(
                "answer_timeout_ms", f"must be above 0 and up to 600000 ms, got {self.answer_timeout_ms}"
            )
        if self.self_trade not in SELF_TRADE_MODES:
            raise BadInput(
                "self_trade", f"must be one of {', '.join(SELF_TRADE_MODES)}, got {self.self_trade!r}"
            )
        if self.rate_limit is not None and self.rate_limit < 1:
            raise BadInput("rate_limit", f"must be at least 1 order per window, got {self.rate_limit}")
        if not 0 < self.rate_window_s <= 86_400:
            raise BadInput("rate_window_s", f"must be above 0 and up to 86400 s, got {self.rate_window_s}")
        if not 0 <= self.retry_after_s <= 86_400:
            raise BadInput("retry_after_s", f"must be from 0 to 86400 s, got {self.retry_after_s}")
        if self.max_open_orders < 1:
            raise BadInput("max_open_orders", f"must be at least 1, got {self.max_open_orders}")
        if self.venue_run < 0:
            raise BadInput("venue_run", f"must be 0 or more, got {self.venue_run}")
