"""makerdeck's only entry and only composer: reads the settings, builds the Desk, starts a face, unwinds.

    run.py                      the page (= --web): this process supervises Redis, the desk and the web face
    run.py --cli [command]      the terminal: attaches to a desk on the same data directory, or starts its own
    run.py --symbol S ...       a direct run without any face; on a tape with --tape it is deterministic

Imported by nobody. Heavy imports wait until the face that needs them is chosen. Exit codes: 0 fine, 2 bad
input, 4 refused because it does not fit the present state (a kill that is latched), 5 the desk could not be
reached or started, 7 orders in doubt at the end, 130 interrupted; `cli.main` lists the terminal's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import logging.handlers
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import config
from api.errors import BadInput, BadInputs, Conflict, ExchangeError

if TYPE_CHECKING:
    from api.desk import WorkerSpec, WorkerView
    from api.keys import AskPassphrase, KeyStore
    from api.supervise import Child, Inherited
    from cli.direct import RoundPrinter
    from cli.keys import KeyTools
    from cli.session import Session
    from quote.bus import Bus
    from strategies.host import Host, HostSettings

BESIDE = Path(__file__).resolve().parent
VERSION = "0.1.0"
ROLE = "MAKERDECK_ROLE"  # set for children only: "desk" or "web"
DESK_FILE = "desk.json"  # how a terminal finds a running desk; no secrets in it
DESK_END_S = 25.0  # longer than the desk's own deadline for confirmed cancels
WEB_END_S = 5.0
DESK_STARTS, DESK_STARTS_S = (
    5,
    600.0,
)  # restarts of a crashed desk within this time before the supervisor gives up
RESTART_PAUSE_S = 2.0  # between two attempts to start the same child again
ROUND_LOOK_S = 0.1  # how soon a direct run sees that its time is over
OK, BAD_INPUT, CONFLICT, UNREACHABLE, IN_DOUBT, INTERRUPTED = 0, 2, 4, 5, 7, 130

# variables that hold keys of venues, taken out of our environment: no child of ours inherits one, not even
# npm or a browser
KEY_ENVIRON: dict[str, str] = {}

log = logging.getLogger("makerdeck.run")


def main() -> int:
    """Do what the command line asks for; the process's exit code."""
    _take_key_variables()
    inherited, environ = _inherited()
    try:
        settings = config.load(sys.argv[1:], environ, beside=BESIDE)
        _set_up_logs(settings)
        if inherited is not None:
            return (_desk_process if os.environ[ROLE] == "desk" else _web_process)(settings, inherited)
        if settings.mode == "cli":
            return _terminal(settings)
        if settings.mode == "direct":
            return _direct_on_tape(settings) if settings.tapes else _direct(settings)
        return _supervise(settings)
    except config.ConfigErrors as error:
        return _refuse(*(str(mistake) for mistake in error.mistakes))
    except BadInputs as error:
        return _refuse(*(str(one) for one in error.errors))
    except BadInput as error:
        return _refuse(str(error))
    except Conflict as error:
        _refuse(str(error))
        return CONFLICT


def _take_key_variables() -> None:
    from api.keys import VARIABLES

    KEY_ENVIRON.update((name, os.environ.pop(name)) for name in VARIABLES if name in os.environ)


def _inherited() -> tuple[Inherited | None, Mapping[str, str]]:
    """What a child got over its pipe, and the environment with the secrets back in it."""
    if ROLE not in os.environ:
        return None, os.environ
    from api.supervise import from_parent

    inherited = from_parent()
    if inherited is None:
        os.environ.pop(ROLE)
        return None, os.environ
    return inherited, {**os.environ, **json.loads(inherited.secrets["environ"])}


def _refuse(*lines: str) -> int:
    for line in lines:
        print(f"makerdeck: {line}", file=sys.stderr)
    return BAD_INPUT


