"""Words, numbers and columns for a terminal: what a value looks like there.

Hides: colours and when there are none, how many cells a wide character takes, how exact a price is written,
what an output that cannot carry "—" gets instead. Must not know: the desk, commands, where the text goes.
Called by every file of `cli`. Text that came from elsewhere (names, reasons) passes `clean`, so that no
escape code of a stranger reaches a terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TextIO

DASH = "—"
ELLIPSIS = "…"
GAP = "  "

_STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
    "alarm": "1;37;41",
    "chosen": "1;7",
}
_WORD_STYLES = {
    "QUOTING": "green",
    "ONE-SIDED": "yellow",
    "WAITING": "yellow",
    "PAUSED": "yellow",
    "REDUCING": "yellow",
    "STOPPING": "yellow",
    "DISCONNECTED": "red",
    "HALTED": "red",
    "FAILED": "red",
    "STOPPED": "dim",
    "LIVE": "green",
    "REPLAY": "cyan",
    "SYNTHETIC": "magenta",
    "BUY": "green",
    "SELL": "red",
}
_PLAIN = str.maketrans(
    {
        "—": "-",
        "…": "~",
        "·": ".",
        "█": "#",
        "▌": "#",
        "▐": "#",
        "▸": ">",
        "◂": "<",
        "─": "-",
        "│": "|",
        "×": "x",
        "⋮": ":",
        "≈": "~",
        "↑": "^",
        "↓": "v",
    }
)
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Ink:
    """Colours, or none. `ink("+1.20", "green")` is the text itself where colours are off."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on

    def __call__(self, text: str, style: str) -> str:
        code = _STYLES.get(style) if self.is_on else None
        return text if code is None or not text else f"\x1b[{code}m{text}\x1b[0m"


def wants_colour(is_tty: bool) -> bool:
    """A terminal that can show colours, whose owner did not say NO_COLOR (see no-color.org)."""
    return is_tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"


class Printer:
    """Lines to one stream, in characters it can carry. A reader that went away (a closed pipe) is not an
    error:
    `is_closed` then turns true and further lines go nowhere.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.is_closed = False

    def line(self, text: str = "") -> None:
        self.write(text + "\n")

    def lines(self, texts: Sequence[str]) -> None:
        if texts:
            self.write("\n".join(texts) + "\n")

    def write(self, text: str) -> None:
        if self.is_closed:
            return
        try:
            self.stream.write(self.encodable(text))
            self.stream.flush()
        except BrokenPipeError:
            self.is_closed = True
            # Python flushes standard output once more at its end, and would complain there
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def encodable(self, text: str) -> str:
        """The text with what the stream's encoding lacks replaced by plain characters."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        except LookupError:
            return text.translate(_PLAIN)
        return text


def clean(text: str) -> str:
    """One line without control characters or direction marks; safe to show whoever wrote it."""
    if text.isprintable() and text.isascii():
        return text
    kept = []
    for char in text:
        if char in "\n\r\t":
            kept.append(" ")
        elif char in _BIDI or unicodedata.category(char) in ("Cc", "Cs"):
            kept.append("?")
        else:
            kept.append(char)
    return "".join(kept)


def width(text: str) -> int:
    """Terminal cells of plain text: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    cells = 0
    for char in text:
        if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
            continue
        cells += 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
    return cells


def fit(text: str, cells: int) -> str:
    """The text, cut to `cells` with an ellipsis where it is longer."""
    if width(text) <= cells:
        return text
    if cells <= 0:
        return ""
    kept, used = [], 0
    for char in text:
        cost = width(char)
        if used + cost > cells - 1:
            break
        kept.append(char)
        used += cost
    return "".join(kept) + ELLIPSIS


def pad(text: str, cells: int, *, right: bool = False) -> str:
    """Exactly `cells` wide; longer text is cut."""
    text = fit(text, cells)
    space = " " * (cells - width(text))
    return space + text if right else text + space


# ---------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True, slots=True)
class Cell:
    """Plain text and the style it gets where there are colours."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` says what goes first where the terminal is narrow: the highest; 0 stays. `flex` columns are cut
    before that.
    """

    title: str
    right: bool = False
    rank: int = 0
    flex: bool = False


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]], ink: Ink, *, cells: int | None = None
) -> list[str]:
    """Aligned columns under their titles, at most `cells` wide (None: as wide as it gets)."""
    full = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows]
    shown = list(range(len(columns)))
    wide = [max([width(c.title)] + [width(row[i].text) for row in full]) for i, c in enumerate(columns)]
    least = [min(wide[i], max(width(c.title), 8)) if c.flex else wide[i] for i, c in enumerate(columns)]
    if cells is not None:
        while sum(least[i] for i in shown) + len(GAP) * (len(shown) - 1) > cells:
            worst = max(shown, key=lambda i: columns[i].rank)
            if columns[worst].rank == 0:
                break
            shown.remove(worst)
        excess = sum(wide[i] for i in shown) + len(GAP) * (len(shown) - 1) - cells
        for i in shown:
            if excess > 0 and columns[i].flex:
                cut = min(excess, wide[i] - least[i])
                wide[i] -= cut
                excess -= cut
    lines = [_row([Cell(c.title, "dim") for c in columns], columns, shown, wide, ink)]
    lines += [_row(row, columns, shown, wide, ink) for row in full]
    return lines


def _row(
    row: Sequence[Cell], columns: Sequence[Column], shown: Sequence[int], wide: Sequence[int], ink: Ink
) -> str:
    parts = []
    for place, i in enumerate(shown):
        text = fit(row[i].text, wide[i])
        space = " " * (wide[i] - width(text))
        inked = ink(text, row[i].style)
        if columns[i].right:
            parts.append(space + inked)
        else:
            parts.append(inked + ("" if place == len(shown) - 1 else space))
    return GAP.join(parts)


# ---------------------------------------------------------------------------------------------- numbers


def digits(step: Decimal) -> int:
    """Decimal places of a tick or a lot: 2 for 0.01 and 0.05, 0 for 10."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def exact(value: Decimal | None) -> str:
    """As it is, without an exponent; a dash when it is not known."""
    return DASH if value is None else format(value, "f")


