"""The commands of the terminal face, one function each, and the table that names them.

Hides: which calls of the desk a command makes and how its answer is laid out. Must not know: how words were
split, what an exit code of an exception is (`cli.main`). Called by `cli.main` and `cli.shell` through
`COMMANDS`. Every function answers with an exit code and lets the desk's own exceptions through.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from api.desk import (
    TOPIC_DESK,
    TOPIC_FEEDS,
    TOPIC_FILLS,
    TOPIC_NOTICES,
    TOPIC_ORDERS,
    TOPIC_WORKER,
    DeskSilent,
    DeskUnreachable,
    FillView,
    OrderView,
    WorkerSpec,
    WorkerView,
)
from api.errors import BadInput, BadInputs, Conflict, NotFound
from api.runtime import Inbox
from cli import keys, tables
from cli.flags import Entry, Flag, Parsed, Usage, entries, pairs, raise_all, seconds, value, values, whole
from cli.session import (
    BY,
    CONFLICT,
    IN_DOUBT,
    INTERRUPTED,
    NOT_FOUND,
    OK,
    UNKNOWN,
    UNREACHABLE,
    Context,
    Published,
    find,
    names,
    worst,
)
from cli.text import clean, shortest

DEFAULT_STRATEGY = "market_making/standard"
ROUND_S = 5.0  # how often a start in the foreground without a terminal says what happens
FILLS_A_ROUND = 200  # more than any worker fills in one round
WAIT_S = 0.25  # longest wait on anything while a person's Ctrl-C should work
_WATCHED = (TOPIC_DESK, TOPIC_WORKER, TOPIC_ORDERS, TOPIC_FILLS, TOPIC_FEEDS, TOPIC_NOTICES)


@dataclass(frozen=True, slots=True)
class Command:
    usage: Usage
    run: Callable[[Context, Parsed], int]


# ---------------------------------------------------------------------------------------------- reading


def status(ctx: Context, parsed: Parsed) -> int:
    view, workers, health, notices = (
        ctx.desk.view(),
        ctx.desk.workers(),
        ctx.desk.health(),
        ctx.desk.notices(),
    )
    if ctx.is_json:
        told = {"status": health.get("status"), "checks": health.get("checks", {})}
        ctx.document(
            session=ctx.session.kind, desk=view, health=told, workers=workers, notices=notices.notices
        )
        return OK
    ctx.out.lines(tables.desk_lines(view, ctx.ink, is_own=ctx.is_own, health=health))
    ctx.out.line()
    _fleet(ctx, workers)
    recent = tables.notice_lines(notices.notices[:5], ctx.ink, names=names(workers))
    if recent:
        ctx.out.lines(["", *recent])
    return OK


def list_workers(ctx: Context, parsed: Parsed) -> int:
    workers = ctx.desk.workers()
    if ctx.is_json:
        ctx.document(workers=workers)
    else:
        _fleet(ctx, workers)
    return OK


def show(ctx: Context, parsed: Parsed) -> int:
    view = ctx.desk.worker(find(ctx.desk.workers(), parsed.args[0]).id)
    orders = ctx.desk.orders(view.id).orders
    if ctx.is_json:
        ctx.document(worker=view, orders=orders)
        return OK
    ctx.out.lines(tables.worker_lines(view, ctx.ink))
    ctx.out.lines(["", *tables.orders_table(orders, ctx.ink, cells=ctx.cells)])
    return OK


def orders(ctx: Context, parsed: Parsed) -> int:
    found = ctx.desk.orders(find(ctx.desk.workers(), parsed.args[0]).id)
    if ctx.is_json:
        ctx.document(worker=found.worker, published_ns=found.published_ns, orders=found.orders)
    else:
        ctx.out.lines(tables.orders_table(found.orders, ctx.ink, cells=ctx.cells))
    return OK


def fills(ctx: Context, parsed: Parsed) -> int:
    limit = whole(parsed.get("--limit", "20"), "--limit", least=1, most=1000)
    workers = ctx.desk.workers()
    worker_id = find(workers, parsed.args[0]).id if parsed.args else None
    found = ctx.desk.fills(worker_id=worker_id, limit=limit)
    newest = found.fills[:limit]  # a page may be longer, so that fills of one instant stay together
    if ctx.is_json:
        ctx.document(published_ns=found.published_ns, fills=newest)
    else:
        ctx.out.lines(tables.fills_table(newest, ctx.ink, names=names(workers), cells=ctx.cells))
    return OK


def feeds(ctx: Context, parsed: Parsed) -> int:
    view = ctx.desk.feeds()
    if ctx.is_json:
        ctx.document(published_ns=view.published_ns, feeds=view.feeds)
    else:
        ctx.out.lines(tables.feeds_table(view, ctx.ink, cells=ctx.cells))
    return OK


def strategies(ctx: Context, parsed: Parsed) -> int:
    found = ctx.desk.strategies()
    if parsed.args:
        found = [_strategy(found, parsed.args[0])]
    if ctx.is_json:
        ctx.document(strategies=found)
    elif not parsed.args:
        ctx.out.lines(tables.strategies_table(found, ctx.ink, cells=ctx.cells))
    else:
        one = found[0]
        ctx.out.line(f"{clean(_full_name(one))}: {clean(str(one.get('title', '')))}")
        ctx.out.lines([clean(str(one.get("description", ""))), ""])
        ctx.out.lines(
            tables.entries_table(entries(one.get("schema")).values(), ctx.ink, is_flag=True, cells=ctx.cells)
        )
        limits = entries(one.get("limits_schema"))
        if limits:
            ctx.out.lines(["", "limits (--limit name=value; stated defaults on paper):"])
            ctx.out.lines(tables.entries_table(limits.values(), ctx.ink, is_flag=False, cells=ctx.cells))
    return OK


def book(ctx: Context, parsed: Parsed) -> int:
    rows = whole(parsed.get("--rows", "10"), "--rows", least=1, most=100)
    instrument = _instrument(ctx, parsed.args[0])
    view = ctx.desk.book(instrument)
    ours: list[OrderView] = []
    for worker in ctx.desk.workers():
        if worker.instrument == instrument and (worker.open_orders or worker.unknown_orders):
            with contextlib.suppress(NotFound):  # deleted since the list was made
                ours += ctx.desk.orders(worker.id).orders
    if ctx.is_json:
        ctx.document(book=view, orders=ours)
    else:
        ctx.out.lines(tables.book_lines(view, ours, ctx.ink, rows=rows, cells=ctx.cells))
    return OK


def watch(ctx: Context, parsed: Parsed) -> int:
    """Changes as JSON lines until `--for` seconds passed, the reader went away, or Ctrl-C."""
    ctx.is_json = False  # its end by Ctrl-C is no document of its own
    prefixes = parsed.values.get("--topic") or list(_WATCHED)
    until_s = seconds(parsed.get("--for"), "--for") if parsed.get("--for") else None
    inbox: Inbox[Published] = Inbox()
    bus, began = ctx.session.bus, ctx.now_ns()
    watches = [bus.watch(prefix, lambda heard: inbox.put_latest(heard.topic, heard)) for prefix in prefixes]
    shown: dict[str, dict[str, Any]] = {}
    try:
        while not ctx.out.is_closed:
            left_s = WAIT_S if until_s is None else min(WAIT_S, until_s - (ctx.now_ns() - began) / 1e9)
            if left_s <= 0:
                break
            heard = inbox.get(left_s)
            if heard is None:
                continue
            body = msgspec.json.decode(heard.payload)
            told = (
                {k: v for k, v in body.items() if k != "published_ns"}
                if isinstance(body, dict)
                else {"value": body}
            )
            if shown.get(heard.topic) != told:
                shown[heard.topic] = told
                line = {"at_ns": heard.published_ns, "topic": heard.topic, "value": body}
                ctx.out.line(msgspec.json.encode(line).decode())
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        for one in watches:
            one.close()
    return OK


def live(ctx: Context, parsed: Parsed) -> int:
    if ctx.is_json or not ctx.is_tty:
        raise BadInput("live", "needs a terminal; without one use `watch` (JSON lines) or `status --json`")
    chosen = find(ctx.desk.workers(), parsed.args[0]).id if parsed.args else None
    from cli.live import LiveView  # rich takes a while to import: only who looks at it pays

    left_by_key = LiveView(ctx, chosen).run()
    if ctx.is_own and ctx.in_shell:
        ctx.out.line("workers of this desk go on; they stop when you leave the prompt")
    return OK if left_by_key or ctx.in_shell else INTERRUPTED


# ----------------------------------------------------------------------------------------------- acting


def create(ctx: Context, parsed: Parsed) -> int:
    one = _strategy(ctx.desk.strategies(), parsed.args[0] if parsed.args else DEFAULT_STRATEGY)
    where = _full_name(one)
    schema, limits_schema = entries(one.get("schema")), entries(one.get("limits_schema"))
    given: dict[str, str | None] = {**parsed.extra, **pairs(parsed.values.get("--param", ()), "--param")}
    wrong: list[BadInput] = []
    params = _all_of(wrong, lambda: values(given, schema, flags=True, where=where))
    limits = _all_of(
        wrong,
        lambda: values(
            {**pairs(parsed.values.get("--limit", ()), "--limit")},
            limits_schema,
            flags=False,
            where=f"the limits of {where}",
        ),
    )
    venue = parsed.get("--venue") or parsed.get("--exchange", "paper")
    if parsed.get("--exchange", venue) != venue:
        wrong.append(BadInput("--exchange", f"is another word for --venue, which says {venue!r}"))
    symbol = parsed.get("--symbol")
    missing = [entry for entry in schema.values() if entry.is_required and entry.name not in params]
    if not ctx.can_ask:
        if not symbol:
            wrong.append(BadInput("--symbol", "is missing; for example --symbol BTC-USDT"))
        wrong += [
            BadInput(e.flag, f"is missing; {e.title}, {e.range_text} {e.unit}".rstrip())
            for e in missing
            if e.name not in given
        ]
    raise_all(wrong)
    if ctx.can_ask:
        if not symbol:
            symbol = _ask(
                ctx,
                f"symbol ({', '.join(_symbols(ctx, venue)) or 'for example BTC-USDT'}): ",
                lambda text: text,
            )
            missing = [entry for entry in schema.values() if entry.name not in params]
        for entry in missing:
            params[entry.name] = _ask_entry(ctx, entry)
    view = ctx.desk.create(
        WorkerSpec(
            kind=str(one["kind"]),
            strategy=str(one["name"]),
            venue=venue,
            symbol=symbol,
            params=params,
            limits=limits,
            name=parsed.get("--name"),
            account=parsed.get("--account", "main"),
            env=parsed.get("--env", "paper"),
            resume_after_restart="--resume-after-restart" in parsed.on,
        ),
        by=BY,
    )
    if "--start" in parsed.on:
        if not ctx.is_json:
            ctx.out.line(f"created {tables.named(view)}")
        return _start(ctx, [view])
    if ctx.is_json:
        ctx.document(worker=view)
    else:
        ctx.out.line(
            f"created {tables.named(view)}; stopped; `start {clean(view.name or view.id)}` lets it quote"
        )
        ctx.out.lines(tables.worker_lines(view, ctx.ink))
    return OK


def start(ctx: Context, parsed: Parsed) -> int:
    workers = ctx.desk.workers()
    every_s = seconds(parsed.get("--every", str(ROUND_S)), "--every")
    return _start(ctx, [find(workers, text) for text in parsed.args], every_s)


def pause(ctx: Context, parsed: Parsed) -> int:
    return _each(ctx, parsed.args, ctx.desk.workers(), lambda view: ctx.desk.pause(view.id, by=BY), "paused")


def stop(ctx: Context, parsed: Parsed) -> int:
    if ("--all" in parsed.on) == bool(parsed.args):
        raise BadInput("stop", "needs ID... or --all, one of the two")
    workers = ctx.desk.workers()
    wanted = [view.id for view in workers if tables.is_active(view)] if "--all" in parsed.on else parsed.args
    if not wanted and not ctx.is_json:
        ctx.out.line("no worker is running")
    return _each(ctx, wanted, workers, lambda view: ctx.desk.stop(view.id, by=BY), "stopped")


def delete(ctx: Context, parsed: Parsed) -> int:
    view = find(ctx.desk.workers(), parsed.args[0])
    ctx.desk.delete(view.id, by=BY)
    if ctx.is_json:
        ctx.document(deleted=view.id)
    else:
        ctx.out.line(f"deleted {tables.named(view)}; its fills stay in the store")
    return OK


def change(ctx: Context, parsed: Parsed) -> int:
    """`set`: names of the strategy's schema are parameters, names of the limits' schema limits (`limits.`
    tells them apart).
    """
    view = find(ctx.desk.workers(), parsed.args[0])
    given = pairs(parsed.args[1:], "set")
    if not given:
        raise BadInput("set", "needs at least one param=value")
    one = _strategy(ctx.desk.strategies(), f"{view.kind}/{view.strategy}")
    schema, limits_schema = entries(one.get("schema")), entries(one.get("limits_schema"))
    params: dict[str, str | None] = {}
    limits: dict[str, str | None] = {}
    name: str | None = None
    resume: bool | None = None
    for key, text in given.items():
        if key.startswith("limits."):
            limits[key.removeprefix("limits.")] = text
        elif key in schema or key.startswith("params."):
            params[key.removeprefix("params.")] = text
        elif key in limits_schema:
            limits[key] = text
        elif key == "name":
            name = text
        elif key == "resume_after_restart":
            resume = text.lower() in ("true", "yes", "on", "1")
            if not resume and text.lower() not in ("false", "no", "off", "0"):
                raise BadInput(key, f"{text!r} is not true or false")
        else:
            allowed = ", ".join([*schema, *limits_schema, "name", "resume_after_restart"])
            raise BadInput(key, f"unknown for {_full_name(one)}; allowed: {allowed}")
    wrong: list[BadInput] = []
    new_params = _all_of(wrong, lambda: values(params, schema, flags=False, where=_full_name(one)))
    new_limits = _all_of(wrong, lambda: values(limits, limits_schema, flags=False, where="limits"))
    raise_all(wrong)
    changed = ctx.desk.change(
        view.id,
        params=new_params or None,
        limits=new_limits or None,
        name=name,
        resume_after_restart=resume,
        reason=parsed.get("--reason"),
        by=BY,
    )
    if ctx.is_json:
        ctx.document(worker=changed)
        return OK
    for key, new in {**new_params, **{f"limits.{k}": v for k, v in new_limits.items()}}.items():
        old = view.limits.get(key[7:]) if key.startswith("limits.") else view.params.get(key)
        ctx.out.line(f"{tables.named(changed)}: {key} {shortest(old)} -> {shortest(new)}")
    late = [k for k in new_params if not schema[k].is_live and tables.is_active(view)]
    if late:
        ctx.out.line(f"takes effect at the next start: {', '.join(late)}")
    ctx.out.line(f"version {changed.params_version}")
    return OK


def kill(ctx: Context, parsed: Parsed) -> int:
    receipt = ctx.desk.kill(reason=parsed.get("--reason", "killed from the terminal"), by=BY)
    if ctx.is_json:
        ctx.document(receipt=receipt)
    else:
        ctx.out.line(tables.receipt_text(receipt, ctx.ink))
        ctx.out.line("nothing new is sent until `release`")
    return _doubt(receipt.unknown, receipt.remaining, receipt.confirmed)


def release(ctx: Context, parsed: Parsed) -> int:
    typed = parsed.get("--confirm")
    if not typed and ctx.can_ask:
        ctx.desk.view()  # nobody should type it to a desk that is not there
        typed = ctx.ask("type RELEASE to let workers be started again: ").strip()
        if typed != "RELEASE":
            raise BadInput("release", "not confirmed; nothing was changed")
    if typed != "RELEASE":
        raise BadInput("--confirm", "the latch opens only with --confirm RELEASE")
    view = ctx.desk.release(by=BY)
    if ctx.is_json:
        ctx.document(desk=view)
    else:
        ctx.out.line("released; workers stay stopped until each is started")
    return OK


# ----------------------------------------------------------------------------------------- shared parts


def _fleet(ctx: Context, workers: Sequence[WorkerView]) -> None:
    if workers:
        ctx.out.lines(tables.fleet(workers, ctx.ink, cells=ctx.cells))
    else:
        ctx.out.line("no workers yet; make one: create --symbol BTC-USDT --spread 0.05")


def _full_name(one: Mapping[str, Any]) -> str:
    return f"{one.get('kind')}/{one.get('name')}"


def _strategy(found: Sequence[Mapping[str, Any]], text: str) -> Any:
    """By `kind/name`, or by name where only one kind has it; upper and lower case are the same. Raises
    BadInput.
    """
    kind, slash, name = text.rpartition("/")
    fits = [
        s
        for s in found
        if str(s["name"]).lower() == name.lower() and (not slash or str(s["kind"]).lower() == kind.lower())
    ]
    if len(fits) == 1:
        return fits[0]
    allowed = ", ".join(_full_name(s) for s in (fits or found)) or "none"
    problem = "is of several kinds" if fits else "is not a strategy here"
    raise BadInput("KIND/STRATEGY", f"{text!r} {problem}; allowed: {allowed}")


def _instrument(ctx: Context, text: str) -> str:
    """The id of a market from its symbol, in whatever spelling, or `venue:symbol`. Raises NotFound,
    BadInput.
    """
    if ":" in text:
        return text
    known = dict.fromkeys(
        [f.instrument for f in ctx.desk.feeds().feeds] + [w.instrument for w in ctx.desk.workers()]
    )
    fits = [i for i in known if _bare(i.partition(":")[2]) == _bare(text)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise BadInput("SYMBOL", f"{text!r} is at several venues; say which: {', '.join(fits)}")
    raise NotFound(f"no book of {text!r}; there {'are: ' + ', '.join(known) if known else 'is none yet'}")


def _bare(symbol: str) -> str:
    return "".join(char for char in symbol.upper() if char.isalnum())


def _all_of(wrong: list[BadInput], check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The checked values; mistakes are gathered in `wrong`, so that a person sees them all at once."""
    try:
        return check()
    except BadInput as error:
        wrong.append(error)
    except BadInputs as several:
        wrong += several.errors
    return {}