def _set_up_logs(settings: config.Settings) -> None:
    """One event a line, UTC, to standard error and the log file; never a secret."""
    shape = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    shape.converter = time.gmtime
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if settings.log_file is not None:
        try:
            handlers.append(
                logging.handlers.RotatingFileHandler(settings.log_file, maxBytes=50 * 2**20, backupCount=10)
            )
        except OSError as error:
            raise BadInput("log_file", f"cannot be written: {error.strerror}") from None
    level = logging.getLevelName(settings.log_level)
    quiet_faces = settings.mode in ("cli", "direct") and settings.log_level == "INFO"
    for handler in handlers:
        handler.setFormatter(shape)
        if quiet_faces and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)  # the terminal shows what happens; warnings are notices there
    root = logging.getLogger()
    root.setLevel(level)
    root.handlers = handlers
    logging.getLogger("urllib3").setLevel(logging.WARNING)


def _until_signal() -> threading.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _host_settings(s: config.Settings, name: str) -> HostSettings:
    from strategies.host import HostSettings

    token = "" if s.paper_token is None else s.paper_token.reveal()
    return HostSettings(
        name=name,
        env=s.env,
        version=VERSION,
        data_dir=s.data_dir,
        seed=s.seed,
        tapes=s.tapes,
        speed=s.speed,
        at_end=s.at_end,
        paper_url=s.paper_url,
        paper_token=token,
        paper_file=s.paper_instruments,
        bus_lost_s=s.bus_lost_s,
        has_trade_log=s.db_enabled,
        trade_log_url=s.trade_log_url.reveal() if s.db_enabled else None,
    )


def _desk_name(data_dir: Path) -> str:
    """Name of the desk on this data directory, for the page's title and its cookie."""
    return data_dir.name or "makerdeck"


# ----------------------------------------------------------------------------------------------- the page


def _supervise(settings: config.Settings) -> int:
    """Redis, desk and web face as children of this process; in one process where no Redis can be had."""
    from database.place import lock_data_dir, open_data_dir
    from deploy.vendor import VendorError, ensure_vendor
    from quote.redis_server import start_redis
    from web.port import free_port

    _check_market(settings)
    if settings.redis_url is not None:
        from quote.bus import open_bus

        open_bus(settings.redis_url.reveal(), "mk:probe:").close()  # before anything is made
    settings = open_data_dir(settings)
    with lock_data_dir(settings.data_dir):
        _warn_of_unused(settings)
        try:
            ensure_vendor()
        except VendorError as error:
            return _refuse(str(error))
        settings = dataclasses.replace(settings, port=free_port(settings.host, settings.port))
        token = secrets.token_urlsafe(24)
        if settings.redis_url is not None:
            return _Supervisor(settings, token, settings.redis_url.reveal(), None).run()
        redis = start_redis()
        if redis is None:
            return _single_process(settings, token)
        try:
            return _Supervisor(settings, token, redis.url, redis).run()
        finally:
            redis.stop()


def _check_market(settings: config.Settings) -> None:
    """Look at the tape and the instruments file before anything is made or started.

    Raises BadInput: one of them cannot be used.
    """
    from api.venues.paper.instruments import Listing, load_instruments
    from quote.tape import open_tape

    file = settings.paper_instruments
    listing = Listing() if file is None else load_instruments(file)
    if settings.tapes:
        open_tape(settings.tapes).carried(listing.instruments)


def _warn_of_unused(settings: config.Settings) -> None:
    if settings.unused_known:
        log.warning("set but not used by anything here yet: %s", ", ".join(settings.unused_known))


