"""Settings: precedence, refusals by name, all mistakes at once, secrets that do not print."""

from __future__ import annotations

import math
import os
import pickle
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import DATA_DIR_BYTES_MAX, OPTIONS, ConfigErrors, Secret, Settings, check_data_dir, load
from tests.shared import ROOT

DIRECT = ("--symbol", "BTC-USDT", "--spread", "0.05")


def mistakes(argv: tuple[str, ...], environ: Mapping[str, str], beside: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(argv, environ, beside=beside)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_no_arguments_start_the_page_on_paper_and_loopback(tmp_path: Path) -> None:
    s = load((), {}, beside=tmp_path)
    assert s == Settings(data_dir=tmp_path / "data")
    assert (s.mode, s.exchange, s.env, s.host, s.port) == ("web", "paper", "paper", "127.0.0.1", 5000)
    assert s.is_loopback and not s.is_data_dir_fresh


def test_the_old_direct_flags_keep_names_units_and_defaults(tmp_path: Path) -> None:
    s = load(DIRECT, {}, beside=tmp_path)
    assert (s.mode, s.symbols, s.spread_percent) == ("direct", ("BTC-USDT",), 0.05)
    assert (s.quantity, s.max_orders, s.duration_s, s.interval_s) == (None, 3, 3600.0, 60.0)
    assert (s.market_type, s.strategy, s.json_output) == ("spot", "standard", False)


def test_symbols_repeat_and_amounts_stay_decimal(tmp_path: Path) -> None:
    s = load((*DIRECT, "--symbol", "ETH-USDT", "--quantity", "0.00010"), {}, beside=tmp_path)
    assert s.symbols == ("BTC-USDT", "ETH-USDT")
    assert s.quantity == Decimal("0.00010") and str(s.quantity) == "0.00010"
    assert load((*DIRECT, "--quantity", ""), {}, beside=tmp_path).quantity is None


def test_everything_after_cli_is_handed_through_untouched(tmp_path: Path) -> None:
    s = load(("--seed", "3", "--cli", "status", "--json", "--web"), {}, beside=tmp_path)
    assert (s.mode, s.seed, s.cli_args) == ("cli", 3, ("status", "--json", "--web"))


def test_a_flag_beats_the_environment_beats_dotenv_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "makerdeck.toml").write_text(
        "seed = 1\nport = 6001\nbus_lost_s = 2.5\nlog_level = 'error'\n"
    )
    (tmp_path / ".env").write_text("MAKERDECK_SEED=2\nWEB_PORT=6002\nMAKERDECK_BUS_LOST_S=3.5\n# a comment\n")
    environ = {"MAKERDECK_SEED": "3", "WEB_PORT": "6003"}
    s = load(("--seed", "4"), environ, beside=tmp_path)
    assert (s.seed, s.port, s.bus_lost_s, s.log_level, s.speed) == (4, 6003, 3.5, "ERROR", 1.0)


def test_a_blank_variable_is_not_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REDIS_URL=\nWEB_PORT=6002\nCONSOLE_TOKEN=\n")
    s = load((), {"WEB_PORT": "", "ENABLE_DATABASE": ""}, beside=tmp_path)
    assert (s.port, s.redis_url, s.console_token, s.db_enabled) == (6002, None, None, False)


