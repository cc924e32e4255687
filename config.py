"""Settings: what a person may set, where it may come from, and every mistake told at once.

Order of precedence: flag, environment, `.env` beside run.py, file (`--config FILE`, else makerdeck.toml in
the data directory), default.

Hides the places and their spellings; what comes out is one frozen, typed `Settings`, where each option stands
once.
A mistake names the field, what is wrong and what is allowed with its unit; nothing is created or changed.
Secrets come from the environment or `.env`, never from the command line or the file, and print as `***`.
Relative paths are seen from the current directory.

Must not know what any room does with a setting. Called by `run.py`; other rooms are handed a `Settings`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hmac
import ipaddress
import math
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import parse_qs, urlsplit

from dotenv.parser import parse_stream

Mode = Literal["web", "cli", "direct"]

DATA_DIR_BYTES_MAX = 440  # SQLite opens no path of more than about 505 bytes, and our file names need room
NAME_BYTES_MAX = 255  # between two slashes, on every file system we know


class Secret:
    """A text that does not print itself. `reveal()` is the one way to read it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied: hand over reveal() where it must go")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing a person has to change.

    field: the option (`spread`), or a flag refused by its name (`--stop-loss`).
    message: what is wrong and what is allowed, with the unit.
    source: where it came from, "" for the command line.
    """

    field: str
    message: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" + (f" (from {self.source})" if self.source else "")


class ConfigErrors(ValueError):
    """Every mistake at once, in `mistakes`; nothing was changed. `str()` is one line each."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


# Parsers: text in, value out; the ValueError says what is wrong and what is allowed.


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _number(least: float, most: float, unit: str, *, or_equal: bool = False) -> Callable[[str], float]:
    def parse(text: str) -> float:
        is_number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII)
        value = float(text) if is_number else math.nan
        if least < value <= most or (or_equal and value == least):
            return value
        below = "at least" if or_equal else "more than"
        raise ValueError(f"{_shown(text)} is not allowed; {unit}, {below} {least:g} and at most {most:g}")

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if re.fullmatch(r"\d{1,20}", text, re.ASCII) and least <= int(text) <= most:
            return int(text)
        raise ValueError(f"{_shown(text)} is not allowed; a whole number from {least} to {most}")

    return parse


def _quantity(text: str) -> Decimal | None:
    if text:
        _number(1e-18, 1e18, "base units, or blank to size from the balance", or_equal=True)(text)
    return Decimal(text) if text else None


def _speed(text: str) -> float:
    return math.inf if text == "max" else _number(0, 1e6, "a multiple of real time, or max")(text)


def _choice(*allowed: str, later: Sequence[str] = (), rest_is_later: bool = False) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for choice in allowed:
            if text.lower() == choice.lower():
                return choice
        why = "is not available yet" if rest_is_later or text.lower() in later else "is not known"
        raise ValueError(f"{_shown(text)} {why}; allowed: {', '.join(allowed)}")

    return parse


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"{_shown(text)} is not a switch; allowed: 1 or 0")


def _symbol(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._:/-]{1,40}", text):
        return text
    raise ValueError(f"{_shown(text)} is not a symbol; one looks like BTC-USDT")


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(f"{_shown(text)} is not a path")
    return Path(text).absolute()


def _readable(text: str) -> Path:
    path = _path(text)
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{_shown(text)} is not a file; give a readable file")
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"{_shown(text)} cannot be read ({error.strerror}); give a readable file") from None


def _host(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}", text):
        return text
    raise ValueError(f"{_shown(text)} is not a host; an IP address or a host name, without a port")


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            is_usable = parts.scheme in schemes and bool(parts.hostname or parts.path) and parts.port != 0
        except ValueError:  # a port that is no number, a broken IPv6 address
            is_usable = False
        if is_usable:
            return text
        # the value is not repeated: a password may be in it
        raise ValueError(
            f"not an address that can be used; allowed: {', '.join(s + '://...' for s in schemes)}"
        )

    return parse


def _paper_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text.startswith("unix:/") or (host in ("127.0.0.1", "localhost", "[::1]") and port.isdigit()):
        return text
    raise ValueError(f"{_shown(text)} is not an address; allowed: 127.0.0.1:PORT or unix:/path")