class _Supervisor:
    """Starts the children, restarts what may be restarted, hands signals on, ends all in order."""

    def __init__(self, settings: config.Settings, token: str, url: str, redis: Any) -> None:
        self._s = settings
        self._token = token
        self._url = url
        self._redis = redis
        self._namespace = f"mk:{secrets.token_hex(4)}:"
        self._children: dict[str, Child] = {}
        self._starts_s: list[float] = []
        self._not_before_s: dict[str, float] = {}

    def run(self) -> int:
        from api.supervise import NotReady, stop_in_order

        stop = _until_signal()
        signal.signal(signal.SIGUSR1, lambda *_: self._signal_desk(signal.SIGUSR1))
        code = OK
        try:
            try:
                self._start("desk")
                port = self._start("web")["port"]
            except NotReady as error:
                if error.returncode == BAD_INPUT:
                    return BAD_INPUT  # the child has told what is wrong
                print(f"makerdeck: {error}", file=sys.stderr)
                return UNREACHABLE
            self._write_desk_file()
            self._announce(int(port))
            while not stop.wait(0.5):
                if not self._mend():
                    code = UNREACHABLE
                    break
        finally:
            (self._s.data_dir / DESK_FILE).unlink(missing_ok=True)
            order = [self._children[name] for name in ("desk", "web") if name in self._children]
            killed = stop_in_order([(c, DESK_END_S if c.name == "desk" else WEB_END_S) for c in order])
        desk = self._children["desk"]
        if desk in killed or desk.returncode != OK:
            print("makerdeck: some orders are in doubt; look at the venue", file=sys.stderr)
            return IN_DOUBT
        print("makerdeck: stopped, no order of ours is left", file=sys.stderr)
        return code

    def _start(self, role: str) -> Mapping[str, Any]:
        from api.supervise import spawn

        handed = {
            "environ": json.dumps(_secret_environ(role)),
            "redis": self._url,
            "namespace": self._namespace,
            "token": self._token,
            "port": str(self._s.port),
        }
        child = spawn(
            role, [sys.executable, str(BESIDE / "run.py"), *sys.argv[1:]], secrets=handed, env={ROLE: role}
        )
        self._children[role] = child
        return child.wait_ready(60.0)

    def _mend(self) -> bool:
        """Restart what died: Redis and the web face always, the desk (its workers come back disarmed) a few
        times. False: the desk ended too often.
        """
        from api.supervise import NotReady

        if self._redis is not None and not self._redis.is_alive:
            log.error("the embedded Redis ended; starting it again")
            try:
                self._redis.start()
            except OSError as error:
                log.error("Redis cannot be started: %s", error)
        for role in ("desk", "web"):
            child, now_s = self._children[role], time.monotonic()
            if child.poll() is None or now_s < self._not_before_s.get(role, now_s):
                continue
            log.error("%s ended with code %s; starting it again", role, child.returncode)
            if role == "desk":
                self._starts_s = [at_s for at_s in self._starts_s if now_s - at_s < DESK_STARTS_S] + [now_s]
                if len(self._starts_s) > DESK_STARTS:
                    print(f"makerdeck: the desk ended {DESK_STARTS + 1} times; giving up", file=sys.stderr)
                    return False
            child.close()
            self._not_before_s[role] = now_s + RESTART_PAUSE_S
            try:
                self._start(role)
            except NotReady as error:
                log.error("%s", error)
        return True

    def _signal_desk(self, number: int) -> None:
        desk = self._children.get("desk")
        if desk is not None and desk.poll() is None:
            os.kill(desk.pid, number)

    def _write_desk_file(self) -> None:
        facts = {
            "pid": os.getpid(),
            "namespace": self._namespace,
            "redis": None if self._redis is None else self._url,
        }
        path = self._s.data_dir / DESK_FILE
        path.touch(mode=0o600)
        path.write_text(json.dumps(facts))

    def _announce(self, port: int) -> None:
        link = _web_settings(self._s, self._token).link(port)
        print(f"makerdeck is running on paper. Open this link:\n\n    {link}\n\nCtrl-C stops it.", flush=True)
        _open_browser(self._s, link)


