"""Create a worker over REST, let it quote for a while, stop it, read the receipt and its fills.

    CONSOLE_TOKEN=... python run.py --web            in one terminal
    CONSOLE_TOKEN=... python examples/run_a_worker.py [BODY.json] [--seconds 20] [--url http://127.0.0.1:5000]

The worker would outlive this script, so it is stopped in `finally`; a person can do the same on the page.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import requests

TIMEOUT_S = (3.0, 30.0)  # to connect, to answer: a stop waits up to 10 s for the venue's word


class DeskSays(Exception):
    """An answer that is no success: RFC 9457 problem details, one line per field."""


def ask(session: requests.Session, method: str, url: str, body: Any = None) -> Any:
    answer = session.request(method, url, json=body, timeout=TIMEOUT_S)
    if answer.ok:
        return answer.json() if answer.content else None
    try:
        problem = answer.json()
    except ValueError:
        raise DeskSays(f"HTTP {answer.status_code}") from None
    fields = [f"\n  {one['field']}: {one['message']}" for one in problem.get("errors", [])]
    raise DeskSays(f"{answer.status_code} {problem['title']}: {problem['detail']}{''.join(fields)}")


def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="create, start, watch and stop one worker")
    parser.add_argument("body", nargs="?", default=str(Path(__file__).with_name("worker-given-size.json")))
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args(args)
    token = os.environ.get("CONSOLE_TOKEN")
    if not token:
        print("set CONSOLE_TOKEN to the value the desk was started with", file=sys.stderr)
        return 2
    session = requests.Session()
    session.trust_env = False  # no proxy between us and this machine
    session.headers["Authorization"] = f"Bearer {token}"
    api = given.url.rstrip("/") + "/api"
    try:
        worker = ask(session, "POST", f"{api}/workers", json.loads(Path(given.body).read_text("utf-8")))
        path = f"{api}/workers/{worker['id']}"
        print(f"{worker['id']} {worker['name']}: limits {worker['limits']}")
        try:
            ask(session, "POST", f"{path}/start")
            end_s = time.monotonic() + given.seconds
            while (left_s := end_s - time.monotonic()) > 0:
                time.sleep(min(5.0, left_s))
                now = ask(session, "GET", path)
                stats = now["stats"]
                print(
                    f"{now['market']} {now['word']:<10} mid {now['mid']} "
                    f"ours {now['buy']['price']} / {now['sell']['price']} "
                    f"position {now['position']} trades {stats['trades']} net {stats['net']} {now['quote']}"
                )
                for side in ("buy", "sell"):
                    if now[side]["reason"]:
                        print(f"  {side}: {now[side]['reason']}")
        finally:
            stopped = ask(session, "POST", f"{path}/stop")
        print(f"stopped: {stopped['receipt']['text']}")
        for fill in ask(session, "GET", f"{api}/fills?worker={worker['id']}&limit=5")["fills"]:
            role = "maker" if fill["is_maker"] else "taker"
            print(
                f"  {fill['side']} {fill['qty']} at {fill['price']} as {role}, "
                f"fee {fill['fee']} {fill['fee_asset']}"
            )
        ask(session, "DELETE", path)
    except (DeskSays, requests.RequestException) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