def fixed(value: Decimal | None, places: int) -> str:
    """With `places` decimals, or as many more as it needs (at most four more): a price is never rounded to
    another.
    """
    if value is None:
        return DASH
    if not value.is_finite():
        return str(value)
    for more in range(5):
        text = format(value, f".{places + more}f")
        if Decimal(text) == value:
            return text
    return text


def shortest(value: object) -> str:
    """A value as a person writes it: `60` for 60.0, `unset` for none, `true`; never an exponent."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):  # its zeros were written by somebody
        return format(value, "f")
    if isinstance(value, int | float):
        number = Decimal(str(value))
        if number.is_finite():
            return format(
                number.quantize(Decimal(1)) if number == number.to_integral_value() else number, "f"
            )
    return clean(str(value))


def price(value: Decimal | None, tick: Decimal) -> str:
    """A price in quote currency with the decimals of its tick."""
    return fixed(value, digits(tick))


def signed(value: Decimal | None, places: int) -> str:
    """As `fixed`, with its sign; zero has none."""
    return DASH if value is None else _sign(value) + fixed(value, places)


def money(value: Decimal | None, *, sign: bool = False) -> str:
    """An amount of currency to four decimals; one too small to show in those, to eight."""
    if value is None:
        return DASH
    if not value.is_finite():
        return str(value)
    step = Decimal("0.0001") if value == 0 or abs(value) >= Decimal("0.001") else Decimal("0.00000001")
    text = format(value.quantize(step, rounding=ROUND_HALF_EVEN) if abs(value) < 10**20 else value, "f")
    if not Decimal(text):
        text = text.lstrip("-")
    return (_sign(value) if sign and Decimal(text) else "") + text


def gain(value: Decimal | None) -> Cell:
    """Profit or loss: its sign beside its colour."""
    style = "" if value is None or value == 0 else "green" if value > 0 else "red"
    return Cell(money(value, sign=True), style)


def _sign(value: Decimal) -> str:
    return "+" if value > 0 else ""


# -------------------------------------------------------------------------------------- words and times


def word(text: str, shown: str = "") -> Cell:
    """A state, a market label or a side, in its colour."""
    return Cell(clean(shown or text), _WORD_STYLES.get(text.upper(), ""))


def clock(at_ns: int | None) -> str:
    """Time of day, UTC, to the millisecond."""
    if at_ns is None:
        return DASH
    return _utc(at_ns).strftime("%H:%M:%S.") + f"{at_ns // 1_000_000 % 1000:03d}"


def stamp(at_ns: int | None) -> str:
    """Date and time, UTC, to the second."""
    return DASH if at_ns is None else _utc(at_ns).strftime("%Y-%m-%d %H:%M:%S")


def _utc(at_ns: int) -> datetime:
    try:
        return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
    except (OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(0, UTC)


def age(seconds: float | None) -> str:
    """How old, shortly: `0.2 s`, `12 s`, `3 min`, `2 h`, `4 d`."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    for limit, unit, size in ((100, "s", 1), (6000, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def span(seconds: float) -> str:
    """A running time: `0:01:23`, `1d 02:03:04`."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{days}d {hours:02d}:{text}" if days else f"{hours}:{text}"


def count(number: int, noun: str) -> str:
    """`1 order`, `2 orders`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def bar(share: float, cells: int, *, leftwards: bool = False) -> str:
    """A bar of up to `cells` half-exact blocks for a share between 0 and 1, growing to either side."""
    halves = round(max(0.0, min(1.0, share)) * cells * 2)
    full, half = "█" * (halves // 2), halves % 2
    return "▐" * half + full if leftwards else full + "▌" * half


def terminal_cells(stream: TextIO) -> int | None:
    """Columns of the terminal behind `stream`, None when there is none."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return None
    return columns if columns > 0 else None


def standard_streams() -> tuple[TextIO, TextIO]:
    """Standard output and error as they are now."""
    return sys.stdout, sys.stderr