def _redis_url(text: str) -> Secret:
    return Secret(_url("redis", "rediss", "unix")(text))


def _database_url(text: str) -> Secret:
    if re.match(r"[A-Za-z][A-Za-z0-9_+]*://", text):
        return Secret(text)
    raise ValueError("not a database address; one looks like sqlite:///orders.db or postgresql://host/name")


def _secret(least: int) -> Callable[[str], Secret]:
    def parse(text: str) -> Secret:
        if len(text) < least or not text.isprintable() or text != text.strip():
            raise ValueError(f"not allowed; at least {least} printable characters, no space at either end")
        return Secret(text)

    return parse


_ALL: frozenset[Mode] = frozenset({"web", "cli", "direct"})
_DIRECT: frozenset[Mode] = frozenset({"direct"})
_DESK: frozenset[Mode] = frozenset({"web", "cli"})
_WEB: frozenset[Mode] = frozenset({"web"})


@dataclass(frozen=True, slots=True)
class Option:
    """How a field of Settings is set: `key` in the file, `--key` as a flag, MAKERDECK_KEY as a variable."""

    key: str
    parse: Callable[[str], Any]
    default: Any
    help: str = ""
    modes: frozenset[Mode] = _ALL  # where its flag means something
    env: str = ""  # a further name in the environment
    many: str = ""  # it is a tuple, and this parts its values in the environment
    is_secret: bool = False  # neither a flag nor in the file

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(filter(None, ("MAKERDECK_" + self.key.upper(), self.env)))


def _set_by(
    key: str, parse: Callable[[str], Any], default: Any, help: str = "", *rest: Any, **more: Any
) -> Any:
    option = Option(key, parse, default, help, *rest, **more)
    return dataclasses.field(default=default, metadata={"option": option})


