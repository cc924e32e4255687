"""The programs that `bench.tick` times, one process each: `python -m bench.tick_clients NAME STREAM_PORT
HTTP_PORT SOCKET_PORT`.

- floor: one thread, bare blocking sockets, frame parsed with orjson, price in whole ticks, HMAC by a
  prepared state, the request's bytes written by hand. It knows nothing of books, limits, answers or losses:
  the least a Python program can do.
- usual: what bots are made of, `WebSocketApp` and `requests.Session`; same parsing, pricing and signing as
  the floor.
- socket, http: this project as a desk runs it: feed thread (stream, decoders, book), lane thread (engine
  with the standard maker, risk, gateway with its intent log on disk), order thread of the Binance spot
  adapter. Orders over the WebSocket API, or over the kept HTTP connection.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

API_KEY = "K" * 64
SECRET = "S" * 64
SWITCH_S = 0.0005  # of the trading process, as run.py sets it

_state = hmac.new(SECRET.encode(), digestmod=hashlib.sha256)
_number = 0


def _ready(http_port: int) -> None:
    """Tell the driver that the next frame may be timed."""
    with socket.create_connection(("127.0.0.1", http_port)) as told:
        told.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        told.recv(1024)


def _decide(frame: bytes) -> bytes:
    """One signed order for a frame: bid one tick below the best."""
    global _number
    data = orjson.loads(frame)["data"]
    ticks = int(float(data["b"]) * 100 + 0.5) - 1
    _number += 1
    query = (
        b"symbol=%b&side=BUY&type=LIMIT_MAKER&quantity=0.00100&price=%d.%02d&newClientOrderId=mm%08d"
        b"&newOrderRespType=RESULT&recvWindow=5000&timestamp=%d"
        % (data["s"].encode(), ticks // 100, ticks % 100, _number, time.time_ns() // 1_000_000)
    )
    state = _state.copy()
    state.update(query)
    return b"%b&signature=%b" % (query, state.hexdigest().encode())


def floor(stream_port: int, http_port: int, _socket_port: int) -> None:
    order = socket.create_connection(("127.0.0.1", http_port))
    order.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = (
        f"POST /api/v3/order HTTP/1.1\r\nHost: 127.0.0.1\r\nX-MBX-APIKEY: {API_KEY}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: "
    ).encode()
    stream = socket.create_connection(("127.0.0.1", stream_port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(
        b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += stream.recv(1)
    _ready(http_port)
    while True:
        data = stream.recv(65536)
        if not data or data[0] == 0x88:
            return
        payload = data[4:] if data[1] == 126 else data[2:]
        body = _decide(payload)
        order.sendall(head + b"%d\r\n\r\n%b" % (len(body), body))
        told = order.recv(65536)
        while b"\r\n\r\n" not in told:
            told += order.recv(65536)
        orjson.loads(told.split(b"\r\n\r\n", 1)[1])


def usual(stream_port: int, http_port: int, _socket_port: int) -> None:
    import requests
    import websocket

    session = requests.Session()
    session.headers.update({"X-MBX-APIKEY": API_KEY, "Content-Type": "application/x-www-form-urlencoded"})
    url = f"http://127.0.0.1:{http_port}/api/v3/order"

    def on_message(_: Any, text: str) -> None:
        orjson.loads(session.post(url, data=_decide(text.encode())).content)

    app = websocket.WebSocketApp(
        f"ws://127.0.0.1:{stream_port}/stream",
        on_message=on_message,
        on_open=lambda _: _ready(http_port),
    )
    app.run_forever()


def _ours(order_path: str) -> Callable[[int, int, int], None]:
    def client(stream_port: int, http_port: int, socket_port: int) -> None:
        _desk(order_path, stream_port, http_port, socket_port)

    return client


def _desk(order_path: str, stream_port: int, http_port: int, socket_port: int) -> None:
    from api.gateway import Gateway
    from api.risk import Limits
    from api.runtime import Board, Clock, Inbox, Service
    from api.signing import HmacKey
    from api.types import SetTrading, Trading
    from api.venues.binance_spot import Addresses
    from api.venues.binance_spot_trading import BinanceSpotTrading, Settings, on_this_machine
    from database.intents import IntentLog
    from quote.feed import Feed, LiveSource
    from quote.fold import MarketFold
    from quote.room import to_inbox
    from strategies import STRATEGIES
    from strategies.engine import Engine
    from strategies.lane import AddEngine, ForWorker, Lane, LaneItem, LaneService

    sys.setswitchinterval(SWITCH_S)
    clock: Clock = Clock()
    rest = f"http://127.0.0.1:{http_port}/api"
    exchange = BinanceSpotTrading(
        HmacKey(API_KEY, SECRET),
        clock=clock,
        where=on_this_machine(rest, f"ws://127.0.0.1:{socket_port}/ws-api/v3"),
        settings=Settings(order_path=order_path),
    )
    (instrument,) = exchange.fetch_instruments()
    inbox: Inbox[LaneItem] = Inbox()
    directory = Path(tempfile.mkdtemp(prefix="makerdeck-bench-"))
    intents = IntentLog(directory / "intents.log")
    gateway = Gateway(
        exchange,
        [instrument],
        clock=clock,
        intents=intents,
        desk_tag="bnch",
        run_no=1,
        deliver=inbox.put,
        on_fill=lambda worker, fill: None,
        resolve_worker=lambda number: "w1" if number == 1 else None,
    )
    strategy = STRATEGIES["standard"]
    params = strategy.parse({"spread": 0.02, "max_orders": 1})
    limits = Limits(
        **dict.fromkeys(("max_order_qty", "max_position"), instrument.qty(10**9)),
        max_order_value=instrument.qty(10**12),
        price_collar_pct=instrument.qty(500_000),
        max_book_age_s=instrument.qty(200_000),
        max_messages_per_s=1000,
        max_open_orders=10,
    )
    engine = Engine(
        "w1",
        instrument,
        strategy,
        params,
        limits,
        version=1,
        next_id=lambda: gateway.next_client_id(1),
        others_touch=lambda: gateway.others_touch(instrument.id, "w1"),
    )
    lane = LaneService("lane", Lane(clock, record=lambda step: None), inbox, clock, Board())
    feed = Feed(
        "bench",
        LiveSource([instrument], clock, addresses=Addresses(rest, f"ws://127.0.0.1:{stream_port}")),
        MarketFold([instrument]),
        clock,
        [to_inbox(inbox.put_latest, inbox.put_instead)],
    )

    def poll(service: Service) -> None:
        while not service.wait(0.1):
            gateway.poll(clock.now_ns())

    lane.lane.add_gateway(gateway)
    inbox.put(AddEngine(engine, gateway))
    inbox.put(ForWorker("w1", SetTrading(clock.now_ns(), Trading.RUN, "")))
    lane.service.start()
    exchange.connect(inbox.put)
    poller = Service("poll", poll).start()
    feed.start()
    while not (gateway.is_linked and gateway.is_reconciled and engine.book is not None):
        time.sleep(0.01)
    time.sleep(0.05)
    _ready(http_port)
    while feed.views(clock.now_ns())[0].state == "running":
        time.sleep(0.05)
    feed.stop()
    poller.stop()
    exchange.close()
    intents.close()


CLIENTS: dict[str, Callable[[int, int, int], None]] = {
    "floor": floor,
    "usual": usual,
    "socket": _ours("socket"),
    "http": _ours("http"),
}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](*map(int, sys.argv[2:5]))
    os._exit(0)
