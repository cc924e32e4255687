"""`keys`: add, list, test and remove the keys of venues, without a desk.

Hides: how a person hands a secret over (a prompt that does not show it, a PEM file, standard input), and what
is asked before something is overwritten. Must not know: where and how keys are kept (`api.keys`), what a
venue's answers mean (the probes that `run.py` hands in). Called by `cli.commands` through its table.

No word of a refusal repeats what was typed, since it may be a secret that went astray.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from api.errors import BadInput, Conflict, NotFound
from api.keys import (
    KEYS,
    MAIN,
    PASSPHRASE_VARIABLE,
    AskPassphrase,
    Backend,
    Finding,
    Hidden,
    KeyEntry,
    KeyRef,
    KeyStore,
    Kind,
    Probe,
    check,
    holder,
    key_ref,
    kind_for,
    kind_of,
)
from cli.flags import Flag, Parsed, Usage
from cli.session import CONFLICT, OK, Context
from cli.text import DASH, Cell, Column, clean, stamp, table

INPUT_CHARS_MAX = 65_536
_FINDING_STYLES = {"pass": "green", "warn": "yellow", "fail": "red"}

USAGE = Usage(
    "keys",
    "list [VENUE] | add VENUE | test VENUE | remove VENUE | passphrase",
    "keys of venues; secrets come from a hidden prompt, a PEM file or standard input",
    0,
    None,
    (
        Flag("--env", "NAME", "testnet or live; a new key: testnet where the venue has one"),
        Flag("--account", "NAME", "of several accounts at one venue (main)"),
        Flag("--kind", "NAME", "of several kinds of key a venue has, for example ed25519 or v1"),
        Flag("--pem", "PATH", "file of the private key, for Ed25519 and RSA"),
        Flag("--stdin", "", 'the fields as JSON on standard input: {"api_key": "...", "secret": "..."}'),
        Flag("--backend", "NAME", "file (encrypted, the default) or keyring (of the operating system)"),
        Flag("--offline", "", "test: look at the form only, do not ask the venue"),
        Flag("--confirm", "VENUE", "overwrite or remove, where nobody can be asked"),
    ),
)


def ask_hidden(prompt: str) -> Hidden:
    """A line that is not shown while it is typed. Raises Conflict where the terminal cannot do that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return Hidden(getpass.getpass(prompt))
        except EOFError:
            return Hidden("")
        except getpass.GetPassWarning:
            pass
    raise Conflict("this terminal cannot hide what is typed; use --stdin from a file or a pipe")


def read_input() -> Hidden | None:
    """Standard input to its end; None when it is a terminal, which would show what is typed."""
    if sys.stdin.isatty():
        return None
    try:
        return Hidden(sys.stdin.read(INPUT_CHARS_MAX + 1))
    except ValueError:  # not text; the exception carries what was read
        return Hidden("")


@dataclass(frozen=True, slots=True)
class KeyTools:
    """What `run.py` hands in.

    store: opens the key store; its argument asks a person for the passphrase, None: nobody is there.
    probes: asks a venue about a key, by the venue's name in `api.keys.KEYS`.
    """

    store: Callable[[AskPassphrase | None], KeyStore]
    probes: Mapping[str, Probe] = field(default_factory=dict)
    ask_hidden: Callable[[str], Hidden] = ask_hidden
    read_input: Callable[[], Hidden | None] = read_input