def _secret_environ(role: str) -> dict[str, str]:
    """The part of our environment that children do not inherit but their settings are read from; keys of
    venues for the desk alone.
    """
    from api.supervise import scrubbed

    kept = scrubbed(os.environ)
    ours = {name for option in config.OPTIONS.values() for name in option.variables}
    found = {name: value for name, value in os.environ.items() if name in ours and name not in kept}
    return {**found, **KEY_ENVIRON} if role == "desk" else found


def _open_browser(settings: config.Settings, link: str) -> None:
    if (
        settings.no_browser
        or not sys.stdout.isatty()
        or not (os.environ.get("DISPLAY") or sys.platform == "darwin")
    ):
        return
    import webbrowser

    webbrowser.open(link)


def _web_settings(s: config.Settings, token: str) -> Any:
    from web.settings import WebSettings

    return WebSettings(
        login_token=token,
        host=s.host,
        port=s.port,
        desk=_desk_name(s.data_dir),
        console_token=None if s.console_token is None else s.console_token.reveal(),
        password=None if s.console_password is None else s.console_password.reveal(),
        tls_cert=s.tls_cert,
        tls_key=s.tls_key,
    )


def _desk_process(settings: config.Settings, inherited: Inherited) -> int:
    """The trading process: host, desk, requests over the bus; until told to stop, or the parent is gone."""
    from quote.bus import open_bus
    from strategies.desk_over_bus import serve_desk
    from strategies.host import Host

    sys.setswitchinterval(0.0005)  # bounds what a busy Python thread costs the lane
    stop = _until_signal()
    bus = open_bus(inherited.secrets["redis"], inherited.secrets["namespace"])
    host = Host(_host_settings(settings, _desk_name(settings.data_dir)), bus)
    kill = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: kill.set())
    inherited.watch(stop.set)
    host.start()
    served = serve_desk(bus, host.desk, run_id=host.run_id)
    host.make_demo()
    inherited.ready(run_id=host.run_id)
    while not stop.wait(0.1):
        if kill.is_set():
            kill.clear()
            host.desk.kill(reason="signal SIGUSR1", by="signal")
    for one in served:
        one.close()
    clean = host.close()
    bus.close()
    return OK if clean else IN_DOUBT


def _web_process(settings: config.Settings, inherited: Inherited) -> int:
    """The web face: reads the bus, asks the desk over it; never touches trading state."""
    from quote.bus import open_bus

    os.nice(5)  # the page yields to trading where both share a core
    stop = _until_signal()
    inherited.watch(stop.set)
    bus = open_bus(inherited.secrets["redis"], inherited.secrets["namespace"])
    settings = dataclasses.replace(settings, port=int(inherited.secrets["port"]))
    _serve_page(
        settings,
        inherited.secrets["token"],
        _desk_over(bus),
        bus,
        stop,
        lambda port: _told(inherited, port),
    )
    bus.close()
    return OK


def _told(inherited: Inherited, port: int) -> None:
    inherited.ready(port=port)


def _desk_over(bus: Bus) -> Any:
    """The Desk at the other end of the bus, speaking to whichever run of it is there now."""
    import msgspec

    from api.desk import TOPIC_DESK, DeskView
    from quote.bus import BusDown
    from strategies.desk_over_bus import DeskOverBus

    def run_id() -> str | None:
        try:
            found = bus.latest(TOPIC_DESK)
        except BusDown:
            return None
        return None if found is None else msgspec.json.decode(found.payload, type=DeskView).run_id

    return DeskOverBus(bus, run_id)


def _serve_page(
    settings: config.Settings,
    token: str,
    desk: Any,
    bus: Bus,
    stop: threading.Event,
    ready: Callable[[int], None],
) -> None:
    from web.app import create_app
    from web.serve import run_server
    from web.settings import check_settings

    face = _web_settings(settings, token)
    check_settings(face)
    app, _ = create_app(desk, bus, face)
    tls = (face.tls_cert, face.tls_key) if face.is_tls else None
    run_server(app, face.host, face.port, face.threads, ready, stop, tls=tls)


