"""The port of the page: the wanted one, or the next that is free and that browsers open.

Hides: which ports browsers refuse, and how a port is tried. Knows no settings.
Called by `run.py` before the face starts.
"""

from __future__ import annotations

import socket

from config import ConfigErrors, Mistake

PORTS_TRIED = 200  # far enough to walk around other programs, and no scan

# Ports that browsers refuse to open: the "bad ports" of the WHATWG Fetch standard, "port blocking",
# which Chromium keeps in net/base/port_util.cc.
_BAD_PORTS = frozenset(
    {
        0,
        1,
        7,
        9,
        11,
        13,
        15,
        17,
        19,
        20,
        21,
        22,
        23,
        25,
        37,
        42,
        43,
        53,
        69,
        77,
        79,
        87,
        95,
        101,
        102,
        103,
        104,
    }
    | {
        109,
        110,
        111,
        113,
        115,
        117,
        119,
        123,
        135,
        137,
        139,
        143,
        161,
        179,
        389,
        427,
        465,
        512,
        513,
        514,
        515,
        526,
    }
    | {
        530,
        531,
        532,
        540,
        548,
        554,
        556,
        563,
        587,
        601,
        636,
        989,
        990,
        993,
        995,
        1719,
        1720,
        1723,
        2049,
        3659,
        4045,
    }
    | {4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
)


def free_port(host: str, wanted: int) -> int:
    """`wanted`, or the next port above it that is free on `host` and that browsers accept.

    Raises:
        ConfigErrors: no such port near `wanted`, or `host` is no address of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError as error:
        raise ConfigErrors(
            [Mistake("host", f"'{host}' is not an address of this machine ({error.strerror})")]
        ) from error
    last = min(wanted + PORTS_TRIED, 65536) - 1
    for port in range(wanted, last + 1):
        if port not in _BAD_PORTS and _is_free(family, kind, (address[0], port, *address[2:])):
            return port
    raise ConfigErrors(
        [Mistake("port", f"none from {wanted} to {last} is free on {host} and open to browsers")]
    )


def _is_free(family: int, kind: int, address: tuple[object, ...]) -> bool:
    with socket.socket(family, kind) as asking:
        asking.settimeout(0.2)
        # macOS lets us bind beside a program that listens on every address (AirPlay on 5000), so ask first
        if asking.connect_ex(address) == 0:
            return False
    with socket.socket(family, kind) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: a port just left counts as free
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError:
            return False
    return True
