"""What travels between a desk and a paper venue in another process, and over what.

A connection carries packets: 4 bytes length (big-endian, of what follows), 1 byte kind, payload. Kind `M` is
a message in JSON (`Hello`, `Send`, ... below), kind `F` a market frame: 8 bytes receive time (UTC ns), 1 byte
length of the venue symbol (0: none), the symbol, the raw frame as it was received. What happened to the
source of the frames (`Note`) travels between them, in order.

Hides addresses, packets and the JSON of our types. Knows nothing of what a message leads to. Called by
`server` and `client` only. The transport is loopback only: it is neither encrypted nor meant for a network.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Any

import msgspec

from api import errors
from api.errors import BadInput, ExchangeError, OutcomeUnknown, RateLimited, Unavailable
from api.types import (
    Amend,
    Answered,
    BalancesHeard,
    Cancel,
    Command,
    Event,
    FillHeard,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    Place,
)

MESSAGE = b"M"
FRAME = b"F"
MAX_PACKET = 64_000_000  # bytes; a snapshot of a deep book is about 1 % of this
MAX_UNIX_PATH = 107  # bytes; a longer one fails in ways that name something else
HELLO_S = 5.0  # how long a new connection may take to say who it is


class Hello(msgspec.Struct, tag="hello"):
    """First message of a client. `want` is "account" or "frames"; `listens`: push events from now on."""

    token: str
    want: str
    account: str = ""
    listens: bool = False


class Welcome(msgspec.Struct, tag="welcome"):
    """The server's answer to a good Hello. `label` is REPLAY or SYNTHETIC: where the market comes from."""

    label: str
    venue_run: int


class Listen(msgspec.Struct, tag="listen"):
    """Push the account's events from now on."""


class Send(msgspec.Struct, tag="send"):
    """One command of the account; exactly one of the three is set."""

    place: Place | None = None
    amend: Amend | None = None
    cancel: Cancel | None = None


class Call(msgspec.Struct, tag="call"):
    """A request with an answer of its own (`Result` or `Failed` with the same `n`)."""

    n: int
    name: str
    args: dict[str, Any] = {}


class Result(msgspec.Struct, tag="result"):
    n: int
    value: msgspec.Raw


class Failed(msgspec.Struct, tag="failed"):
    """`error` is the name of a class in `api.errors`; `n` is 0 when it is about the connection itself."""

    n: int
    error: str
    message: str
    retry_after_s: float = 0.0


class Heard(msgspec.Struct, tag="heard"):
    """One pushed event; `kind` is its class name."""

    kind: str
    event: msgspec.Raw


class Note(msgspec.Struct, tag="note"):
    """The market's source came up, went down, began again or ended; `verb` is the method of the feed's
    sink."""

    verb: str
    reason: str
    note: str = ""


ToServer = Hello | Listen | Send | Call
ToClient = Welcome | Result | Failed | Heard | Note

_EVENTS: dict[str, Any] = {
    kind.__name__: kind for kind in (Answered, OrderHeard, FillHeard, LinkChanged, BalancesHeard)
}


def _plain(value: Any) -> Any:
    if isinstance(value, InstrumentId):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not travel")


def _typed(kind: type, value: Any) -> Any:
    if kind is InstrumentId:
        return InstrumentId(value)
    raise TypeError(f"{kind.__name__} does not travel")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_to_server: msgspec.json.Decoder[ToServer] = msgspec.json.Decoder(ToServer, dec_hook=_typed)
_to_client: msgspec.json.Decoder[ToClient] = msgspec.json.Decoder(ToClient, dec_hook=_typed)
_event_decoders = {name: msgspec.json.Decoder(kind, dec_hook=_typed) for name, kind in _EVENTS.items()}


def encoded(value: Any) -> bytes:
    """JSON of a message or of a value of `api.types`."""
    return _encoder.encode(value)


def decoded(raw: bytes | msgspec.Raw, kind: Any) -> Any:
    """A value of `kind` from its JSON. Raises msgspec.ValidationError / DecodeError."""
    return msgspec.json.decode(raw, type=kind, dec_hook=_typed)


def decode_to_server(raw: bytes) -> ToServer:
    return _to_server.decode(raw)


def decode_to_client(raw: bytes) -> ToClient:
    return _to_client.decode(raw)


def heard(event: Event) -> bytes:
    """The packet that pushes one event."""
    kind = type(event).__name__
    return packet(MESSAGE, encoded(Heard(kind, msgspec.Raw(encoded(event)))))


def event_of(message: Heard) -> Event:
    """Raises KeyError for an event that does not travel."""
    event: Event = _event_decoders[message.kind].decode(message.event)
    return event


def sending(command: Command) -> Send:
    if isinstance(command, Place):
        return Send(place=command)
    return Send(amend=command) if isinstance(command, Amend) else Send(cancel=command)


def command_of(message: Send) -> Command | None:
    return message.place or message.amend or message.cancel