def _single_process(settings: config.Settings, token: str) -> int:
    """No Redis to be had: desk and page in this process, over the in-process bus; the page says so."""
    from quote.bus import InProcessBus
    from strategies.host import Host

    log.warning("no Redis or Valkey server was found: desk and page share one process")
    stop = _until_signal()
    bus = InProcessBus()
    host = Host(_host_settings(settings, _desk_name(settings.data_dir)), bus)
    signal.signal(signal.SIGUSR1, lambda *_: (settings.data_dir / "KILL").touch())
    host.start()
    host.make_demo()

    def ready(port: int) -> None:
        link = _web_settings(settings, token).link(port)
        print(f"makerdeck is running on paper (single process). Open:\n\n    {link}\n\nCtrl-C stops it.")
        _open_browser(settings, link)

    try:
        _serve_page(settings, token, host.desk, bus, stop, ready)
    finally:
        clean = host.close()
        bus.close()
    return OK if clean else IN_DOUBT


# ----------------------------------------------------------------------------------------------- the terminal


def _terminal(settings: config.Settings) -> int:
    from cli.main import main as cli_main

    words = settings.cli_args
    if words[:1] == ("serve-paper",):
        return _serve_paper(settings, list(words[1:]))
    is_tty = sys.stdin.isatty() and sys.stdout.isatty()
    return cli_main(
        words,
        lambda: _session(settings),
        out=sys.stdout,
        err=sys.stderr,
        is_tty=is_tty,
        keys=_key_tools(settings),
    )


def _key_tools(settings: config.Settings) -> KeyTools:
    """The key store of this data directory, and what asks venues about keys; no desk is needed for it."""
    from api.keys import VARIABLES
    from cli.keys import KeyTools

    environ = {**config.dotenv(BESIDE, VARIABLES), **KEY_ENVIRON}
    return KeyTools(lambda ask: _key_store(settings, environ, ask))


def _key_store(
    settings: config.Settings, environ: Mapping[str, str], ask: AskPassphrase | None = None
) -> KeyStore:
    from api.keys import KeyStore
    from api.runtime import Clock

    return KeyStore(settings.data_dir, environ, now_ns=Clock().now_ns, ask=ask)


@dataclasses.dataclass(slots=True)
class _Attached:
    """A desk that runs already on this data directory."""

    desk: Any
    bus: Bus
    kind: str = "attached"

    def close(self) -> int | None:
        self.bus.close()
        return None


@dataclasses.dataclass(slots=True)
class _Own:
    """A desk in this process, over the in-process bus; it ends with the terminal."""

    host: Host
    bus: Bus
    lock: Any
    kind: str = "own"

    @property
    def desk(self) -> Any:
        return self.host.desk

    def close(self) -> int | None:
        clean = self.host.close()
        self.bus.close()
        self.lock.release()
        return None if clean else max(1, self.host.gateway.live_count)


def _session(settings: config.Settings) -> Session:
    """Attach to the desk that holds the data directory, else start one here.

    Raises DeskUnreachable when a desk holds it that cannot be spoken to.
    """
    from api.desk import DeskUnreachable
    from database.place import DataDirBusy, lock_data_dir, open_data_dir

    _check_market(settings)
    settings = open_data_dir(settings)
    try:
        lock = lock_data_dir(settings.data_dir)
    except DataDirBusy as busy:
        try:
            facts = json.loads((settings.data_dir / DESK_FILE).read_text())
        except (OSError, ValueError):
            raise DeskUnreachable(
                f"{busy}; it offers no bus (single process, or still starting): use its page"
            ) from None
        url = facts["redis"] or (settings.redis_url.reveal() if settings.redis_url is not None else None)
        if url is None:
            raise DeskUnreachable("that desk uses a Redis of its operator: give its REDIS_URL") from None
        from quote.bus import open_bus

        try:
            bus = open_bus(url, facts["namespace"])
        except BadInput as error:
            raise DeskUnreachable(str(error)) from None
        return _Attached(_desk_over(bus), bus)
    from quote.bus import InProcessBus  # only now: an attached terminal needs nothing of the trading side
    from strategies.host import Host

    own = InProcessBus()
    try:
        host = Host(_host_settings(settings, _desk_name(settings.data_dir)), own)
    except BaseException:
        lock.release()
        raise
    host.start()
    return _Own(host, own, lock)


