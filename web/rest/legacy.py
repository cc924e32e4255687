"""The four endpoints of the old console, acting on one worker named `default`.

Hides: the old field names and their forgiving types, and which of the old options exist here. Must not
know other workers.

What a caller of the old console should know:

- `exchange`, `symbol`, `spread` are required; a spread of 0 is refused. Numbers may be sent as text, as
  the old form did.
- `symbol` in the old spelling (`SOL_USDC`, `SOLUSDT`) is taken for the venue's one symbol that it can mean.
- `duration` 3600 s, `interval` 60 s and `max_orders` 3 when not given, as before; `quantity` empty is
  automatic.
- An option that is not here is refused by its name when it asks for something: `market_type` other than
  spot, a `strategy` other than the desk's, `enable_rebalance: true` (there is no rebalancing, so
  accepting it would be a lie; the old form sent true, leave it out or send false), `enable_db: true`
  while the trade log is off.
- Perpetual and rebalance settings had no effect on a spot run without rebalancing: their old defaults are
  taken as the nothing they say, any other value is refused by name.
- A second start while it runs is a 400. A stop of what does not run succeeds and says so.
"""

from __future__ import annotations

import math
import re
import threading
from typing import Any

from api.desk import Desk, WorkerSpec, WorkerView
from api.errors import BadInput, BadInputs
from web import present
from web.problems import Problem

from .routes import Routes, caller
from .schema import LegacyStart

WORKER = "default"  # its name; the desk gives the id
KIND = "market_making"

# What the old program took when a field was left out. None of these does anything on a spot run without
# rebalancing.
_WITHOUT_EFFECT: dict[str, float | None] = {
    "target_position": 1,
    "max_position": 1,
    "position_threshold": 0.1,
    "inventory_skew": 0,
    "stop_loss": None,
    "take_profit": None,
    "base_asset_target": 30,
    "rebalance_threshold": 15,
}


def routes(desk: Desk) -> Routes:
    on = Routes("legacy")
    one_at_a_time = threading.Lock()  # two quick starts: the second must see the first

    def found() -> WorkerView | None:
        return next((worker for worker in desk.workers() if worker.name == WORKER), None)

    @on.on("GET", "/api/status", "The worker `default`, in the old console's shape", answer=dict)
    def status() -> dict[str, Any]:
        worker = found()
        if worker is None:
            return {"running": False, "strategy": None, "start_time": None, "last_update": None, "stats": {}}
        return {
            "running": present.is_running(worker),
            "strategy": worker.strategy,
            "start_time": present.iso(worker.started_ns),
            "last_update": present.iso(worker.published_ns),
            "stats": present.legacy_stats(worker),
        }

    @on.on("GET", "/api/config", "What can be started, in the old console's shape", answer=dict)
    def config() -> dict[str, Any]:
        venues = desk.venues()
        return {
            "exchanges": [venue["name"] for venue in venues],
            "market_types": ["spot"],
            "strategies": [one["name"] for one in desk.strategies() if one["kind"] == KIND],
            "env_configured": {venue["name"]: bool(venue["configured"]) for venue in venues},
        }

    @on.on(
        "POST",
        "/api/start",
        "Create or change the worker `default` and start it",
        answer=dict,
        body=LegacyStart,
    )
    def start(body: LegacyStart) -> dict[str, Any]:
        with one_at_a_time:
            worker = found()
            if worker is not None and present.is_running(worker):
                raise Problem(400, f"The worker {WORKER} is {worker.state} already; stop it first.")
            spec = _spec(body, desk)
            by = caller().by
            if worker is not None and _is_another(worker, spec):
                desk.delete(worker.id, by=by)
                worker = None
            if worker is None:
                worker = desk.create(spec, by=by)
            else:
                desk.change(worker.id, params=spec.params, reason="POST /api/start", by=by)
            worker = desk.start(worker.id, by=by)
        return {
            "success": True,
            "message": f"{worker.strategy} started on {worker.instrument}",
            "config": {
                "exchange": worker.venue,
                "symbol": worker.symbol,
                "spread": spec.params["spread"],
                "market_type": "spot",
                "strategy": worker.strategy,
            },
            "worker_id": worker.id,
        }

    @on.on("POST", "/api/stop", "Stop the worker `default`, with a receipt", answer=dict)
    def stop() -> dict[str, Any]:
        worker = found()
        if worker is None or not present.is_running(worker):
            return {"success": True, "message": "It was not running.", "receipt": None}
        stopped = desk.stop(worker.id, by=caller().by)
        receipt = stopped.receipt
        is_sure = receipt is None or receipt.confirmed
        text = receipt.text if receipt is not None else "stopped"
        return {"success": is_sure, "message": text, "receipt": receipt}

    return on