def _symbols(ctx: Context, venue: str) -> list[str]:
    for one in ctx.desk.venues():
        if one.get("name") == venue:
            return [clean(str(s)) for s in one.get("symbols", ())][:12]
    return []


def _ask(ctx: Context, prompt: str, check: Callable[[str], Any]) -> Any:
    """Ask until the answer fits; an empty one, three wrong ones or Ctrl-D give up. Raises BadInput."""
    for _ in range(3):
        text = ctx.ask(prompt).strip()
        if not text:
            break
        try:
            return check(text)
        except BadInput as error:
            ctx.warn(str(error), "red")
    raise BadInput("create", "given up; nothing was created")


def _ask_entry(ctx: Context, entry: Entry) -> Any:
    unit = f", {entry.unit}" if entry.unit else ""
    if entry.is_required:
        return _ask(ctx, f"{entry.title}{unit} ({entry.range_text}): ", lambda text: value(entry, text))
    for _ in range(3):
        text = ctx.ask(f"{entry.title}{unit} ({entry.range_text}) [{entry.default_text}]: ").strip()
        if not text:
            return entry.default
        try:
            return value(entry, text)
        except BadInput as error:
            ctx.warn(str(error), "red")
    raise BadInput("create", "given up; nothing was created")


def _each(
    ctx: Context,
    wanted: Sequence[str],
    workers: Sequence[WorkerView],
    act: Callable[[WorkerView], WorkerView],
    done: str,
) -> int:
    """Do it to each; one that fails never keeps the others from being stopped. The gravest outcome is the
    exit code.
    """
    codes: list[int] = []
    seen: list[WorkerView] = []
    failed: list[dict[str, Any]] = []
    for text in dict.fromkeys(wanted):
        try:
            view = act(find(workers, text))
        except (NotFound, BadInput, Conflict, DeskSilent, DeskUnreachable) as error:
            codes.append(_code(error))
            failed.append({"id": text, "exit_code": codes[-1], "message": str(error)})
            ctx.warn(f"{text}: {error}", "red")
            continue
        seen.append(view)
        receipt = view.receipt
        if receipt is None:
            codes.append(OK)
        elif done == "stopped":
            codes.append(_doubt(receipt.unknown, receipt.remaining, receipt.confirmed))
        else:  # a pause keeps what reduces risk: orders may remain
            codes.append(IN_DOUBT if receipt.unknown else OK)
        if not ctx.is_json:
            told = f": {tables.receipt_text(receipt, ctx.ink)}" if receipt is not None else ""
            ctx.out.line(f"{tables.named(view)} {clean(view.state)}{told}")
    if ctx.is_json:
        ctx.document(workers=seen, failed=failed)
    return worst(codes)