def _serve_paper(settings: config.Settings, words: list[str]) -> int:
    """A paper venue in a process of its own: `serve-paper [127.0.0.1:PORT | unix:/path]`, token from
    PAPER_TOKEN.
    """
    from api.runtime import Clock
    from api.venues.paper.instruments import Listing, load_instruments
    from api.venues.paper.server import serve
    from quote.feed import FrameSource, SyntheticSource, TapeSource
    from quote.fold import MarketFold
    from quote.tape import open_tape

    if len(words) > 1:
        raise BadInput("serve-paper", "takes one address: 127.0.0.1:PORT (0: any free one) or unix:/path")
    if settings.paper_token is None:
        raise BadInput(
            "PAPER_TOKEN", "must be set in the environment: at least 16 characters a client must say"
        )
    listing = (
        Listing() if settings.paper_instruments is None else load_instruments(settings.paper_instruments)
    )
    clock = Clock()
    instruments = list(listing.instruments)
    source: FrameSource
    if settings.tapes:
        tape = open_tape(settings.tapes)
        instruments = [i for i in instruments if i.venue_symbol in tape.symbols]
        source = TapeSource(tape, clock, settings.speed, settings.at_end)
    else:
        source = SyntheticSource(instruments, settings.seed, clock)
    stop = _until_signal()
    return serve(
        source,
        MarketFold(instruments),
        instruments,
        listing.balances,
        listen=words[0] if words else "127.0.0.1:0",
        token=settings.paper_token.reveal(),
        clock=clock,
        wait=stop.wait,
        announce=lambda address: print(f"paper venue at {address}", flush=True),
        seed=settings.seed,
    )


# ----------------------------------------------------------------------------------------------- direct runs


def _direct(settings: config.Settings) -> int:
    """Workers without a face on the live or synthetic market, one summary a round, until the duration is
    over.
    """
    from api.desk import WorkerSpec
    from cli.direct import RoundPrinter
    from database.place import lock_data_dir, open_data_dir
    from quote.bus import InProcessBus
    from strategies.host import Host, check_specs

    params = _direct_params(settings)
    specs = [
        WorkerSpec("market_making", settings.strategy, settings.exchange, symbol, params)
        for symbol in settings.symbols
    ]
    check_specs(_host_settings(settings, "direct"), specs)
    is_temporary = settings.is_data_dir_fresh  # it keeps nothing unless a data directory was named
    settings = open_data_dir(settings)
    stop = _until_signal()
    out = sys.stderr if settings.json_output else sys.stdout
    printer = RoundPrinter(out, out.isatty())
    clean = True
    try:
        with lock_data_dir(settings.data_dir), contextlib.ExitStack() as ending:
            bus = InProcessBus()
            ending.callback(bus.close)
            host = Host(_host_settings(settings, "direct"), bus)
            clean = False
            try:
                host.start()
                views, seconds = _direct_rounds(settings, host, specs, stop, printer, out)
            finally:
                clean = host.close()
    finally:
        if is_temporary and clean:
            shutil.rmtree(settings.data_dir, ignore_errors=True)
    print(printer.report(views, seconds), file=out, flush=True)
    if settings.json_output:
        import msgspec

        sys.stdout.write(msgspec.json.encode({"schema": 1, "workers": views}).decode() + "\n")
    return OK if clean else IN_DOUBT