def test_dotenv_reads_quotes_exports_and_dollar_signs_literally(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("export CONSOLE_PASSWORD='pa $HOME # ss word'\n")
    password = load((), {}, beside=tmp_path).console_password
    assert password is not None and password.reveal() == "pa $HOME # ss word"


def test_every_mistake_is_told_at_once_and_nothing_is_created(tmp_path: Path) -> None:
    argv = (
        "--symbol",
        "A",
        "--spread",
        "-1",
        "--exchange",
        "binance",
        "--max-orders",
        "51",
        "--stop-loss",
        "-5",
        "--zzz",
    )
    told = mistakes(argv, {"MAKERDECK_SEED": "x", "ENABLE_DATABASE": "maybe"}, tmp_path)
    assert told == [
        "--stop-loss: not available yet",
        "--zzz: no such flag; run.py --help lists them",
        "exchange: 'binance' is not available yet; allowed: paper",
        "spread: '-1' is not allowed; percent of mid, full width, more than 0 and at most 50",
        "max_orders: '51' is not allowed; a whole number from 1 to 50",
        "seed: 'x' is not allowed; a whole number from 0 to 9223372036854775807"
        " (from MAKERDECK_SEED in the environment)",
        "enable_db: 'maybe' is not a switch; allowed: 1 or 0 (from ENABLE_DATABASE in the environment)",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--env", "live"), "env: 'live' is not available yet; allowed: paper"),
        (("--env", "moon"), "env: 'moon' is not known; allowed: paper"),
        ((*DIRECT, "--market-type", "perp"), "market_type: 'perp' is not available yet; allowed: spot"),
        ((*DIRECT, "--strategy", "grid"), "strategy: 'grid' is not available yet; allowed: standard"),
        (("--web", "--symbol", "A"), "--symbol: only in a direct run (--symbol and --spread, no --web)"),
        (("--json",), "--json: only in a direct run (--symbol and --spread, no --web)"),
        ((*DIRECT, "--port", "5001"), "--port: only with --web"),
        ((*DIRECT, "--at-end", "stop"), "--at-end: only with --web or --cli"),
        (("--web", "--cli"), "--cli: --web and --cli exclude each other"),
        (("--spread", "1"), "symbol: a direct run needs it, like --symbol BTC-USDT"),
        (("--symbol", "A"), "spread: a direct run needs it, percent of mid"),
        ((*DIRECT, "--symbol", "BTC-USDT"), "symbol: the same one twice; give each once"),
        (("--port", "1", "--port", "2"), "port: given 2 times; once is allowed"),
        (("--port",), "port: needs a value"),
        (("--tape",), "tape: needs a value"),
        (("--enable-db", "--disable-db"), "enable_db: --enable-db and --disable-db exclude each other"),
        (("--speed", "2"), "speed: only with --tape FILE"),
        (("--por", "1"), "--por: no such flag; run.py --help lists them"),
        (("status",), "command line: 'status' is not understood; every value follows its flag"),
        (("--ws-proxy", "x"), "--ws-proxy: not available yet"),
    ],
)
def test_a_wrong_flag_gets_one_clear_sentence(argv: tuple[str, ...], told: str, tmp_path: Path) -> None:
    assert mistakes(argv, {}, tmp_path) == [told]


@pytest.mark.parametrize(
    "flag",
    "--target-position --max-position --position-threshold --inventory-skew --stop-loss --take-profit"
    " --enable-rebalance --disable-rebalance --base-asset-target --rebalance-threshold --grid-upper"
    " --grid-lower --grid-num --auto-price --price-range --grid-mode --grid-type --ws-proxy".split(),
)
def test_an_old_flag_without_its_feature_is_refused_by_name(flag: str, tmp_path: Path) -> None:
    assert mistakes((*DIRECT, flag, "1"), {}, tmp_path) == [f"{flag}: not available yet"]
    key = flag[2:].replace("-", "_")
    (tmp_path / "f.toml").write_text(f"{key} = 1\n")
    file = str(tmp_path / "f.toml")
    assert mistakes(("--config", file), {}, tmp_path) == [f"{key}: not available yet (from {file})"]


@pytest.mark.parametrize(
    "text", ["0", "-1", "nan", "inf", "-inf", "1e999", "50.01", "0x1", "1_0", "١", "", " 1", "5%"]
)
def test_a_spread_that_is_no_percentage_is_refused(text: str, tmp_path: Path) -> None:
    told = mistakes(("--symbol", "A", f"--spread={text}"), {}, tmp_path)
    assert told == [
        f"spread: {text!r} is not allowed; percent of mid, full width, more than 0 and at most 50"
    ]


@pytest.mark.parametrize("text", ["0", "-1", "nan", "Infinity", "1e-30", "1e30", "1e999999999"])
def test_a_quantity_that_is_no_size_is_refused(text: str, tmp_path: Path) -> None:
    [told] = mistakes((*DIRECT, f"--quantity={text}"), {}, tmp_path)
    assert told.startswith(f"quantity: {text!r} is not allowed; base units, or blank")


@pytest.mark.parametrize(
    "flag", ["--api-key", "--secret-key", "--console-token", "--password", "--private-key"]
)
@pytest.mark.parametrize("form", ["{0} HUSHHUSH", "{0}=HUSHHUSH"])
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(
    flag: str, form: str, tmp_path: Path
) -> None:
    told = mistakes(tuple(form.format(flag).split()), {}, tmp_path)
    assert told == [
        f"{flag}: a secret is never taken from here; put it in the environment or .env (see .env.example)"
    ]


def test_a_password_inside_an_address_is_refused_as_a_flag_and_welcome_as_a_variable(tmp_path: Path) -> None:
    for url in ("redis://:hush@host:6379/0", "unix:///run/redis.sock?password=hush"):
        [told] = mistakes(("--redis", url), {}, tmp_path)
        assert told.startswith("redis: there is a password in it") and "hush" not in told
        redis = load((), {"REDIS_URL": url}, beside=tmp_path).redis_url
        assert redis is not None and redis.reveal() == url