def run(ctx: Context, parsed: Parsed) -> int:
    """One of the actions, by its first word."""
    if ctx.keys is None:
        raise Conflict("no key store was handed to this terminal")
    actions: dict[str, tuple[Callable[[_Keys], int], int, int, str]] = {
        "list": (_list, 0, 1, "list [VENUE]"),
        "add": (_add, 1, 1, "add VENUE [--env NAME] [--account NAME] [--kind NAME] [--pem PATH] [--stdin]"),
        "test": (_test, 1, 1, "test VENUE [--env NAME] [--account NAME] [--offline]"),
        "remove": (_remove, 1, 1, "remove VENUE [--env NAME] [--account NAME] [--backend NAME]"),
        "passphrase": (_passphrase, 0, 0, "passphrase"),
    }
    name, words = (parsed.args[0] if parsed.args else ""), parsed.args[1:]
    if name not in actions:
        raise BadInput("keys", f"needs {USAGE.args}")
    act, least, most, shape = actions[name]
    if not least <= len(words) <= most:
        astray = "; if a secret stood there it is in the shell's history now: revoke it" if words else ""
        raise BadInput("keys", f"expects: keys {shape}; a secret is never a word of the command{astray}")
    store = ctx.keys.store(_asker(ctx, ctx.keys))
    return act(_Keys(ctx, parsed, ctx.keys, store, words[0] if words else ""))


@dataclass(slots=True)
class _Keys:
    """One command under way."""

    ctx: Context
    parsed: Parsed
    tools: KeyTools
    store: KeyStore
    word: str

    @property
    def backend(self) -> Backend | None:
        given = self.parsed.get("--backend")
        if given in ("", "file", "keyring", "environment"):
            return given or None  # type: ignore[return-value]
        raise BadInput("--backend", "allowed: file, keyring")


# ------------------------------------------------------------------------------------------------- actions


def _list(keys: _Keys) -> int:
    ctx = keys.ctx
    venue = holder(keys.word) if keys.word else ""
    found = [entry for entry in keys.store.entries() if venue in ("", entry.venue)]
    if ctx.is_json:
        ctx.document(keys=found)
        return OK
    if not found:
        ctx.out.line(f"no keys{f' of {venue}' if venue else ''}; add one: keys add {venue or 'VENUE'}")
        return OK
    columns = ("VENUE", "ENV", "ACCOUNT", "KIND", "KEPT IN", "ADDED (UTC)", "FINGERPRINT", "USED")
    rows = [
        [
            *(clean(e.venue), clean(e.env), clean(e.account), clean(e.kind)),
            *(e.backend, stamp(e.added_ns), clean(e.fingerprint) or DASH),
            Cell("no: see below", "red") if e.problem else "yes" if e.is_used else "no: shadowed",
        ]
        for e in found
    ]
    ctx.out.lines(table([Column(title) for title in columns], rows, ctx.ink, cells=None))
    for entry in found:
        _note(ctx, entry)
    return OK


def _add(keys: _Keys) -> int:
    ctx, parsed, store = keys.ctx, keys.parsed, keys.store
    venue = holder(keys.word)
    ref = key_ref(venue, parsed.get("--env") or KEYS[venue].envs[0], parsed.get("--account", MAIN))
    backend = keys.backend or "file"
    is_there = any(entry.backend == backend for entry in store.find(ref))
    if is_there:
        _confirm(keys, ref.venue, f"there is a key for {ref} already; type {ref.venue} to replace it: ")
    kind, fields = _gathered(keys, ref)
    check(kind, fields)  # before anybody is asked for a passphrase
    entry = store.add(ref, kind, fields, backend=backend, replace=is_there)
    if ctx.is_json:
        ctx.document(key=entry, replaced=is_there)
        return OK
    place = str(store.path) if backend == "file" else "the operating system's keyring"
    verb = "replaced" if is_there else "added"
    ctx.out.line(f"{verb} {ref} ({entry.kind}, fingerprint {entry.fingerprint}) in {place}")
    shadowing = [e for e in store.find(ref) if e.backend != backend]
    for other in shadowing:
        ctx.warn(f"the {other.backend} has a key for {ref} too; used: {store.find(ref)[0].backend}", "yellow")
    if parsed.get("--pem"):
        ctx.out.line("the PEM file is not read again; keep it away from this machine, or remove it")
    ctx.out.line(f"next: keys test {_words(ref)}")
    return OK