def _code(error: Exception) -> int:
    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, Conflict):
        return CONFLICT
    if isinstance(error, DeskUnreachable):
        return UNREACHABLE
    return UNKNOWN if isinstance(error, DeskSilent) else 2


def _doubt(unknown: int, remaining: int, confirmed: bool) -> int:
    return IN_DOUBT if unknown or remaining or not confirmed else OK


def _start(ctx: Context, wanted: Sequence[WorkerView], every_s: float = ROUND_S) -> int:
    """Arm each. In a desk of our own that ends with this command, stay with it until they end or a person
    leaves.
    """
    stays = ctx.is_own and not ctx.in_shell
    if stays and ctx.is_json:
        raise Conflict(
            "no desk runs on this data directory, and one of this command's own would end with it: "
            "start one (run.py), or leave --json away"
        )
    started: list[WorkerView] = []
    for view in wanted:
        started.append(ctx.desk.start(view.id, by=BY))
        if not ctx.is_json:
            limits = "  ".join(f"{clean(k)}={shortest(v)}" for k, v in started[-1].limits.items())
            ctx.out.line(f"{tables.named(view)} {clean(started[-1].state)}; limits {limits or 'none'}")
    if ctx.is_json:
        ctx.document(workers=started)
    if stays:
        return _stay(ctx, [view.id for view in started], every_s)
    return OK