def test_a_wrong_secret_or_address_is_not_repeated(tmp_path: Path) -> None:
    environ = dict.fromkeys(("CONSOLE_TOKEN", "CONSOLE_PASSWORD", "DATABASE_URL"), "hush")
    environ["REDIS_URL"] = "http://:hush@h"
    told = mistakes((), environ, tmp_path)
    assert [line.split(":")[0] for line in told] == [
        "console_token",
        "console_password",
        "database_url",
        "redis",
    ]
    assert not any("hush" in line for line in told)


def test_secrets_and_unknown_keys_in_the_file_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(
        "console_token = 'hushhushhushhush'\napi_key = 'hush'\nspred = 1\nport = [1]\n[web]\nport = 1\n"
    )
    told = mistakes(("--config", str(file)), {}, tmp_path)
    assert "hush" not in "".join(told)
    assert [line.split(":")[0] for line in told] == ["console_token", "api_key", "spred", "port", "web"]
    assert "no such key; allowed: exchange, env, symbol" in told[2]


def test_the_file_takes_numbers_texts_switches_and_lists(tmp_path: Path) -> None:
    file = "symbol = ['A', 'B']\nspread = 0.05\nquantity = 0.1\nenable_db = true\nmax_orders = 5\n"
    (tmp_path / "f.toml").write_text(file)
    s = load(("--config", str(tmp_path / "f.toml"), "--spread", "1"), {}, beside=tmp_path)
    assert (s.mode, s.symbols, s.spread_percent, s.quantity) == ("direct", ("A", "B"), 1.0, Decimal("0.1"))
    assert (s.db_enabled, s.max_orders) == (True, 5)


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"port = 5001\nport = 5002"])
def test_a_broken_file_is_told_with_its_name(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_bytes(content)
    [told] = mistakes(("--config", str(file)), {}, tmp_path)
    assert told.startswith(f"config: '{file}' is not a TOML file: ")


def test_an_absent_config_file_and_a_broken_dotenv_are_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAKERDECK_SPRED=1\n'unclosed\n")
    told = mistakes(("--config", "/nowhere.toml"), {}, tmp_path)
    assert told == [
        ".env: line 2 is not NAME=value",
        ".env: MAKERDECK_SPRED is not a setting; .env.example lists them",
        "config: '/nowhere.toml' cannot be read (No such file or directory)",
    ]


def test_a_direct_run_on_a_tape_goes_to_its_end_in_a_fresh_data_directory(tmp_path: Path) -> None:
    tape = tmp_path / "tape.gz"
    tape.touch()
    argv = (*DIRECT, "--tape", str(tape), str(tape), "--speed", "max")
    s = load(argv, {}, beside=tmp_path)
    assert (s.tapes, s.speed, s.duration_s, s.is_data_dir_fresh) == ((tape, tape), math.inf, None, True)
    named = load((*argv, "--tape", str(tape), "--duration", "60", "--data-dir", "here"), {}, beside=tmp_path)
    assert (len(named.tapes), named.duration_s, named.is_data_dir_fresh) == (3, 60.0, False)
    assert named.data_dir == Path.cwd() / "here"
    assert mistakes(("--tape", str(tape), "--speed", "max"), {}, tmp_path) == [
        "speed: max is for a direct run; give a number, times real time"
    ]


def test_a_tape_that_is_absent_or_no_file_is_told_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert mistakes(("--tape", "/nowhere.gz", str(tmp_path), "/dev/null", "--speed", "2"), {}, tmp_path) == [
        "tape: '/nowhere.gz' cannot be read (No such file or directory); give a readable file",
        f"tape: {short(tmp_path)} is not a file; give a readable file",
        "tape: '/dev/null' is not a file; give a readable file",
    ]
    [told] = mistakes(("--tape", str(tmp_path / "pipe")), {}, tmp_path)
    assert "is not a file" in told


def short(path: Path) -> str:
    text = str(path)
    return repr(text if len(text) <= 40 else text[:37] + "...")


def test_other_machines_are_let_in_only_with_tls_and_a_password(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file in (cert, key):
        file.touch()
    for host in ("0.0.0.0", "::", "192.168.1.5", "desk.example"):
        [told] = mistakes(("--host", host), {"TLS_CERT": str(cert), "TLS_KEY": str(key)}, tmp_path)
        assert told.startswith(f"host: '{host}' can be reached from other machines, and that needs TLS_CERT")
        [told] = mistakes(("--host", host), {"CONSOLE_PASSWORD": "twelve chars"}, tmp_path)
        assert told.startswith("host:")
        environ = {
            "TLS_CERT": str(cert),
            "TLS_KEY": str(key),
            "CONSOLE_PASSWORD": "twelve chars",
            "WEB_HOST": host,
        }
        assert load((), environ, beside=tmp_path).host == host
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert load(("--host", host), {}, beside=tmp_path).is_loopback
    assert mistakes((), {"TLS_CERT": str(cert)}, tmp_path) == [
        "tls_key: TLS_CERT and TLS_KEY are needed together"
    ]
    assert load(DIRECT, {"WEB_HOST": "0.0.0.0"}, beside=tmp_path).mode == "direct"  # opens no port


def test_the_trade_log_goes_where_it_is_told_or_into_the_data_directory(tmp_path: Path) -> None:
    def where(argv: tuple[str, ...], environ: Mapping[str, str]) -> tuple[bool, str]:
        s = load(argv, environ, beside=tmp_path)
        return s.db_enabled, s.trade_log_url.reveal()

    assert where((), {"ENABLE_DATABASE": "1"}) == (True, f"sqlite:///{tmp_path}/data/orders.db")
    assert where(("--disable-db",), {"ENABLE_DATABASE": "1"})[0] is False
    assert where(("--enable-db",), {"DB_PATH": "/x/orders.db"}) == (True, "sqlite:////x/orders.db")
    assert where(("--enable-db",), {"DATABASE_URL": "postgresql://h/n"}) == (True, "postgresql://h/n")
    both = {"DATABASE_URL": "postgresql://h/n", "DB_PATH": "/x/orders.db"}
    assert where((), both)[0] is False
    assert mistakes(("--enable-db",), both, tmp_path) == ["db_path: not together with DATABASE_URL"]


def test_known_variables_that_nothing_reads_yet_are_listed_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ASTER_API_KEY=hush\n")
    s = load((), {"BACKPACK_KEY": "hush", "PATH": "/bin", "MAKERDECK_OTHER": "1"}, beside=tmp_path)
    assert s.unused_known == ("BACKPACK_KEY", "ASTER_API_KEY")
    assert "hush" not in repr(s)


def test_a_secret_prints_as_stars_everywhere() -> None:
    secret = Secret("hush")
    assert [str(secret), repr(secret), f"{secret}", f"{secret:>9}", repr([secret])] == [
        *["***"] * 4,
        "[***]",
    ]
    assert (
        secret.reveal() == "hush" and secret == Secret("hush") and secret != "hush" and secret != Secret("x")
    )
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_a_data_directory_that_cannot_be_used_is_told_and_nothing_is_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert check_data_dir(tmp_path / "new" / "deep") is None
    assert check_data_dir(file) == f"'{file}' is not a directory; a directory that can be written is needed"
    assert (
        check_data_dir(file / "below")
        == f"'{file}' is not a directory; a directory that can be written is needed"
    )
    assert "is not a directory" in str(check_data_dir(tmp_path / "dangling"))
    long = tmp_path / "/".join(["d" * 100] * 5)
    assert f"bytes); at most {DATA_DIR_BYTES_MAX}" in str(check_data_dir(long))
    assert "255 between two slashes" in str(check_data_dir(tmp_path / ("é" * 128)))
    assert mistakes(("--data-dir", str(file)), {}, tmp_path) == [
        f"data_dir: '{file}' is not a directory; a directory that can be written is needed"
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"file", "dangling"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_directory_without_the_right_to_write_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "cannot be written" in str(check_data_dir(tmp_path / "data"))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("text", ["\0", "a\0b"])
def test_a_path_with_a_nul_is_told(text: str, tmp_path: Path) -> None:
    [told] = mistakes(("--data-dir", text), {}, tmp_path)
    assert told.endswith("is not a path")


def test_every_option_is_in_the_example_or_has_a_flag_and_names_no_setting_twice() -> None:
    keys = [option.key for option in OPTIONS.values()]
    assert len(set(keys)) == len(keys)
    example = (ROOT / ".env.example").read_text("utf-8")
    missing = [
        option.key for option in OPTIONS.values() if not any(name in example for name in option.variables)
    ]
    assert not missing


def test_the_example_says_the_defaults_when_all_of_it_is_switched_on(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    (tmp_path / ".env").write_text(re.sub(r"^#([A-Z])", r"\1", example, flags=re.MULTILINE))
    shown = Settings(data_dir=Path.cwd() / "data", symbols=("BTC-USDT",), spread_percent=0.05)
    assert load((), {}, beside=tmp_path) == shown


words = st.sampled_from(
    [
        "--web",
        "--cli",
        "--symbol",
        "--spread",
        "--seed",
        "--speed",
        "--tape",
        "--json",
        "--api-key",
        "--host",
        "--zz",
        "--",
    ]
)


@given(st.lists(words | st.text(max_size=8), max_size=8))
def test_any_command_line_gives_settings_or_named_mistakes(argv: list[str]) -> None:
    if {"-h", "--help"} & set(argv):
        return
    try:
        settings = load(argv, {}, beside=ROOT / "docs")
    except ConfigErrors as error:
        assert error.mistakes and all(mistake.field and mistake.message for mistake in error.mistakes)
    else:
        assert settings.mode in ("web", "cli", "direct")