def _test(keys: _Keys) -> int:
    ctx = keys.ctx
    entry = _chosen(keys, None)
    material = keys.store.get(entry.venue, entry.env, entry.account)
    material.check()
    findings = [Finding("pass", "every field has its form, and they belong together")]
    is_unasked = False
    if "--offline" not in keys.parsed.on:
        probe = keys.tools.probes.get(entry.venue)
        if probe is not None:
            findings += probe(material)
        else:
            is_unasked = True
            findings.append(
                Finding(
                    "warn",
                    f"{entry.venue} was not asked: not available yet",
                    "--offline tests the form alone",
                )
            )
    if ctx.is_json:
        ctx.document(key=entry, findings=findings)
    else:
        ctx.out.line(f"{entry.ref} from the {entry.backend} ({entry.kind}, fingerprint {entry.fingerprint})")
        _note(ctx, entry)
        for f in findings:
            advice = f"  ({clean(f.advice)})" if f.advice else ""
            ctx.out.line(f"  {ctx.ink(f.state, _FINDING_STYLES[f.state])}  {clean(f.text)}{advice}")
    return CONFLICT if is_unasked or any(f.state == "fail" for f in findings) else OK


def _remove(keys: _Keys) -> int:
    ctx, store = keys.ctx, keys.store
    entry = _chosen(keys, keys.backend)
    if entry.backend != "environment":  # that one is refused with how to do it
        _confirm(keys, entry.venue, f"type {entry.venue} to remove the key for {entry.ref}: ")
    store.remove(entry.ref, entry.backend)
    left = store.find(entry.ref)
    if ctx.is_json:
        ctx.document(removed=entry, left=left)
        return OK
    ctx.out.line(f"removed {entry.ref} from the {entry.backend}; revoke it at the venue if it is not used")
    for other in left:
        ctx.warn(f"the {other.backend} still has a key for {entry.ref}", "yellow")
    return OK


def _passphrase(keys: _Keys) -> int:
    ctx = keys.ctx
    if not ctx.can_ask:
        raise Conflict("changing the passphrase needs a terminal; nothing was changed")
    if not keys.store.path.exists():
        raise NotFound("there is no key file yet; it is made with the first key")
    keys.store.unlock()
    count = keys.store.change_passphrase(_new_passphrase(keys.tools))
    ctx.out.line(f"{count} key{'s' if count != 1 else ''} encrypted anew; older backups keep the old one")
    ctx.out.line(f"where {PASSPHRASE_VARIABLE} is set, change it there too")
    return OK


# -------------------------------------------------------------------------------------------------- parts


def _gathered(keys: _Keys, ref: KeyRef) -> tuple[Kind, dict[str, Hidden]]:
    """The fields of a new key from where they are given, and the kind they make."""
    ctx, parsed, tools = keys.ctx, keys.parsed, keys.tools
    named = parsed.get("--kind")
    kinds = (kind_of(ref.venue, named),) if named else KEYS[ref.venue].kinds
    fields: dict[str, Hidden] = {}
    path = parsed.get("--pem")
    if path:
        kinds = tuple(kind for kind in kinds if any(f.is_pem for f in kind.fields))
        if not kinds:
            raise BadInput("--pem", f"this kind of key of {ref.venue} has no PEM")
        fields["private_key"] = _read_pem(ctx, path)
    if "--stdin" in parsed.on:
        given = _fields_in(tools.read_input())
        if given is None:
            raise BadInput(
                "--stdin",
                "a JSON object of texts is needed in a file or a pipe, like "
                '{"api_key": "...", "secret": "..."}',
            )
        fields = {**given, **fields}
    elif ctx.can_ask:
        _prompt(keys, ref, kinds[0], fields)
    elif not fields:
        raise BadInput("keys add", "without a terminal it needs --stdin, a JSON object of the fields")
    return (kinds[0] if named else kind_for(ref.venue, fields)), fields