def _spec(body: LegacyStart, desk: Desk) -> WorkerSpec:
    errors: list[BadInput] = []

    def number(field: str, value: Any) -> float | None:
        try:
            return _number(value)
        except ValueError as error:
            errors.append(BadInput(field, str(error)))
            return None

    venues = {venue["name"]: venue for venue in desk.venues()}
    venue = venues.get(body.exchange.lower())
    symbol = body.symbol
    if venue is None:
        errors.append(
            BadInput("exchange", f"there is no venue {body.exchange!r}; known: {', '.join(sorted(venues))}")
        )
    else:
        try:
            symbol = canonical_symbol(body.symbol, venue.get("symbols") or [])
        except BadInput as error:
            errors.append(error)

    spread = number("spread", body.spread)
    if spread is None and not errors:
        errors.append(BadInput("spread", "is required, in percent of mid"))
    elif spread is not None and spread <= 0:
        errors.append(BadInput("spread", "must be above 0 % of mid"))
    max_orders = number("max_orders", body.max_orders)
    if max_orders is not None and max_orders != int(max_orders):
        errors.append(BadInput("max_orders", "must be a whole number"))
    params = {
        "spread": spread,
        "quantity": number("quantity", body.quantity),
        "max_orders": int(max_orders) if max_orders is not None else 3,
        "duration": number("duration", body.duration),
        "interval": number("interval", body.interval),
    }

    if body.market_type.lower() != "spot":
        errors.append(BadInput("market_type", f"{body.market_type!r} is not available here; only spot"))
    known = [one["name"] for one in desk.strategies() if one["kind"] == KIND]
    if body.strategy.lower() not in known:
        errors.append(
            BadInput("strategy", f"{body.strategy!r} is not available here; known: {', '.join(known)}")
        )
    if body.enable_rebalance:
        errors.append(
            BadInput("enable_rebalance", "rebalancing is not available here; leave it out or send false")
        )
    if body.enable_db and not desk.view().database:
        errors.append(BadInput("enable_db", "the trade log is switched on at start, with --enable-db"))
    for field, default in _WITHOUT_EFFECT.items():
        value = number(field, getattr(body, field))
        if value is not None and value != default:
            errors.append(
                BadInput(field, f"{value:g} is not available here: it belongs to perpetuals or rebalancing")
            )
    if errors:
        raise BadInputs(tuple(errors))
    return WorkerSpec(
        kind=KIND,
        strategy=body.strategy.lower(),
        venue=body.exchange.lower(),
        symbol=symbol,
        params=params,
        name=WORKER,
    )


def canonical_symbol(text: str, symbols: list[str]) -> str:
    """The one of `symbols` that `text` can mean: separators and case do not count.

    Raises BadInput when none or several do.
    """
    if text in symbols or not symbols:
        return text
    wanted = _bare(text)
    meant = [symbol for symbol in symbols if _bare(symbol) == wanted]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise BadInput("symbol", f"{text!r} can mean {', '.join(meant)}; write one of them")
    some = ", ".join(symbols[:10]) + (", ..." if len(symbols) > 10 else "")
    raise BadInput("symbol", f"there is no {text!r} at this venue; it has {some}")


def _bare(symbol: str) -> str:
    return re.sub(r"[-_/ ]", "", symbol).upper()


def _number(value: Any) -> float | None:
    """A number, or text of one as the old form sent it; None and empty text are None. Raises ValueError."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _is_another(worker: WorkerView, spec: WorkerSpec) -> bool:
    asked = (spec.kind, spec.strategy, spec.venue, spec.symbol)
    return (worker.kind, worker.strategy, worker.venue, worker.symbol) != asked