def _stay(ctx: Context, ids: Sequence[str], every_s: float) -> int:
    """Keep the own desk alive while these workers are active: the live view with a terminal, a block of text
    every `every_s` seconds without.
    """
    ctx.err.line(
        "no desk was running: this one lives here and ends with this command; Ctrl-C stops its workers"
    )
    if ctx.is_tty:
        from cli.live import LiveView

        return OK if LiveView(ctx, ids[0]).run() else INTERRUPTED
    from cli.direct import RoundPrinter

    rounds = RoundPrinter(ctx.out.stream, False)
    seen: dict[str, frozenset[_FillKey]] = {}
    for worker_id in ids:
        _, seen[worker_id] = _fresh(ctx, worker_id, frozenset())  # what earlier runs filled is no news
    never = threading.Event()  # a wait that Ctrl-C interrupts
    active, began_ns, code = list(ids), ctx.now_ns(), OK
    try:
        while active and not ctx.out.is_closed:
            never.wait(every_s)
            for worker_id in list(active):
                view = ctx.desk.worker(worker_id)
                fresh, seen[worker_id] = _fresh(ctx, worker_id, seen[worker_id])
                rounds.round(view, ctx.desk.orders(worker_id), fresh, ctx.now_ns())
                if not tables.is_active(view):
                    active.remove(worker_id)
    except KeyboardInterrupt:
        code = INTERRUPTED
    views = [ctx.desk.stop(worker_id, by=BY) for worker_id in ids]
    ctx.out.line(rounds.report(views, (ctx.now_ns() - began_ns) / 1e9))
    receipts = [view.receipt for view in views if view.receipt is not None]
    doubts = [_doubt(receipt.unknown, receipt.remaining, receipt.confirmed) for receipt in receipts]
    return IN_DOUBT if IN_DOUBT in doubts else code