def _direct_rounds(
    settings: config.Settings,
    host: Host,
    specs: list[WorkerSpec],
    stop: threading.Event,
    printer: RoundPrinter,
    out: TextIO,
) -> tuple[list[WorkerView], float]:
    """Run these workers until their time is over or `stop` is set; how each ended, and seconds passed.

    Workers that were stopped are deleted again; their fills stay in a data directory that was named.
    """
    desk, clock = host.desk, host.clock
    workers: list[WorkerView] = []
    try:
        for spec in specs:
            workers.append(desk.create(spec, by="direct"))
        print(f"makerdeck direct run on {settings.env}, {', '.join(settings.symbols)}", file=out, flush=True)
        for worker in workers:
            desk.start(worker.id, by="direct")
        began_ns = clock.now_ns()
        told: set[str] = set()
        rounds = 1
        while not stop.wait(ROUND_LOOK_S):
            is_over = all(desk.worker(w.id).state in ("stopped", "halted", "failed") for w in workers)
            if is_over or clock.now_ns() - began_ns >= rounds * settings.interval_s * 1e9:
                rounds += 1
                for worker in workers:
                    newest = desk.fills(worker_id=worker.id, limit=1000).fills
                    fills = tuple(f for f in reversed(newest) if f.trade_id not in told)
                    told.update(f.trade_id for f in fills)
                    printer.round(desk.worker(worker.id), desk.orders(worker.id), fills, clock.now_ns())
            if is_over:
                break
        for worker in workers:
            desk.stop(worker.id, by="direct")
        views = [desk.worker(worker.id) for worker in workers]
        return views, (clock.now_ns() - began_ns) / 1e9
    finally:
        for worker in workers:
            if desk.worker(worker.id).state == "stopped":
                desk.delete(worker.id, by="direct")


def _direct_params(settings: config.Settings) -> dict[str, Any]:
    return {
        "spread": settings.spread_percent,
        "quantity": settings.quantity,
        "max_orders": settings.max_orders,
        "interval": settings.interval_s,
        "duration": settings.duration_s,
    }


def _direct_on_tape(settings: config.Settings) -> int:
    """The deterministic run: one thread steps tape, paper venue and engines."""
    from cli.direct import RoundPrinter
    from database.place import lock_data_dir, open_data_dir
    from strategies.tape_session import TapeSession

    stop = _until_signal()
    session = TapeSession.open(  # looks at tape, symbols and parameters before anything is made
        tapes=settings.tapes,
        symbols=settings.symbols,
        strategy=settings.strategy,
        params={**_direct_params(settings), "duration": None},
        duration_s=settings.duration_s,
        interval_s=settings.interval_s,
        seed=settings.seed,
        paper_file=settings.paper_instruments,
    )
    is_temporary = settings.is_data_dir_fresh
    settings = open_data_dir(settings)
    out = sys.stderr if settings.json_output else sys.stdout
    printer = RoundPrinter(out, out.isatty())
    with lock_data_dir(settings.data_dir):
        print(
            f"makerdeck direct run on {settings.env} (REPLAY), {', '.join(settings.symbols)}",
            file=out,
            flush=True,
        )
        show = printer.round if out.isatty() or not settings.json_output else None
        pace = None if settings.speed == float("inf") else settings.speed
        url = settings.trade_log_url.reveal() if settings.db_enabled else None
        ended = session.run(
            settings.data_dir, stopping=stop.is_set, wait=stop.wait, pace=pace, show=show, trade_log_url=url
        )
    print(printer.report(ended.views, ended.seconds), file=out, flush=True)
    if settings.json_output:
        sys.stdout.write(json.dumps(ended.report) + "\n")
    if ended.remaining:
        print(f"makerdeck: {ended.remaining} orders are in doubt", file=sys.stderr)
        return IN_DOUBT
    if is_temporary:
        shutil.rmtree(settings.data_dir, ignore_errors=True)
    return OK


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ExchangeError as error:
        print(f"makerdeck: {error.message}", file=sys.stderr)
        sys.exit(UNREACHABLE)
