"""The terminal face over a `FakeDesk` that trades by itself, for tests in a real process or a real terminal.

    python -m tests.cli.face attached|own [COMMAND ...]

Also `FakeSession` for tests in this process. Must not know venues or engines; not part of the product.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from api.runtime import Clock, Service
from cli.main import main
from quote.bus import InProcessBus
from tests.fakes import FakeDesk


@dataclass
class FakeSession:
    """A session over a desk in memory; `in_doubt` is what `close` answers."""

    desk: Any
    bus: Any = field(default_factory=InProcessBus)
    kind: str = "attached"
    in_doubt: int = 0
    closed: int = 0
    on_close: Callable[[], None] = lambda: None

    def close(self) -> int:
        self.closed += 1
        self.on_close()
        return self.in_doubt


def run(kind: str, words: list[str]) -> int:
    """One command over a desk with the market moving five times a second."""

    def connect() -> FakeSession:
        bus = InProcessBus()
        desk = FakeDesk(bus, now_ns=Clock().now_ns)

        def walk(service: Service) -> None:
            while not service.wait(0.2):
                desk.tick()

        market = Service("market", walk).start()

        def end() -> None:
            market.stop()
            market.join(5.0)
            print(f"closed; running {desk.view().running}", file=sys.stderr)

        return FakeSession(desk, bus, kind, on_close=end)

    is_tty = os.isatty(0) and os.isatty(1)
    return main(words, connect, out=sys.stdout, err=sys.stderr, is_tty=is_tty)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