def _prompt(keys: _Keys, ref: KeyRef, kind: Kind, fields: dict[str, Hidden]) -> None:
    """Ask for what is missing; nothing typed is shown, but the path of a PEM file."""
    ctx, tools = keys.ctx, keys.tools
    ctx.out.line(f"a key of kind {kind.name} for {ref}; what you type or paste is not shown")
    for one in kind.fields:
        if one.name in fields:
            continue
        if one.is_pem:
            fields[one.name] = _read_pem(ctx, ctx.ask("path of the private key's PEM file: ").strip())
        else:
            blank = ", or nothing" if one.is_optional else ""
            fields[one.name] = tools.ask_hidden(f"{one.name} ({one.allowed}{blank}): ")
    if any(f.is_pem and "ENCRYPTED" in fields[f.name].reveal() for f in kind.fields):
        fields["pem_password"] = tools.ask_hidden("password of the PEM file: ")


def _read_pem(ctx: Context, path: str) -> Hidden:
    """The text of a file. The path is not repeated: people paste the key itself there."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = Hidden(file.read(INPUT_CHARS_MAX).decode("ascii", "replace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise BadInput("--pem", f"the file cannot be read ({reason})") from None
    if stat.S_IMODE(mode) & 0o077:
        ctx.warn("others on this machine can read the PEM file (chmod 600 it)", "yellow")
    return found


def _fields_in(text: Hidden | None) -> dict[str, Hidden] | None:
    """Texts by name from a JSON object; None when it is something else. Raises nothing."""
    if text is None or len(text.reveal()) > INPUT_CHARS_MAX:
        return None
    try:
        found = msgspec.json.decode(text.reveal(), type=dict[str, str])
    except (msgspec.MsgspecError, ValueError):
        return None
    return {name: Hidden(value) for name, value in found.items()}


def _chosen(keys: _Keys, backend: Backend | None) -> KeyEntry:
    """The one key that the words mean: of this venue, environment and account where they are given."""
    parsed, venue = keys.parsed, holder(keys.word)
    env, account = parsed.get("--env"), parsed.get("--account")
    ref = key_ref(venue, env or KEYS[venue].envs[0], account or MAIN)  # refuses what cannot be
    found = [
        e
        for e in keys.store.entries()
        if e.venue == venue
        and (not env or e.env == ref.env)
        and (not account or e.account == ref.account)
        and (e.backend == backend if backend else e.is_used)
    ]
    if not found:
        raise NotFound(f"there is no such key of {venue}; `keys list` shows what there is")
    if len(found) > 1:
        told = "; ".join(_words(e.ref) for e in found)
        raise BadInput("keys", f"there are several, say which with --env and --account: {told}")
    return found[0]


def _words(ref: KeyRef) -> str:
    account = "" if ref.account == MAIN else f" --account {clean(ref.account)}"
    return f"{clean(ref.venue)} --env {clean(ref.env)}{account}"


def _note(ctx: Context, entry: KeyEntry) -> None:
    for text in (entry.note, entry.problem):
        if text:
            ctx.warn(f"{entry.ref} ({entry.backend}): {text}", "yellow")


def _confirm(keys: _Keys, word: str, question: str) -> None:
    """Raises BadInput unless the word is given, by a flag or by a person."""
    given = keys.parsed.get("--confirm")
    if not given and keys.ctx.can_ask:
        if keys.ctx.ask(question).strip() == word:
            return
        raise BadInput("keys", "not confirmed; nothing was changed")
    if given != word:
        raise BadInput("--confirm", f"this needs --confirm {word}; nothing was changed")


def _asker(ctx: Context, tools: KeyTools) -> AskPassphrase | None:
    if not ctx.can_ask:
        return None

    def ask(is_new: bool) -> Hidden:
        if not is_new:
            return tools.ask_hidden("passphrase of the key file: ")
        ctx.out.line("there is no key file yet: choose its passphrase, which nobody can recover")
        return _new_passphrase(tools)

    return ask


def _new_passphrase(tools: KeyTools) -> Hidden:
    first = tools.ask_hidden("new passphrase of the key file (at least 12 characters): ")
    if first != tools.ask_hidden("the same again: "):
        raise BadInput("passphrase", "the two are not the same; nothing was changed")
    return first
