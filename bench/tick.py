"""From a best-bid/ask frame to a signed order: p50 and p99, beside a bare socket loop and beside the usual
bot, in the same run.

This process is the venue. It stamps the monotonic clock just before a bookTicker frame is handed to the
socket, and again when the last byte of the first order that answers it has been read; it spins while it
waits, so its own wake-up is not in the number. The client is another process on another core
(`bench.tick_clients`). One frame is under way at a time. Signatures are verified on every order. Candidates
run round robin; a ratio is the median of the ratios within each round.

Between two timed frames our own client gets a book with one side only, as markets have them at times: it
cancels what rests, so that every timed frame is answered by a new order, as with the bare loops. With
`requote` the order still rests when the next frame comes: then a cancel, an intent and a new order leave,
and the time is that of the new order.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import Result
from bench.tick_clients import SECRET

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 3
TICKS = 250
WARM = 40
GAP_S = 0.002
PATIENCE_S = 20.0
BASE_TICKS = 6_112_300  # 61,123.00
CANDIDATES = ("floor", "usual", "socket", "socket requote", "http")
GOALS = {"socket": "goal: at most 0.22 of the usual bot", "http": "goal: at most 0.22 of the usual bot"}

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Peer:
    """One accepted connection: HTTP, or a WebSocket after its handshake. Never waits."""

    def __init__(self, made: socket.socket) -> None:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        self.made = made
        self.data = b""
        self.is_socket = False
        self.path = ""

    def send(self, data: bytes) -> None:
        self.made.setblocking(True)
        self.made.sendall(data)
        self.made.setblocking(False)

    def send_text(self, payload: bytes) -> None:
        size = len(payload)
        head = bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
        if size > 65535:
            head = b"\x81\x7f" + size.to_bytes(8, "big")
        self.send(head + payload)

    def requests(self) -> Iterator[tuple[str, str, bytes]]:
        """Whole requests: (verb, target, body), or ("ws", "", text)."""
        while True:
            found = self._frame() if self.is_socket else self._http()
            if found is None:
                return
            if found[0]:
                yield found

    def _http(self) -> tuple[str, str, bytes] | None:
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self.data[:end].decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        if len(self.data) < end + 4 + size:
            return None
        body, self.data = self.data[end + 4 : end + 4 + size], self.data[end + 4 + size :]
        verb, target, _ = first.split(" ")
        if "sec-websocket-key" in headers:
            digest = hashlib.sha1(headers["sec-websocket-key"].encode() + _GUID).digest()
            self.is_socket, self.path = True, target
            self.send(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
            )
            return "open", target, b""
        return verb, target, body

    def _frame(self) -> tuple[str, str, bytes] | None:
        data = self.data
        if len(data) < 6:
            return None
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        if len(data) < at + 4 + size:
            return None
        mask, payload = data[at : at + 4], data[at + 4 : at + 4 + size]
        self.data = data[at + 4 + size :]
        if data[0] & 0x0F == 0x9:
            self.send(bytes((0x8A, 0)))
        if data[0] & 0x0F != 0x1:
            return "", "", b""
        key = (mask * (size // 4 + 1))[:size]
        return "ws", "", (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class _Venue:
    """Enough of Binance spot to trade against, on three ports, in one spinning thread."""

    def __init__(self) -> None:
        self.listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        for listener in self.listeners:
            listener.setblocking(False)
        self.ports = [str(listener.getsockname()[1]) for listener in self.listeners]
        self.peers: list[_Peer] = []
        self.stream: _Peer | None = None
        self.orders: _Peer | None = None
        self.open: set[str] = set()
        self.is_ready = False
        self.placed_ns = 0
        self.placed = 0
        self.first_ns = 0
        self.bad = 0
        self.update_id = 1_000

    def pump(self, *, accept: bool) -> None:
        """Take what came; the stamp is made before anything is parsed."""
        if accept:
            for listener in self.listeners:
                try:
                    self.peers.append(_Peer(listener.accept()[0]))
                except BlockingIOError:
                    pass
        for peer in self.peers:
            try:
                piece = peer.made.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                piece = b""
            stamp_ns = time.monotonic_ns()
            if not piece:
                self.peers.remove(peer)
                peer.made.close()
                return
            peer.data += piece
            for verb, target, body in peer.requests():
                self._handle(peer, verb, target, body, stamp_ns)

    def until(self, condition: Callable[[], bool], *, accept: bool = False) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            self.pump(accept=accept)
            if time.monotonic() > end:
                raise RuntimeError("the client did not answer in time")

    def rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.pump(accept=False)

    def tell(self, bid: int, ask: int | None) -> int:
        """One frame; when it left. Without an ask that side is empty."""
        self.update_id += 1
        ask_text = f"{ask // 100}.{ask % 100:02d}000000" if ask else "0.00000000"
        ask_lots = "8.90100000" if ask else "0.00000000"
        payload = (
            f'{{"stream":"btcusdt@bookTicker","data":{{"u":{self.update_id},"s":"BTCUSDT",'
            f'"b":"{bid // 100}.{bid % 100:02d}000000","B":"12.34500000",'
            f'"a":"{ask_text}","A":"{ask_lots}"}}}}'
        ).encode()
        assert self.stream is not None
        head = b"\x81\x7e" + len(payload).to_bytes(2, "big")
        self.first_ns = 0
        sent_ns = time.monotonic_ns()
        self.stream.made.send(head + payload)
        return sent_ns

    def _handle(self, peer: _Peer, verb: str, target: str, body: bytes, stamp_ns: int) -> None:
        if verb == "open":
            if target.startswith("/stream"):
                self.stream = peer
                if "?" in target:  # ours asks for diffs too
                    self._diff(peer)
            else:
                self.orders = peer
            return
        if verb == "ws":
            asked = json.loads(body)
            self._over_socket(peer, asked, stamp_ns)
            return
        path, _, query = target.partition("?")
        answer: Any
        if path == "/ready":
            self.is_ready = True
            answer = {}
        elif path.endswith("/v3/order"):
            text = query + body.decode()
            signed, _, signature = text.rpartition("&signature=")
            params = dict(pair.split("=", 1) for pair in signed.split("&"))
            answer = self._order(params, verb == "POST", stamp_ns)
            peer.send(_http(answer))
            self._verify(signed, signature)
            self._push(params, verb == "POST")
            return
        else:
            answer = _canned(path)
        peer.send(_http(answer))

    def _over_socket(self, peer: _Peer, asked: dict[str, Any], stamp_ns: int) -> None:
        method, params = asked["method"], asked.get("params", {})
        if method in ("order.place", "order.cancel"):
            is_place = method == "order.place"
            result = self._order(params, is_place, stamp_ns)
        elif method == "time":
            result = {"serverTime": time.time_ns() // 1_000_000}
        else:
            result = {"subscriptionId": 0}
        limits = [
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": 1_000_000,
                "count": 1,
            }
        ]
        answer = {"id": asked["id"], "status": 200, "result": result, "rateLimits": limits}
        peer.send_text(json.dumps(answer, separators=(",", ":")).encode())
        if method.startswith("order."):
            signature = params.pop("signature")
            self._verify("&".join(f"{k}={params[k]}" for k in sorted(params)), signature)
            self._push(params, is_place)

    def _order(self, params: dict[str, Any], is_place: bool, stamp_ns: int) -> dict[str, Any]:
        client_id = params.get("newClientOrderId") if is_place else params["origClientOrderId"]
        if is_place:
            self.placed += 1
            if not self.first_ns:
                self.first_ns = stamp_ns
            self.open.add(str(client_id))
        else:
            self.open.discard(str(client_id))
        return {
            "symbol": "BTCUSDT",
            "orderId": self.placed,
            "orderListId": -1,
            "clientOrderId": client_id,
            "transactTime": time.time_ns() // 1_000_000,
            "price": "61123.00000000",
            "origQty": "0.00100000",
            "executedQty": "0.00000000",
            "cummulativeQuoteQty": "0.00000000",
            "status": "NEW" if is_place else "CANCELED",
            "timeInForce": "GTC",
            "type": "LIMIT_MAKER",
            "side": "BUY",
            "selfTradePreventionMode": "EXPIRE_TAKER",
        }

    def _push(self, params: dict[str, Any], is_place: bool) -> None:
        """The account's event of an order, as the venue would push it; bare loops have nobody to hear it."""
        if self.orders is None:
            return
        now_ms = time.time_ns() // 1_000_000
        client_id = str(params.get("newClientOrderId") if is_place else params["origClientOrderId"])
        event = {
            "e": "executionReport",
            "E": now_ms,
            "s": "BTCUSDT",
            "c": client_id,
            "S": "BUY",
            "C": "",
            "o": "LIMIT_MAKER",
            "f": "GTC",
            "q": params.get("quantity", "0.001"),
            "r": "NONE",
            "p": params.get("price", "61123.00"),
            "x": "NEW" if is_place else "CANCELED",
            "X": "NEW" if is_place else "CANCELED",
            "i": self.placed,
            "l": "0",
            "z": "0",
            "L": "0",
            "n": "0",
            "N": None,
            "T": now_ms,
            "t": -1,
            "m": False,
            "V": "EXPIRE_TAKER",
        }
        text = json.dumps({"subscriptionId": 0, "event": event}, separators=(",", ":"))
        self.orders.send_text(text.encode())

    def _diff(self, peer: _Peer) -> None:
        diff = {"e": "depthUpdate", "E": time.time_ns() // 1_000_000, "s": "BTCUSDT", "U": 1, "u": 999}
        text = json.dumps(
            {"stream": "btcusdt@depth@100ms", "data": {**diff, "b": [], "a": []}}, separators=(",", ":")
        )
        peer.send_text(text.encode())

    def _verify(self, signed: str, signature: str) -> None:
        wanted = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest()
        self.bad += wanted != signature

    def close(self) -> None:
        for peer in self.peers:
            peer.made.close()
        for listener in self.listeners:
            listener.close()


def _http(answer: Any) -> bytes:
    body = json.dumps(answer, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def _canned(path: str) -> Any:
    """What a client reads before it trades."""
    now_ms = time.time_ns() // 1_000_000
    if path.endswith("/time"):
        return {"serverTime": now_ms}
    if path.endswith("/depth"):
        return {
            "lastUpdateId": 999,
            "bids": [["61123.00000000", "1.00000000"]],
            "asks": [["61123.01000000", "1.00000000"]],
        }
    if path.endswith("/account"):
        rates = {"maker": "0.001", "taker": "0.001", "buyer": "0", "seller": "0"}
        balances = [
            {"asset": "USDT", "free": "100000.0", "locked": "0"},
            {"asset": "BTC", "free": "0", "locked": "0"},
        ]
        return {"commissionRates": rates, "balances": balances}
    if path.endswith("/exchangeInfo"):
        weight = {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": 1_000_000,
        }
        orders = {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 1_000_000}
        filters = [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000",
                "tickSize": "0.01000000",
            },
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001000"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
        ]
        symbol = {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "orderTypes": ["LIMIT", "LIMIT_MAKER"],
            "filters": filters,
            "allowedSelfTradePreventionModes": ["NONE", "EXPIRE_TAKER"],
        }
        return {"serverTime": now_ms, "rateLimits": [weight, orders], "symbols": [symbol]}
    return []


def _pin(core: int) -> Callable[[], None] | None:
    """Venue and client on a core each, where the system lets us say so."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return None
    cores = sorted(os.sched_getaffinity(0))
    return lambda: os.sched_setaffinity(0, {cores[core]})


def _once(candidate: str, ticks: int, pins: tuple[Callable[[], None] | None, ...], seed: int) -> list[float]:
    """Microseconds from each timed frame to its order, with one client process."""
    name, _, mode = candidate.partition(" ")
    is_ours = name in ("socket", "http")
    venue = _Venue()
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.tick_clients", name, *venue.ports],
        cwd=ROOT,
        preexec_fn=pins[1],  # noqa: PLW1509  (no threads here)
        stderr=subprocess.PIPE,
    )
    chance = random.Random(seed)
    bid = BASE_TICKS
    taken: list[float] = []
    gc.disable()
    try:
        venue.until(lambda: venue.is_ready, accept=True)
        venue.rest(0.05)
        for number in range(ticks + WARM):
            if is_ours and not mode:
                venue.tell(bid, None)
                venue.rest(GAP_S)
                venue.until(lambda: not venue.open)
                venue.rest(GAP_S)
            bid += chance.choice((-1500, -1000, 1000, 1500))
            before = venue.placed
            sent_ns = venue.tell(bid, bid + 1)
            venue.until(lambda: venue.placed > before, accept=not is_ours and number < 2)  # noqa: B023
            if number >= WARM:
                taken.append((venue.first_ns - sent_ns) / 1e3)
            venue.rest(GAP_S)
        if venue.bad:
            raise RuntimeError(f"{venue.bad} orders were signed wrongly")
        return taken
    except RuntimeError as error:
        child.kill()
        said = child.communicate()[1].decode()[-2000:]
        raise RuntimeError(f"{candidate}: {error}\n{said}") from None
    finally:
        gc.enable()
        venue.close()
        try:
            child.wait(3)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stderr is not None:
            child.stderr.close()


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def run(rounds: int = ROUNDS, ticks: int = TICKS) -> list[Result]:
    """Each candidate's p50 and p99 in microseconds, with its ratio to the bare loop and to the usual bot."""
    pins = (_pin(0), _pin(1))
    mask = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if pins[0] is not None:
        pins[0]()
    taken: dict[str, list[list[float]]] = {name: [] for name in CANDIDATES}
    try:
        for turn in range(rounds):
            for name in CANDIDATES:
                taken[name].append(_once(name, ticks, pins, turn))
    finally:
        if mask is not None:
            os.sched_setaffinity(0, mask)
    results = []
    for share, label in ((0.5, "p50"), (0.99, "p99")):
        figures = {name: [_at(values, share) for values in rows] for name, rows in taken.items()}
        for name in CANDIDATES:
            middle = statistics.median(figures[name])
            against = ("floor", "usual") if name not in ("floor", "usual") else ("floor",)
            for other in against:
                ratio = statistics.median(a / b for a, b in zip(figures[name], figures[other], strict=True))
                note = GOALS.get(name, "") if label == "p50" and other == "usual" else ""
                results.append(
                    Result("tick", f"{name} {label}", middle, "us", ratio, f"{other} {label}", note)
                )
    return results


if __name__ == "__main__":
    for result in run():
        print(f"{result.name:22} {result.value:9.1f} {result.unit}  x{result.ratio:.3f} of {result.against}")
