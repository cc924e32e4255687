"""An interactive prompt: the same commands, one connection.

Hides: line editing, completion, what Ctrl-C and Ctrl-D mean. Must not know: what a command does. Called by
`cli.main` when there is a terminal and no command.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence

from api.desk import DeskSilent, DeskUnreachable
from cli.commands import COMMANDS
from cli.session import IN_DOUBT, OK, UNKNOWN, Context
from cli.text import clean, count

_LEAVE = frozenset({"quit", "exit", "q"})
_WORDS = (*sorted(COMMANDS), "help", "quit")


class Shell:
    """Args:
    perform: does one command from its words and answers with its exit code.
    """

    def __init__(self, ctx: Context, perform: Callable[[Context, Sequence[str]], int]) -> None:
        self._ctx = ctx
        self._perform = perform
        self._names: list[str] = []
        self._grave = OK

    def run(self) -> int:
        """Prompt until a person leaves. 0, or the last grave outcome (6, 7) nobody should miss."""
        ctx = self._ctx
        ctx.in_shell = True
        where = "a desk of its own, which ends with this prompt" if ctx.is_own else "the running desk"
        ctx.out.line(f"makerdeck: speaking to {where}. `help` lists the commands, `quit` leaves.")
        self._perform(ctx, ["status"])
        with _line_editing(self._complete):
            while True:
                try:
                    if self._once():
                        return self._grave
                except KeyboardInterrupt:  # it drops the line, or the command, never the prompt
                    ctx.out.line()

    def _once(self) -> bool:
        """One line. True when it leaves."""
        ctx = self._ctx
        try:
            text = self._read()
        except EOFError:
            ctx.out.line()
            return True
        try:
            words = shlex.split(text, comments=True)
        except ValueError as error:  # an open quote
            ctx.warn(f"not understood: {error}", "red")
            return False
        if not words:
            return False
        if words[0] in _LEAVE:
            return self._may_leave()
        code = self._perform(ctx, words)
        if code in (UNKNOWN, IN_DOUBT):
            self._grave = code
        return False

    def _read(self) -> str:
        """One line. The prompt says when the desk is killed or out of reach."""
        mark = ""
        try:
            if self._ctx.desk.view().is_killed:
                mark = " [KILLED]"
            self._names = [v.name or v.id for v in self._ctx.desk.workers()]
        except (DeskUnreachable, DeskSilent):
            mark = " [unreachable]"
        return input(f"makerdeck{mark}> ")

    def _may_leave(self) -> bool:
        """Leaving a desk of our own stops its workers: ask when there are any."""
        ctx = self._ctx
        if not ctx.is_own:
            return True
        try:
            running = ctx.desk.view().running
        except (DeskUnreachable, DeskSilent):
            return True
        if not running:
            return True
        try:
            answer = input(f"{count(running, 'running worker')} will stop with this prompt; leave? [y/N] ")
        except (EOFError, KeyboardInterrupt):
            ctx.out.line()
            return False
        return answer.strip().lower() in ("y", "yes")

    def _complete(self, text: str, is_first: bool) -> list[str]:
        pool = _WORDS if is_first else [shlex.quote(clean(name)) for name in self._names]
        return [f"{word} " for word in pool if word.startswith(text)]


@contextlib.contextmanager
def _line_editing(complete: Callable[[str, bool], list[str]]) -> Iterator[None]:
    """History and the Tab key, where Python has them; what was set before is put back."""
    try:
        import readline
    except ImportError:  # a Python without it still prompts
        yield
        return

    def completer(text: str, place: int) -> str | None:
        fits = complete(text, readline.get_begidx() == 0)
        return fits[place] if place < len(fits) else None

    before = readline.get_completer(), readline.get_completer_delims()
    readline.set_completer(completer)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        readline.set_completer(before[0])
        readline.set_completer_delims(before[1])
