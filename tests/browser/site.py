"""The real web face over a `FakeDesk`, served on a loopback port of its own, for tests that drive a browser.

Hides: the bus, the server thread and the thread that lets the desk tick. `hold()` makes the desk fall silent,
as a hung desk would. Must not know the browser. Used by the fixtures beside it, and by a person:
`python -m tests.browser.site [workers]`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType

from api.desk import WorkerSpec
from api.runtime import Clock
from quote.bus import InProcessBus
from tests.fakes import FakeDesk
from web.app import create_app
from web.serve import run_server
from web.settings import WebSettings

TOKEN = "a-token-for-tests-only-0123456789"
TICK_S = 0.2
READY_S = 10.0


class Site:
    """A desk with its page. Use as a context manager; `link` logs in."""

    def __init__(
        self, *, demo: bool = True, history: int = 120, tick_s: float = TICK_S, market: str = "SYNTHETIC"
    ) -> None:
        self.bus = InProcessBus()
        self._clock = _Backdated(history * 1_000_000_000)
        self.desk = FakeDesk(self.bus, now_ns=self._clock, demo=demo, market=market)
        for left in range(
            history, 0, -1
        ):  # a past, one sample a second, so that charts have something to show
            self._clock.behind_ns = left * 1_000_000_000
            self.desk.tick()
        self._clock.behind_ns = 0
        self._tick_s = tick_s
        self._stop = threading.Event()
        self._held = threading.Event()
        self._ready = threading.Event()
        self._threads: list[threading.Thread] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        return self._settings.link(self.port)

    def hold(self) -> None:
        """The desk falls silent: nothing is published until `go_on`."""
        self._held.set()

    def go_on(self) -> None:
        self._held.clear()

    def add(self, count: int) -> None:
        """More running workers, on both markets by turns."""
        for number in range(count):
            symbol = ("BTC-USDT", "ETH-USDT")[number % 2]
            spec = WorkerSpec(
                "market_making", "standard", "paper", symbol, {"spread": 0.02}, name=f"maker {number + 1}"
            )
            self.desk.start(self.desk.create(spec, by="test").id, by="test")

    def __enter__(self) -> Site:
        self._settings = WebSettings(login_token=TOKEN, port=0, desk="main")
        app, _ = create_app(self.desk, self.bus, self._settings)
        threads = self._settings.threads
        self._run("site-server", lambda: run_server(app, "127.0.0.1", 0, threads, self._opened, self._stop))
        self._run("site-ticks", self._tick)
        if not self._ready.wait(READY_S):
            raise RuntimeError("the web face did not open its port")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10.0)

    def _opened(self, port: int) -> None:
        self.port = port
        self._ready.set()

    def _tick(self) -> None:
        while not self._stop.wait(self._tick_s):
            if not self._held.is_set():
                self.desk.tick()

    def _run(self, name: str, body: Callable[[], None]) -> None:
        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)


class _Backdated:
    """The machine's clock, set back while a past is made up."""

    def __init__(self, behind_ns: int) -> None:
        self.behind_ns = behind_ns
        self._clock = Clock()

    def __call__(self) -> int:
        return self._clock.now_ns() - self.behind_ns


def main() -> None:
    """Serve until Enter: for looking at the page by hand."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with Site() as site:
        site.add(workers)
        print(site.link, flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main()
