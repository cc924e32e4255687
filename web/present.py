"""Value types to JSON: the only place that formats numbers for people and scripts.

Hides: that amounts leave as decimal text without exponent, and what the old console's `stats` fields are
made of. Must not know requests, sockets or who reads it. Called by `web.rest` and `web.live`.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from api.desk import WorkerView

# Whose time each old field speaks of. "life": since the worker exists; "run": since its last start;
# "now": this moment.
SCOPES = {
    "base_balance": "now",
    "quote_balance": "now",
    "total_balance_usd": "now",
    "current_price": "now",
    "total_trades": "life",
    "buy_trades": "life",
    "sell_trades": "life",
    "maker_buy_volume": "life",
    "maker_sell_volume": "life",
    "taker_buy_volume": "life",
    "taker_sell_volume": "life",
    "total_fees": "life",
    "total_volume_usdc": "life",
    "realized_pnl": "life",
    "unrealized_pnl": "now",
    "session_realized_pnl": "run",
    "total_pnl": "life",
    "cumulative_pnl": "life",
    "slippage_rate": "life",
    "wear_rate": "life",
    "runtime_seconds": "run",
    "runtime_formatted": "run",
}

# A worker that may still send or hold orders counted as "running" in the old console, which knew only two
# words.
_RUNNING = frozenset({"running", "paused", "stopping"})


def plain(value: Any) -> Any:
    """Views, tuples and decimals as what JSON has; decimals become text without exponent, unknown stays
    None.
    """
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(msgspec.to_builtins(value, builtin_types=(Decimal,)))
    return value


def encode(value: Any) -> bytes:
    """JSON of `plain(value)`; a float that is not finite becomes null."""
    return msgspec.json.encode(plain(value))


def is_running(worker: WorkerView) -> bool:
    """The old console's `running`."""
    return worker.state in _RUNNING


def legacy_status(worker: WorkerView) -> dict[str, Any]:
    """The old `status_update`: `status` is `running` or `stopped`; `state` and `word` say it exactly."""
    what = f"{worker.name or worker.id} on {worker.instrument} is {worker.state}"
    return {
        "status": "running" if is_running(worker) else "stopped",
        "message": f"{what}: {worker.reason}" if worker.reason else what,
        "worker_id": worker.id,
        "state": worker.state,
        "word": worker.word,
    }


def legacy_stats(worker: WorkerView) -> dict[str, Any]:
    """The old `stats`, as JSON numbers; null where the truth is not known.

    What differs from the old program, on purpose: balances are filled; `cumulative_pnl` is realised minus
    fees over one and the same scope; `total_pnl` is after fees and includes what is unrealised.
    `slippage_rate` keeps its sign (gain is
    positive: cumulative_pnl / traded * 100); `wear_rate` beside it is -net / traded * 100 (cost is positive).
    """
    stats = worker.stats
    cumulative = stats.realized - stats.fees
    slippage = cumulative / stats.traded_quote * 100 if stats.traded_quote else Decimal(0)
    seconds = int(worker.running_s)
    return {
        "worker_id": worker.id,
        "symbol": worker.symbol,
        "exchange": worker.venue,
        "strategy": worker.strategy,
        "base_asset": worker.base,
        "quote_asset": worker.quote,
        "base_balance": number(worker.base_balance),
        "quote_balance": number(worker.quote_balance),
        "total_balance_usd": number(worker.total_quote),
        "current_price": number(worker.mid),
        "position": number(worker.position),
        "total_trades": stats.trades,
        "buy_trades": stats.buys,
        "sell_trades": stats.sells,
        "maker_buy_volume": number(stats.maker_buy_base),
        "maker_sell_volume": number(stats.maker_sell_base),
        "taker_buy_volume": number(stats.taker_buy_base),
        "taker_sell_volume": number(stats.taker_sell_base),
        "total_fees": number(stats.fees),
        "total_volume_usdc": number(stats.traded_quote),
        "realized_pnl": number(stats.realized),
        "unrealized_pnl": number(stats.unrealized),
        "session_realized_pnl": number(stats.run_realized),
        "total_pnl": number(stats.net),
        "cumulative_pnl": number(cumulative),
        "slippage_rate": number(slippage),
        "wear_rate": number(stats.wear_rate),
        "runtime_seconds": seconds,
        "runtime_formatted": f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        "market": worker.market,
        "state": worker.state,
        "scopes": SCOPES,
    }


def number(amount: Decimal | None) -> float | None:
    """An amount as the JSON number the old fields were."""
    return None if amount is None or not amount.is_finite() else float(amount)


def iso(at_ns: int | None) -> str | None:
    """UTC nanoseconds as ISO 8601 text, to the microsecond."""
    if at_ns is None:
        return None
    return datetime.fromtimestamp(at_ns // 1000 / 1e6, UTC).isoformat()