_SPREAD = _number(0, 50, "percent of mid, full width")
_NOT_YET = ("maker_hedge", "grid", "perp_grid")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a start depends on; each field names what sets it. `_s` is seconds."""

    mode: Mode = "web"
    cli_args: tuple[str, ...] = ()  # what followed --cli, untouched
    unused_known: tuple[str, ...] = ()  # set variables of the reference systems that nothing here reads yet
    exchange: str = _set_by("exchange", _choice("paper", rest_is_later=True), "paper", "venue: paper")
    env: str = _set_by("env", _choice("paper", later=("testnet", "live")), "paper", "kind of account: paper")

    # a direct run; with --web and --cli each worker carries its own
    symbols: tuple[str, ...] = _set_by("symbol", _symbol, (), "market; may repeat", _DIRECT, many=",")
    spread_percent: float | None = _set_by("spread", _SPREAD, None, "percent of mid, full width", _DIRECT)
    # base units for each order; None: sized from the balance
    quantity: Decimal | None = _set_by("quantity", _quantity, None, "base units an order (auto)", _DIRECT)
    max_orders: int = _set_by("max_orders", _whole(1, 50), 3, "orders a side (3)", _DIRECT)
    # None: to the end of the tape
    duration_s: float | None = _set_by(
        "duration", _number(0, 3.2e8, "seconds"), 3600.0, "seconds (3600; on a tape: to its end)", _DIRECT)
    interval_s: float = _set_by(
        "interval", _number(0, 3600, "seconds"), 60.0, "longest silence of a worker, s (60)", _DIRECT)
    market_type: str = _set_by("market_type", _choice("spot", later=("perp",)), "spot", "spot", _DIRECT)
    strategy: str = _set_by("strategy", _choice("standard", later=_NOT_YET), "standard", "standard", _DIRECT)
    json_output: bool = _set_by("json", _switch, False, "one JSON object on standard output", _DIRECT)

    # market data
    tapes: tuple[Path, ...] = _set_by("tape", _readable, (), "recordings to play", many=os.pathsep)
    speed: float = _set_by("speed", _speed, 1.0, "times real time; max in a direct run (1)")  # inf: max
    at_end: str = _set_by("at_end", _choice("loop", "stop"), "loop", "loop or stop at its end (loop)", _DESK)
    seed: int = _set_by("seed", _whole(0, 2**63 - 1), 7, "what chance is drawn from (7)")
    paper_instruments: Path | None = _set_by(
        "paper_instruments", _readable, None, "file instead of the built-in instruments and balances",
        env="PAPER_INSTRUMENTS")
    paper_url: str | None = _set_by(
        "paper_url", _paper_address, None, "paper venue in another process: 127.0.0.1:PORT or unix:/path",
        env="PAPER_URL")
    paper_token: Secret | None = _set_by("paper_token", _secret(16), None, env="PAPER_TOKEN", is_secret=True)

    # the page
    host: str = _set_by("host", _host, "127.0.0.1", "address to listen on (127.0.0.1)", _WEB, "WEB_HOST")
    port: int = _set_by("port", _whole(1, 65535), 5000, "port, or the next free one (5000)", _WEB, "WEB_PORT")
    no_browser: bool = _set_by("no_browser", _switch, False, "open no browser")
    console_token: Secret | None = _set_by(
        "console_token", _secret(16), None, env="CONSOLE_TOKEN", is_secret=True)
    console_password: Secret | None = _set_by(
        "console_password", _secret(12), None, env="CONSOLE_PASSWORD", is_secret=True)
    tls_cert: Path | None = _set_by("tls_cert", _readable, None, "certificate file, PEM", _WEB, "TLS_CERT")
    tls_key: Path | None = _set_by("tls_key", _readable, None, "its private key's file, PEM", _WEB, "TLS_KEY")

    # what outlives the process, and the bus
    data_dir: Path = _set_by("data_dir", _path, None, "where the desk keeps what outlives it (data)")
    is_data_dir_fresh: bool = False  # a temporary one is to be made inside data_dir: database/place.py
    db_enabled: bool = _set_by("enable_db", _switch, False, "keep the trade log", env="ENABLE_DATABASE")
    database_url: Secret | None = _set_by(
        "database_url", _database_url, None, env="DATABASE_URL", is_secret=True)
    db_path: Path | None = _set_by("db_path", _path, None, "SQLite file of the trade log", env="DB_PATH")
    redis_url: Secret | None = _set_by("redis", _redis_url, None, "Redis (an embedded one)", env="REDIS_URL")
    # without the bus for so long a desk with no other way in pulls its quotes
    bus_lost_s: float = _set_by(
        "bus_lost_s", _number(0, 3600, "seconds"), 5.0, "silence of the bus that pulls quotes, seconds (5)")
    log_level: str = _set_by("log_level", _choice(*_LEVELS), "INFO", "debug, info, warning or error (info)")
    log_file: Path | None = _set_by("log_file", _path, None, "log to this file as well", env="LOG_FILE")
    # fmt: on

    @property
    def trade_log_url(self) -> Secret:
        """Of the trade log: DATABASE_URL, else SQLite at DB_PATH, else orders.db in the data directory."""
        return self.database_url or Secret(f"sqlite:///{self.db_path or self.data_dir / 'orders.db'}")

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach the page."""
        return _is_loopback(self.host)


OPTIONS: Mapping[str, Option] = {  # field of Settings -> how it is set
    field.name: field.metadata["option"] for field in dataclasses.fields(Settings) if field.metadata
}
_CONFIG = Option("config", _readable, None, "file of settings, TOML (makerdeck.toml in the data directory)")

# Flags of the reference systems whose feature is not here yet: refused by name, in the file as well.
_LATER_FLAGS = """
    --target-position --max-position --position-threshold --inventory-skew --stop-loss --take-profit
    --ws-proxy --enable-rebalance --disable-rebalance --base-asset-target --rebalance-threshold --grid-upper
    --grid-lower --grid-num --auto-price --price-range --grid-mode --grid-type
""".split()
# Their variables: other programs may need them, so they are left alone and only listed.
_LATER_VARIABLES = """
    BACKPACK_KEY BACKPACK_SECRET BACKPACK_PROXY_WEBSOCKET BASE_URL BACKPACK_API_URL BACKPACK_WS_URL
    BACKPACK_API_VERSION BACKPACK_DEFAULT_WINDOW ASTER_API_KEY ASTER_SECRET_KEY ASTER_BASE_URL
    PARADEX_PRIVATE_KEY PARADEX_ACCOUNT_ADDRESS PARADEX_BASE_URL PARADEX_SIGNATURE_TTL_SECONDS
    PARADEX_JWT_REFRESH_BUFFER PROXY_WEBSOCKET API_KEY SECRET_KEY
""".split()
_TEST_VARIABLES = ("MAKERDECK_SHARED", "MAKERDECK_REQUIRE")
_SOUNDS_SECRET = re.compile("key|secret|passw|passphrase|token|mnemonic")
_NO_SECRETS_HERE = "a secret is never taken from here; put it in the environment or .env (see .env.example)"


