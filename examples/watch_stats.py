"""Follow a desk over Socket.IO with the ordinary Python client: status, stats, the book of one market.

CONSOLE_TOKEN=... python examples/watch_stats.py [--url http://127.0.0.1:5000] [--book paper:BTC-USDT]
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import socketio


def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="print what a desk says")
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--book", default="", help="a market to follow, such as paper:BTC-USDT")
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args(args)
    token = os.environ.get("CONSOLE_TOKEN")
    if not token:
        print("set CONSOLE_TOKEN to the value the desk was started with", file=sys.stderr)
        return 2
    client = socketio.Client()

    def connected(told: dict[str, Any]) -> None:
        print(
            f"connected to {told['desk']}, topics {', '.join(told['topics'])}, {told['rate_hz']:g} a second"
        )

    def status(told: dict[str, Any]) -> None:
        print(f"status  {told['worker_id']} {told['status']}: {told['message']}")

    def stats(told: dict[str, Any]) -> None:
        print(
            f"stats   {told['worker_id']} {told['symbol']} {told['market']} price {told['current_price']} "
            f"trades {told['total_trades']} pnl {told['total_pnl']} wear {told['wear_rate']} "
            f"{told['runtime_formatted']}"
        )

    def topic(told: dict[str, Any]) -> None:
        if told["topic"].startswith("book/"):
            book = told["data"]
            best = [side[0] if side else None for side in (book["bids"], book["asks"])]
            print(f"{told['topic']} {book['market']} {best[0]} {best[1]} synced {book['is_synced']}")

    def error(told: dict[str, Any]) -> None:
        print(f"error   {told['message']}", file=sys.stderr)

    heard = {"connected": connected, "status_update": status, "stats_update": stats, "error": error}
    for event, handler in (heard | {"snapshot": topic, "change": topic}).items():
        client.on(event, handler)
    try:
        client.connect(given.url, auth={"token": token}, transports=["websocket"], wait_timeout=5)
    except socketio.exceptions.ConnectionError as refused:
        print(f"no connection: {refused}", file=sys.stderr)
        return 1
    if given.book:
        client.emit("subscribe", {"topics": [f"book/{given.book}"]})
    client.sleep(given.seconds)
    client.disconnect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