def failed(n: int, error: ExchangeError | BadInput) -> Failed:
    wait_s = error.retry_after_s if isinstance(error, RateLimited) else 0.0
    return Failed(n, type(error).__name__, str(error), wait_s)


def error_of(message: Failed) -> ExchangeError:
    """The exception a `Failed` stands for; one we do not know counts as an unknown outcome."""
    kind = getattr(errors, message.error, None)
    if kind is RateLimited:
        return RateLimited(message.message, retry_after_s=message.retry_after_s)
    if isinstance(kind, type) and issubclass(kind, ExchangeError):
        return kind(message.message)
    return OutcomeUnknown(f"{message.error}: {message.message}")


# ---------------------------------------------------------------------------------------------------- packets


def packet(kind: bytes, payload: bytes) -> bytes:
    return (len(payload) + 1).to_bytes(4, "big") + kind + payload


def message(value: Any) -> bytes:
    """The packet of one message."""
    return packet(MESSAGE, encoded(value))


def frame(symbol: str | None, recv_ns: int, raw: bytes) -> bytes:
    """The packet of one market frame."""
    name = (symbol or "").encode()
    return packet(FRAME, recv_ns.to_bytes(8, "big", signed=True) + bytes((len(name),)) + name + raw)


def frame_of(payload: bytes) -> tuple[str | None, int, bytes]:
    """(venue symbol or None, receive time in ns, raw frame)."""
    end = 9 + payload[8]
    return payload[9:end].decode() or None, int.from_bytes(payload[:8], "big", signed=True), payload[end:]


class Packets:
    """Bytes in, packets out."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """(kind, payload) of every packet that is complete now. Raises ValueError for one that cannot be
        ours."""
        held = self._held
        held += data
        found = []
        at = 0
        while len(held) - at >= 4:
            size = int.from_bytes(held[at : at + 4], "big")
            if not 1 <= size <= MAX_PACKET:
                raise ValueError(f"a packet of {size} bytes")
            if len(held) - at - 4 < size:
                break
            at += 4
            found.append((bytes(held[at : at + 1]), bytes(held[at + 1 : at + size])))
            at += size
        del held[:at]
        return found


# -------------------------------------------------------------------------------------------------- addresses


def listen_on(address: str) -> tuple[socket.socket, str]:
    """A listening socket and the address clients should use (the port that was free, for port 0).

    Raises:
        BadInput: the address is malformed, not loopback, or taken.
    """
    where = _parsed(address)
    if isinstance(where, str):
        path = where
        _clear_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # the socket file is ours alone from its first moment
        try:
            listener.bind(path)
        except OSError as error:
            listener.close()
            raise BadInput("listen", f"cannot listen on {address}: {error.strerror or error}") from None
        finally:
            os.umask(before)
        listener.listen(16)
        return listener, address
    host, port = where
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BadInput("listen", f"cannot listen on {address}: {error.strerror or error}") from None
    listener.listen(16)
    return listener, f"{host}:{listener.getsockname()[1]}"


def connected_to(address: str, timeout_s: float) -> socket.socket:
    """Raises Unavailable when nobody answers there, BadInput for a malformed address."""
    where = _parsed(address)
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    link = socket.socket(family, socket.SOCK_STREAM)
    link.settimeout(timeout_s)
    try:
        link.connect(where)
        if family == socket.AF_INET:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        link.close()
        raise Unavailable(f"no paper venue at {address}: {error.strerror or error}") from None
    return link


def forget(address: str) -> None:
    """Remove the file of a Unix socket we listened on."""
    where = _parsed(address)
    if isinstance(where, str):
        try:
            os.unlink(where)
        except OSError:
            return  # gone already, or not ours to remove: the next start looks again


def _parsed(address: str) -> str | tuple[str, int]:
    """The path of a Unix socket, or (host, port)."""
    allowed = "allowed are 127.0.0.1:PORT, localhost:PORT and unix:/path"
    if address.startswith("unix:"):
        path = address[len("unix:") :]
        if not path or len(os.fsencode(path)) > MAX_UNIX_PATH:
            raise BadInput("listen", f"a socket path has 1 to {MAX_UNIX_PATH} bytes; {allowed}")
        return path
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if host not in ("127.0.0.1", "localhost"):
        raise BadInput("listen", f"{address!r} is not a loopback address; {allowed}")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise BadInput("listen", f"{port!r} is not a port (0 to 65535); {allowed}")
    return "127.0.0.1", int(port)


def _clear_stale(path: str) -> None:
    """Remove the socket file a killed server left behind; anything else at that path is not touched."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise BadInput("listen", f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1.0)
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)  # nobody listens behind it
        return
    except OSError as error:
        raise BadInput("listen", f"{path} cannot be used: {error.strerror or error}") from None
    finally:
        probe.close()
    raise BadInput("listen", f"another paper venue listens on {path}")