def load(argv: Sequence[str], environ: Mapping[str, str], *, beside: Path) -> Settings:
    """Read every place and return the settings; creates and changes nothing.

    Args:
        argv: the words after the program's name. Everything after `--cli` is handed through as `cli_args`.
        environ: the environment.
        beside: the directory of run.py; `.env` and the default data directory lie in it.

    Raises:
        ConfigErrors: every mistake found. (`--help` prints and raises SystemExit(0).)
    """
    return _Loading(argv, environ, beside).settings()


def dotenv(beside: Path, names: Collection[str]) -> dict[str, str]:
    """Those of `names` that the `.env` beside run.py sets: for the key store, whose names are no settings.
    What is wrong with the file is said by `load`.
    """
    try:
        with (beside / ".env").open(encoding="utf-8") as lines:
            return {b.key: b.value for b in parse_stream(lines) if b.key in names and b.value}  # type: ignore[misc]
    except (OSError, UnicodeDecodeError):
        return {}


def check_data_dir(path: Path) -> str | None:
    """What is wrong with a data directory, or None when it can be used; creates nothing."""
    wanted = "a directory that can be written is needed"
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if len(os.fsencode(path)) > DATA_DIR_BYTES_MAX or longest > NAME_BYTES_MAX:
        most = f"at most {DATA_DIR_BYTES_MAX}, and {NAME_BYTES_MAX} between two slashes"
        return f"{_shown(str(path))} is too long ({len(os.fsencode(path))} bytes); {most}"
    for place in (path, *path.parents):  # the nearest that exists decides
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # a directory we may not look into
            return f"'{path}' cannot be used ({error.strerror}); {wanted}"
        if not place.is_dir():
            return f"'{place}' is not a directory; {wanted}"
        return None if os.access(place, os.W_OK | os.X_OK) else f"'{place}' cannot be written; {wanted}"
    return None


