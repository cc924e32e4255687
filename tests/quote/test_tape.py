"""Recordings: what is refused and how, the order of play, and writing new ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from api.errors import BadInput
from quote.tape import TapeWriter, open_tape
from tests.quote import frames as f
from tests.shared import shared

T0 = f.START_NS
WHOLE = [
    (T0, f.diff(1, 2, [("100", "1")], ms=T0 // 1_000_000 + 7)),
    (T0 + 5, f.snapshot(2)),
    (T0 + 9, f.trade(1, "100", "1", ms=T0 // 1_000_000)),
]


def write(path: Path, frames: list[tuple[int, bytes]], *, packed: bool = False) -> Path:
    text = f.lines(frames)
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


def refusal(*paths: Path) -> str:
    with pytest.raises(BadInput) as caught:
        open_tape(paths)
    assert caught.value.field == "tape"
    return caught.value.message


@pytest.mark.parametrize("packed", [False, True])
def test_a_tape_plays_what_was_recorded_plain_or_packed(tmp_path: Path, packed: bool) -> None:
    tape = open_tape([write(tmp_path / "a.tape", WHOLE, packed=packed)])
    expected = [(ns, "BTCUSDT", raw) for ns, raw in WHOLE]
    assert list(tape.frames()) == expected
    assert list(tape.frames()) == expected  # any number of times
    assert (tape.symbols, tape.first_ns, tape.last_ns, tape.frame_count) == (("BTCUSDT",), T0, T0 + 9, 3)
    assert tape.clock_offset_ms("BTCUSDT") == pytest.approx(-7.0, abs=1)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.gz") == f"{tmp_path / 'no.gz'}: there is no such file"


def test_a_directory_is_not_a_tape(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("is a directory; name the files in it")


def test_nothing_is_not_a_tape() -> None:
    assert refusal() == "name at least one file"


def test_a_packed_file_that_is_cut_short_is_refused_before_anything_plays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", WHOLE * 1, packed=True)
    path.write_bytes(path.read_bytes()[:-12])
    assert "is cut short: the gzip stream has no end" in refusal(path)


def test_a_packed_file_with_a_flipped_byte_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", WHOLE, packed=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    message = refusal(path)
    assert str(path) in message
    assert "damaged" in message or "cut short" in message or "recording" in message


def test_a_cut_last_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    path.write_bytes(f.lines(WHOLE)[:-20])
    assert refusal(path).startswith(f"{path}, line 3: the line is cut short; allowed are lines of")


def test_a_whole_last_line_without_its_newline_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    path.write_bytes(f.lines(WHOLE)[:-1])
    assert open_tape([path]).frame_count == 3


@pytest.mark.parametrize(
    "content",
    [
        b"time,open,high,low,close\n1,2,3,4,5\n",
        b'{"stream":"btcusdt@trade"}\n',
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"12 {}\n",
        b"99999999999999999999999 {}\n",
        b"\n",
    ],
)
def test_another_format_is_refused_with_what_is_allowed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith(f"{path}, line 1: ")
    assert "allowed are lines of '<receive time in ns> <message>'" in message


def test_an_empty_file_names_no_market(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert "names no market" in refusal(path)


def test_a_receive_time_that_goes_back_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [*WHOLE, (T0 + 8, f.trade(2, "100", "1"))])
    assert refusal(path).startswith(f"{path}, line 4: its receive time is before that of the line above")


def test_one_file_with_two_markets_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [*WHOLE, (T0 + 10, f.trade(2, "100", "1", symbol="ETHUSDT"))])
    assert "is of ETHUSDT, the lines before of BTCUSDT" in refusal(path)


def test_a_tape_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    assert "has no snapshot of the book of BTCUSDT" in refusal(write(tmp_path / "a", WHOLE[:1]))


def test_futures_are_refused_by_name(tmp_path: Path) -> None:
    path = shared("market_data/binance_ws_2024-08/usdm_btcusdt_20240808.gz")
    assert "USDT-margined futures, which cannot be played yet; spot recordings can" in refusal(path)
    raw = f.diff(1, 2).replace(b'"u":2', b'"u":2,"pu":1')
    assert "USDT-margined futures" in refusal(write(tmp_path / "a", [(T0, raw)]))


def test_files_of_one_market_play_by_their_first_time_whatever_order_they_are_named_in(
    tmp_path: Path,
) -> None:
    first = write(tmp_path / "first", WHOLE)
    second = write(tmp_path / "second", [(T0 + 20, f.trade(2, "100", "1"))])
    tape = open_tape([second, first])
    assert [ns for ns, _, _ in tape.frames()] == [T0, T0 + 5, T0 + 9, T0 + 20]
    assert tape.symbols == ("BTCUSDT",)


def test_files_of_one_market_that_overlap_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "first", WHOLE)
    assert f"overlaps {first} in time" in refusal(first, first)


def test_several_markets_are_merged_by_receive_time_then_by_file(tmp_path: Path) -> None:
    eth = [(ns, raw.replace(b"BTC", b"ETH").replace(b"btc", b"eth")) for ns, raw in WHOLE]
    tape = open_tape([write(tmp_path / "eth", eth), write(tmp_path / "btc", WHOLE)])
    assert [(ns - T0, symbol) for ns, symbol, _ in tape.frames()] == [
        (0, "ETHUSDT"),
        (0, "BTCUSDT"),
        (5, "ETHUSDT"),
        (5, "BTCUSDT"),
        (9, "ETHUSDT"),
        (9, "BTCUSDT"),
    ]
    assert tape.symbols == ("ETHUSDT", "BTCUSDT")


def test_both_recordings_open_and_merge() -> None:
    folder = shared("market_data/binance_ws_2024-08")
    tape = open_tape([folder / "spot_btcusdt_20240808.gz", folder / "spot_ethusdt_20240808.gz"])
    times = [ns for ns, _, _ in tape.frames()]
    assert (tape.frame_count, len(times), tape.symbols) == (74_867, 74_867, ("BTCUSDT", "ETHUSDT"))
    assert times == sorted(times)
    assert tape.clock_offset_ms("BTCUSDT") == pytest.approx(-1275, abs=1)


def test_what_is_written_can_be_opened_and_segments_follow_each_other(tmp_path: Path) -> None:
    writer = TapeWriter(tmp_path / "rec", "spot_btcusdt", segment_bytes=len(f.lines(WHOLE[:2])))
    for ns, raw in WHOLE:
        writer.write(ns, raw)
    assert [path.suffix for path in sorted((tmp_path / "rec").iterdir())] == [".tape", ".part"]
    writer.close()
    writer.close()
    segments = sorted((tmp_path / "rec").iterdir())
    assert [path.name for path in segments] == [f"spot_btcusdt_{T0}.tape", f"spot_btcusdt_{T0 + 9}.tape"]
    assert [(ns, raw) for ns, _, raw in open_tape(segments).frames()] == WHOLE


def test_a_frame_with_a_newline_stays_on_its_line(tmp_path: Path) -> None:
    writer = TapeWriter(tmp_path, "x")
    writer.write(T0, f.snapshot(2).replace(b",", b",\n"))
    writer.write(T0 + 1, f.trade(1, "100", "1"))
    writer.close()
    assert open_tape(list(tmp_path.iterdir())).frame_count == 2
