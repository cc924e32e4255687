"""What `run.py` hands to the terminal face, and what its commands share.

Hides: when the desk is connected (at the first command that needs it), how a document or a refusal is
written. Must not know: what a command does. Called by every file of `cli`; `Session` is implemented in
`run.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from api.desk import Desk, WorkerView
from api.errors import BadInput, NotFound
from cli.text import Ink, Printer, clean, terminal_cells

if TYPE_CHECKING:
    from cli.keys import KeyTools

OK, BAD_INPUT, NOT_FOUND, CONFLICT, UNREACHABLE, UNKNOWN, IN_DOUBT, INTERRUPTED = 0, 2, 3, 4, 5, 6, 7, 130
# of several outcomes of one command the one that a person must know first decides the exit code
_GRAVITY = (IN_DOUBT, UNKNOWN, UNREACHABLE, CONFLICT, NOT_FOUND, BAD_INPUT, OK)
BY = "cli"
OWN = "own"


class Published(Protocol):
    """The newest value of a topic, as `quote.bus.Latest` holds it."""

    @property
    def topic(self) -> str: ...

    @property
    def payload(self) -> bytes: ...

    @property
    def published_ns(self) -> int: ...


class Watching(Protocol):
    """A standing interest that can be ended."""

    def close(self) -> None: ...


class Topics(Protocol):
    """The part of `quote.bus.Bus` that this face reads."""

    def watch(self, prefix: str, heard: Callable[[Any], None]) -> Watching:
        """Call `heard(Published)` with what is there now and with each change, on a thread of the bus."""


class Session(Protocol):
    """A desk to speak to, and how it ends. `kind` is "attached" (a desk that runs already on this data
    directory) or "own" (one started in this process, which ends with it).
    """

    @property
    def desk(self) -> Desk: ...

    @property
    def bus(self) -> Topics: ...

    @property
    def kind(self) -> str: ...

    def close(self) -> int | None:
        """End it, the own desk with its orders. Answers with the number of orders in doubt (0 or None:
        none).
        """


@dataclass(slots=True)
class Context:
    """What every command gets. `ask` reads one line from a person; it is used with a terminal only."""

    connect: Callable[[], Session]
    out: Printer
    err: Printer
    ink: Ink
    is_tty: bool
    ask: Callable[[str], str]
    now_ns: Callable[[], int]
    is_json: bool = False
    in_shell: bool = False
    keys: KeyTools | None = None  # the key store, which needs no desk
    opened: list[Session] = field(default_factory=list)

    @property
    def session(self) -> Session:
        """The desk's session, connected when first needed. Raises what `connect` raises."""
        if not self.opened:
            self.opened.append(self.connect())
        return self.opened[0]

    @property
    def desk(self) -> Desk:
        return self.session.desk

    @property
    def is_own(self) -> bool:
        return self.session.kind == OWN

    @property
    def can_ask(self) -> bool:
        """A person is there, and standard output is not a document."""
        return self.is_tty and not self.is_json

    @property
    def cells(self) -> int | None:
        """Columns to fit into; None without a terminal."""
        return terminal_cells(self.out.stream) if self.is_tty else None

    def document(self, **parts: Any) -> None:
        """The one JSON document of this command. Decimals are text, unknown is null."""
        encoded = msgspec.json.encode(plain({"schema": 1, **parts}))
        if self.is_tty:
            encoded = msgspec.json.format(encoded, indent=2)
        self.out.line(encoded.decode())

    def warn(self, text: str, style: str = "") -> None:
        self.err.line(self.ink(clean(text), style))


def plain(value: Any) -> Any:
    """Views as JSON values: a decimal is text without an exponent (`str` writes a zero as `0E-8`)."""
    return _plain(msgspec.to_builtins(value, builtin_types=(Decimal,), str_keys=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def worst(codes: Sequence[int]) -> int:
    """The exit code that stands for several."""
    return min(codes, key=_GRAVITY.index, default=OK)


def find(views: Sequence[WorkerView], text: str) -> WorkerView:
    """The worker of this id, else of this name.

    Raises:
        NotFound: there is none.
        BadInput: several have this name.
    """
    for view in views:
        if view.id == text:
            return view
    named = [view for view in views if view.name == text]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(f"{clean(v.id)} ({clean(v.symbol)})" for v in named)
        raise BadInput("ID", f"{len(named)} workers are named {text!r}; say which by id: {ids}")
    known = ", ".join(clean(v.name or v.id) for v in views[:12]) + (", ..." if len(views) > 12 else "")
    raise NotFound(f"there is no worker {text!r}; there {f'are: {known}' if views else 'is none yet'}")


def names(views: Sequence[WorkerView]) -> Mapping[str, str]:
    """Names by id."""
    return {view.id: view.name for view in views}