class _Usage(Exception):
    """argparse could not take the command line apart."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Usage(message)


class _Loading:
    """One load: what each place holds, and the mistakes found so far."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], beside: Path) -> None:
        self.mistakes: list[Mistake] = []
        self.beside = beside
        words = list(argv)
        at = words.index("--cli") if "--cli" in words else len(words)
        self.mode: Mode = "cli" if at < len(words) else "web"
        self.cli_args = tuple(words[at + 1 :])
        self.flags: dict[str, list[str]] = {}
        self.read_flags(words[:at])
        self.environ = {name: text for name, text in environ.items() if text}  # blank is not set
        self.dotenv = self.read_dotenv()
        self.file: dict[str, list[str]] = {}
        self.file_name = ""
        self.read_file()

    def settings(self) -> Settings:
        values = {name: self.value(option) for name, option in OPTIONS.items()}
        if self.is_on_tape and self.find(OPTIONS["duration_s"]) is None:
            values["duration_s"] = None
        is_fresh = self.mode == "direct" and values["data_dir"] is None
        if values["data_dir"] is None:
            values["data_dir"] = Path(tempfile.gettempdir()) if is_fresh else self.beside.absolute() / "data"
        settings = Settings(
            **values,
            mode=self.mode,
            cli_args=self.cli_args,
            is_data_dir_fresh=is_fresh,
            unused_known=tuple(n for n in _LATER_VARIABLES if n in self.environ or n in self.dotenv),
        )
        self.compare(settings)
        if self.mistakes:
            raise ConfigErrors(list(dict.fromkeys(self.mistakes)))
        return settings

    def wrong(self, field: str, message: str, source: str = "") -> None:
        self.mistakes.append(Mistake(field, message, source))

    @property
    def is_on_tape(self) -> bool:
        return self.mode == "direct" and self.find(OPTIONS["tapes"]) is not None

    def read_flags(self, words: list[str]) -> None:
        try:
            named, extras = _parser().parse_known_args(words)
        except _Usage as error:
            self.wrong("command line", str(error))
            return
        given = {key: value for key, value in vars(named).items() if value}
        if self.mode == "cli" and "web" in given:
            self.wrong("--cli", "--web and --cli exclude each other")
        if self.mode == "web" and "web" not in given and ("symbol" in given or "spread" in given):
            self.mode = "direct"
        for flag in filter(given.__contains__, _LATER_FLAGS):
            self.wrong(flag, "not available yet")
        for option in (*OPTIONS.values(), _CONFIG):
            if option.key in given:
                self.take_flag(option, given[option.key])
        knows_flag = True  # what follows an unknown flag may be a secret, so it is not repeated
        for word in extras:
            flag = word.partition("=")[0]
            if word.startswith("-"):
                knows_flag = False
                is_secret = _SOUNDS_SECRET.search(flag.lower())
                self.wrong(flag, _NO_SECRETS_HERE if is_secret else "no such flag; run.py --help lists them")
            elif knows_flag:
                self.wrong("command line", f"{_shown(word)} is not understood; every value follows its flag")

    def take_flag(self, option: Option, given: list[Any]) -> None:
        texts = [text for group in given for text in (group if isinstance(group, list) else [group])]
        if None in texts or [] in given:
            self.wrong(option.key, "needs a value")
        elif option.key == "enable_db" and len(set(texts)) > 1:
            self.wrong(option.key, "--enable-db and --disable-db exclude each other")
        elif len(texts) > 1 and not option.many and option.parse is not _switch:
            self.wrong(option.key, f"given {len(texts)} times; once is allowed")
        elif self.mode not in option.modes:
            where = {_DIRECT: "in a direct run (--symbol and --spread, no --web)", _WEB: "with --web"}
            self.wrong(option.flag, f"only {where.get(option.modes, 'with --web or --cli')}")
        else:
            self.flags[option.key] = texts

    def read_dotenv(self) -> dict[str, str]:
        found: dict[str, str] = {}
        try:
            with (self.beside / ".env").open(encoding="utf-8") as lines:
                for binding in parse_stream(lines):
                    if binding.error:
                        self.wrong(".env", f"line {binding.original.line} is not NAME=value")
                    elif binding.key is not None and binding.value:
                        found[binding.key] = binding.value
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            self.wrong(".env", f"cannot be read ({getattr(error, 'strerror', '') or 'it is not UTF-8 text'})")
        known = {*_TEST_VARIABLES, *(name for o in (*OPTIONS.values(), _CONFIG) for name in o.variables)}
        for name in sorted(name for name in found if name.startswith("MAKERDECK_") and name not in known):
            self.wrong(".env", f"{name} is not a setting; .env.example lists them")
        return found

    def read_file(self) -> None:
        named = self.find(_CONFIG)
        data_dir = self.find(OPTIONS["data_dir"])
        if named is None and data_dir is None and self.is_on_tape:
            return  # a fresh data directory holds no file
        home = Path(data_dir[0][0]) if data_dir is not None else self.beside / "data"
        path = Path(named[0][0]) if named is not None else home / "makerdeck.toml"
        try:
            table = tomllib.loads(path.read_text("utf-8"), parse_float=str)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.wrong("config", f"'{path}' is not a TOML file: {error}")
            return
        except (OSError, ValueError) as error:
            if named is not None:
                reason = getattr(error, "strerror", error)
                self.wrong("config", f"'{path}' cannot be read ({reason})", named[1])
            return  # without --config it need not be there; a bad data directory is told as such
        self.file_name = str(path)
        for key, value in table.items():
            self.take_key(key, value, is_named=named is not None)

    def take_key(self, key: str, value: object, *, is_named: bool) -> None:
        open_options = {option.key: option for option in OPTIONS.values() if not option.is_secret}
        option = open_options.get(key)
        if "--" + key.replace("_", "-") in _LATER_FLAGS:
            self.wrong(key, "not available yet", self.file_name)
        elif option is None:
            is_secret = _SOUNDS_SECRET.search(key.lower()) or key == "database_url"
            unknown = f"no such key; allowed: {', '.join(open_options)}"
            self.wrong(key, _NO_SECRETS_HERE if is_secret else unknown, self.file_name)
        elif key == "data_dir" and not is_named:
            self.wrong(key, "cannot stand in a file that is looked for inside it", self.file_name)
        else:
            items = value if isinstance(value, list) and option.many else [value]
            if all(isinstance(item, (str, int)) for item in items):
                self.file[key] = [str(int(i)) if isinstance(i, bool) else str(i) for i in items]
            else:
                self.wrong(key, "has to be a text, a number, true or false", self.file_name)

    def find(self, option: Option) -> tuple[list[str], str] | None:
        """The texts in the first place that has it, and what that place is called."""
        if option.key in self.flags:
            return self.flags[option.key], ""
        for place, called in ((self.environ, "the environment"), (self.dotenv, ".env")):
            for name in option.variables:
                if name in place:
                    texts = place[name].split(option.many) if option.many else [place[name]]
                    return [text.strip() for text in texts], f"{name} in {called}"
        return (self.file[option.key], self.file_name) if option.key in self.file else None

    def value(self, option: Option) -> Any:
        texts, source = self.find(option) or ([], "")
        values = []
        for text in texts:
            try:
                values.append(option.parse(text))
            except ValueError as error:
                self.wrong(option.key, str(error), source)
        return tuple(values) if option.many else values[0] if values else option.default

    def compare(self, s: Settings) -> None:
        """What has to hold between options; a field that is wrong already is not told twice."""
        told = {mistake.field.removeprefix("--").replace("-", "_") for mistake in self.mistakes}
        is_direct, is_max = s.mode == "direct", s.speed == math.inf
        is_safe = s.tls_cert and s.tls_key and s.console_password
        is_open = s.mode == "web" and not _is_loopback(s.host)
        shown_redis = s.redis_url and "redis" in self.flags and _has_password(s.redis_url.reveal())
        wrong_dir = None if s.is_data_dir_fresh else check_data_dir(s.data_dir)
        for is_wrong, field, message in (
            (is_direct and not s.symbols, "symbol", "a direct run needs it, like --symbol BTC-USDT"),
            (len(set(s.symbols)) < len(s.symbols), "symbol", "the same one twice; give each once"),
            (is_direct and s.spread_percent is None, "spread", "a direct run needs it, percent of mid"),
            (is_max and not is_direct, "speed", "max is for a direct run; give a number, times real time"),
            ("speed" in self.flags and not s.tapes and "tape" not in told, "speed", "only with --tape FILE"),
            (bool(s.tls_cert) != bool(s.tls_key), "tls_key", "TLS_CERT and TLS_KEY are needed together"),
            (
                is_open and not is_safe,
                "host",
                f"{_shown(s.host)} can be reached from other machines, and that needs TLS_CERT, TLS_KEY "
                "and a CONSOLE_PASSWORD of at least 12 characters; allowed without them: 127.0.0.1",
            ),
            (s.db_enabled and s.database_url and s.db_path, "db_path", "not together with DATABASE_URL"),
            (shown_redis, "redis", f"there is a password in it, and {_NO_SECRETS_HERE}"),
            (wrong_dir is not None, "data_dir", str(wrong_dir)),
        ):
            if is_wrong and field not in told:
                self.wrong(field, message)


def _parser() -> _Parser:
    """Each option becomes a list of what was given; None or an empty list in it is a missing value."""
    parser = _Parser(prog="run.py", allow_abbrev=False, description="A market-making desk for one person.")
    web_help = "the desk and its page (what happens without any flag)"
    parser.add_argument("--web", action="store_true", help=web_help)
    parser.add_argument("--cli", action="store_true", help="the desk in a terminal; its command follows")
    for option in (*OPTIONS.values(), _CONFIG):
        if option.is_secret:
            continue
        if option.parse is _switch:
            _add_switch(parser, option.flag, option.key, "1", option.help)
        else:
            nargs = "*" if option.key == "tape" else "?"
            parser.add_argument(option.flag, dest=option.key, action="append", nargs=nargs, help=option.help)
    _add_switch(parser, "--disable-db", "enable_db", "0", "keep no trade log")
    for flag in _LATER_FLAGS:
        parser.add_argument(flag, dest=flag, action="append", nargs="?", help=argparse.SUPPRESS)
    return parser


def _add_switch(parser: _Parser, flag: str, key: str, text: str, help: str) -> None:
    parser.add_argument(flag, dest=key, action="append_const", const=text, help=help)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password) or "password" in parse_qs(parts.query)