_FillKey = tuple[str, str, str, str]


def _fresh(
    ctx: Context, worker_id: str, seen: frozenset[_FillKey]
) -> tuple[tuple[FillView, ...], frozenset[_FillKey]]:
    """Fills of a worker that are not in `seen`, oldest first, and what is seen now. By identity, not by time:
    a tape's fills carry the time of the tape, and a late one may be older than the last.
    """
    found = ctx.desk.fills(worker_id=worker_id, limit=FILLS_A_ROUND).fills
    keyed = {(f.venue, f.account, f.symbol, f.trade_id): f for f in reversed(found)}
    return tuple(fill for key, fill in keyed.items() if key not in seen), frozenset(keyed)


_LIMIT = Flag("--limit", "N", "how many, newest first (20; at most 1000)")
_EVERY = Flag("--every", "SECONDS", "how often a desk of its own says what it does, without a terminal (5)")
_REASON = Flag("--reason", "TEXT", "why, for the record")

COMMANDS: dict[str, Command] = {
    c.usage.name: c
    for c in (
        Command(Usage("status", "", "the desk, its health, its workers and the newest notices"), status),
        Command(Usage("list", "", "the workers"), list_workers),
        Command(Usage("show", "ID", "everything about a worker, with the why of each side", 1, 1), show),
        Command(Usage("orders", "ID", "live orders of a worker", 1, 1), orders),
        Command(Usage("fills", "[ID]", "the newest fills, of all workers or of one", 0, 1, (_LIMIT,)), fills),
        Command(Usage("feeds", "", "market data: state, age, gaps"), feeds),
        Command(
            Usage(
                "book",
                "SYMBOL",
                "the book with own orders in place",
                1,
                1,
                (Flag("--rows", "N", "rows a side (10)"),),
            ),
            book,
        ),
        Command(
            Usage(
                "strategies", "[NAME]", "what can be created; with a name its flags, units and ranges", 0, 1
            ),
            strategies,
        ),
        Command(
            Usage(
                "create",
                f"[KIND/STRATEGY] (default {DEFAULT_STRATEGY})",
                "make a worker; every parameter of the strategy is a flag (see `strategies NAME`)",
                0,
                1,
                (
                    Flag("--symbol", "SYMBOL", "market, for example BTC-USDT"),
                    Flag("--venue", "NAME", "where (paper); --exchange is the same"),
                    Flag("--exchange", "NAME", ""),
                    Flag("--name", "TEXT", "what to call it"),
                    Flag("--account", "NAME", "account at the venue (main)"),
                    Flag("--env", "NAME", "paper, testnet or live (paper)"),
                    Flag("--param", "NAME=VALUE", "a parameter, for names that clash with a flag", True),
                    Flag("--limit", "NAME=VALUE", "a risk limit; may repeat", True),
                    Flag("--resume-after-restart", "", "quote again by itself after a restart"),
                    Flag("--start", "", "and start it"),
                ),
                True,
            ),
            create,
        ),
        Command(Usage("start", "ID...", "let workers quote", 1, None, (_EVERY,)), start),
        Command(
            Usage("pause", "ID...", "cancel what adds risk, keep what reduces it, open nothing new", 1, None),
            pause,
        ),
        Command(
            Usage(
                "stop",
                "ID... | --all",
                "cancel, wait for the venue to confirm, and say what happened",
                0,
                None,
                (Flag("--all", "", "every worker that is not stopped"),),
            ),
            stop,
        ),
        Command(
            Usage(
                "set",
                "ID NAME=VALUE...",
                "change parameters or limits (limits.max_position=0.1), also while it runs",
                2,
                None,
                (_REASON,),
            ),
            change,
        ),
        Command(Usage("delete", "ID", "remove a stopped worker; its fills stay", 1, 1), delete),
        Command(
            Usage(
                "kill", "", "cancel everything everywhere, and send nothing until `release`", 0, 0, (_REASON,)
            ),
            kill,
        ),
        Command(
            Usage(
                "release",
                "",
                "undo the kill",
                0,
                0,
                (Flag("--confirm", "RELEASE", "the word, where nobody can be asked"),),
            ),
            release,
        ),
        Command(keys.USAGE, keys.run),
        Command(Usage("live", "[ID]", "a live view; q leaves it", 0, 1), live),
        Command(
            Usage(
                "watch",
                "",
                "changes as JSON lines",
                0,
                0,
                (
                    Flag(
                        "--topic",
                        "PREFIX",
                        "only these topics; may repeat (all but book/, trades/ and series/)",
                        True,
                    ),
                    Flag("--for", "SECONDS", "end after so long (never)"),
                ),
            ),
            watch,
        ),
    )
}
