"""The terminal face: `run.py --cli [COMMAND]`, over the same Desk as the page.

Hides: words to commands, exceptions to exit codes, when a desk is connected at all. Must not know: venues,
engines, how a desk is found or started (`connect` does that). Called by `run.py`.

Without a command it is an interactive prompt where there is a terminal, else it prints its help and exits
with 2. Without a terminal there are no colours, no questions and no cursor codes. With `--json` standard
output is exactly one JSON document: `{"schema": 1, ...}` with the views of `api/desk.py` (decimals as text,
unknown as null), or on a refusal `{"schema": 1, "error": {"kind", "message", "fields": [{"field",
"message"}]}, "exit_code"}`; `watch` writes one document a line.

Exit codes:

      0  done
      2  bad input or usage; nothing was changed
      3  no such worker, order or market
      4  refused: it does not fit the present state
      5  the desk could not be reached; nothing happened
      6  sent, and no answer in time: whether it happened is unknown
      7  ended with orders in doubt at a venue
    130  interrupted by Ctrl-C

Where several apply the gravest decides: 7, 6, 5, 4, 3, 2. A desk that was started by this command ends with
it; when orders are then still in doubt the exit code is 7, whatever the command said.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TextIO

import msgspec

from api.desk import DeskSilent, DeskUnreachable
from api.errors import BadInput, BadInputs, Conflict, ExchangeError, NotFound, OutcomeUnknown
from api.runtime import Clock
from cli.commands import COMMANDS
from cli.flags import Flag, parse
from cli.keys import KeyTools
from cli.session import (
    BAD_INPUT,
    CONFLICT,
    IN_DOUBT,
    INTERRUPTED,
    NOT_FOUND,
    OK,
    UNKNOWN,
    UNREACHABLE,
    Context,
    Session,
)
from cli.text import Ink, Printer, clean, count, pad, wants_colour

__all__ = ["Session", "help_text", "main", "perform"]

COMMON = (Flag("--json", "", "one JSON document on standard output"), Flag("--help", "", "this help"))
_HELP_WORDS = ("help", "--help", "-h")


def main(
    args: Sequence[str],
    connect: Callable[[], Session],
    *,
    out: TextIO,
    err: TextIO,
    is_tty: bool,
    ask: Callable[[str], str] | None = None,
    keys: KeyTools | None = None,
) -> int:
    """Do one command, or prompt for many, and answer with the exit code (see the module).

    Args:
        args: the words after `--cli`.
        connect: called at most once, when a command first needs the desk; may raise what a command may.
        is_tty: a person sits at both ends: input and output are a terminal.
        ask: reads one line after showing its argument; standard input by default.
        keys: the key store and what asks venues about keys; without it `keys` refuses.
    """
    printer = Printer(out)
    ctx = Context(
        connect=connect,
        out=printer,
        err=Printer(err),
        ink=Ink(wants_colour(is_tty)),
        is_tty=is_tty,
        ask=ask or (lambda prompt: _ask(printer, prompt)),
        now_ns=Clock().now_ns,
        keys=keys,
    )
    code = OK
    try:
        words = list(args)
        if is_tty and words in ([], ["shell"]):
            from cli.shell import Shell

            code = guarded(ctx, lambda: Shell(ctx, perform).run())
        else:
            code = perform(ctx, words)
    finally:
        code = _end(ctx, code)
    return code


def perform(ctx: Context, words: Sequence[str]) -> int:
    """One command from its words; every outcome is an exit code. Writes the refusal where there is one."""
    ctx.is_json = "--json" in words
    return guarded(ctx, lambda: _perform(ctx, list(words)))


def _perform(ctx: Context, words: list[str]) -> int:
    while words and words[0] == "--json":  # it may stand before the command too
        words = [*words[1:], "--json"] if len(words) > 1 and "--json" not in words[1:] else words[1:]
    if not words:
        ctx.err.line(help_text())
        raise BadInput("", "no command given, and no terminal to prompt in")
    name, rest = words[0], words[1:]
    if name in _HELP_WORDS:
        ctx.out.line(help_text(rest[0] if rest and rest[0] in COMMANDS else None))
        return OK
    if name == "shell":
        raise BadInput("shell", "is the prompt already" if ctx.in_shell else "needs a terminal")
    command = COMMANDS.get(name)
    if command is None:
        raise BadInput(name if name.startswith("-") else "command", _unknown(name))
    if "-h" in rest or "--help" in rest:
        ctx.out.line(help_text(name))
        return OK
    parsed = parse(command.usage, rest, COMMON)
    return command.run(ctx, parsed)


def _unknown(name: str) -> str:
    what = "is not a flag here" if name.startswith("-") else f"{name!r} is not a command"
    return f"{what}; commands: {', '.join(COMMANDS)}, help"


def guarded(ctx: Context, act: Callable[[], int]) -> int:
    """What `act` answers, or the exit code of what it raised, after saying so."""
    try:
        return act()
    except BadInputs as error:
        return _refuse(ctx, BAD_INPUT, "bad_input", str(error), error.errors)
    except BadInput as error:
        return _refuse(ctx, BAD_INPUT, "bad_input", str(error), (error,))
    except NotFound as error:
        return _refuse(ctx, NOT_FOUND, "not_found", str(error))
    except Conflict as error:
        return _refuse(ctx, CONFLICT, "conflict", str(error))
    except DeskUnreachable as error:
        return _refuse(
            ctx, UNREACHABLE, "unreachable", f"the desk could not be reached; nothing happened. {error}"
        )
    except (DeskSilent, OutcomeUnknown) as error:
        text = "no answer in time: whether it happened is UNKNOWN; look with `status` before you repeat it."
        return _refuse(ctx, UNKNOWN, "unknown", f"{text} {error}")
    except ExchangeError as error:
        return _refuse(ctx, CONFLICT, "refused", error.message)
    except KeyboardInterrupt:
        ctx.err.line()
        return _refuse(
            ctx, INTERRUPTED, "interrupted", "interrupted; a command that was sent already is not taken back"
        )


def _refuse(ctx: Context, code: int, kind: str, message: str, fields: Sequence[BadInput] = ()) -> int:
    message = clean(message.strip())
    if len(fields) > 1:
        for field in fields:
            ctx.warn(f"{field}", "red")
    else:
        ctx.warn(message, "red")
    if ctx.is_json:
        told = [{"field": f.field, "message": f.message} for f in fields]
        body = {"schema": 1, "error": {"kind": kind, "message": message, "fields": told}, "exit_code": code}
        ctx.out.line(msgspec.json.encode(body).decode())
    return code


def _end(ctx: Context, code: int) -> int:
    """Close what was opened. A desk of our own says what its end left behind."""
    for session in ctx.opened:
        is_own = ctx.is_own
        if is_own:
            running = _running(session)
            if running:
                told = count(running, "running worker")
                ctx.err.line(f"this desk ends now, and {told} with it; orders are cancelled")
        in_doubt = _close(ctx, session)
        if in_doubt:
            told = f"IN DOUBT at the end: {count(in_doubt, 'order')}"
            ctx.warn(f"{told}; look at the venue, or start a desk here again", "red")
            code = IN_DOUBT
    ctx.opened.clear()
    return code


def _running(session: Session) -> int:
    try:
        return session.desk.view().running
    except (DeskUnreachable, DeskSilent):
        return 0


def _close(ctx: Context, session: Session) -> int:
    try:
        return session.close() or 0
    except KeyboardInterrupt:  # a second Ctrl-C while orders are being cancelled must not leave them there
        ctx.err.line("still cancelling; wait for the venue to confirm")
        return session.close() or 0


def help_text(name: str | None = None) -> str:
    """How to use it all, or one command."""
    if name is not None:
        usage = COMMANDS[name].usage
        lines = [f"{name} {usage.args}".rstrip(), f"  {usage.help}", ""]
        shown = [(f"{f.name} {f.value}".rstrip(), f.help) for f in (*usage.flags, *COMMON) if f.help]
        wide = max(len(head) for head, _ in shown)
        lines += [f"  {pad(head, wide)}  {text}" for head, text in shown]
        if usage.is_open:
            lines += ["", "  --PARAMETER VALUE for each parameter of the strategy, for example", ""]
            lines += [f"  {name} --symbol BTC-USDT --spread 0.05 --max-orders 3 --limit max_position=0.1"]
        return "\n".join(lines)
    lines = ["makerdeck in a terminal: run.py --cli [COMMAND] [--json]", ""]
    wide = max(len(f"{n} {c.usage.args.partition(' (')[0]}".rstrip()) for n, c in COMMANDS.items())
    for key, command in COMMANDS.items():
        head = f"{key} {command.usage.args.partition(' (')[0]}".rstrip()
        lines.append(f"  {pad(head, wide)}  {command.usage.help}")
    lines += [f"  {pad('shell', wide)}  (no command, with a terminal) an interactive prompt"]
    lines += [f"  {pad('help [COMMAND]', wide)}  this, or one command", ""]
    lines += [
        "A worker is named by its id or its name. --json: exactly one JSON document on standard output.",
        "",
    ]
    doc = __doc__ or ""
    lines += [
        line[2:] if line.startswith("    ") else line
        for line in doc[doc.find("Exit codes:") :].rstrip().splitlines()
    ]
    return "\n".join(lines)


def _ask(printer: Printer, prompt: str) -> str:
    """One line of standard input, with line editing on Python's own output; nothing at its end."""
    if printer.stream is not sys.stdout:
        printer.write(prompt)
        prompt = ""
    try:
        return input(prompt)
    except EOFError:
        return ""
