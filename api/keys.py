"""The key store: the only place that reads a secret of a venue.

Hides: where a key is kept (an encrypted file in the data directory, the keyring of the operating system, or
the environment; the first that has it wins, in this order), how the file is encrypted, what a key of each
venue consists of and what its parts look like. Must not know: how a venue signs (`api.signing` and the
venue's folder do), how a person is asked. Called by `run.py` (which decides where the file lives), by the
terminal's `keys` commands and by whoever opens an account.

A secret travels as a `Hidden`, which shows and pickles nothing. It leaves through `KeyMaterial.build` alone,
into a factory that makes an object that signs. No function that fails holds a secret as plain text at that
moment, so neither a message nor the locals of a traceback carry one: a part is judged in a function that
returns a verdict, and the refusal is raised outside of it.

The file `keys.enc`, version 1, is JSON with mode 0600, replaced as a whole: what stands where (venue,
environment, account, kind, when, fingerprint) is readable, each field is AES-256-GCM under a key that scrypt
makes of the passphrase, bound to its place through the associated data, and a seal over all the rest shows
any change. A wrong passphrase and a changed file give the same answer. What this does and does not protect
from: docs/keys.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from api.errors import BadInput, Conflict, NotFound
from api.keys_elsewhere import ENVIRONMENT, PASSPHRASE_VARIABLE, VARIABLES, Environment, Keyring, Names
from api.keys_file import Cost, KeyFile
from api.keys_forms import (
    KEYS,
    MAIN,
    Backend,
    Field,
    Hidden,
    KeyEntry,
    KeyRef,
    KeysLocked,
    Kind,
    VenueKeys,
    WithPassphrase,
    already,
    check,
    fingerprint,
    holder,
    key_ref,
    kind_for,
    kind_of,
    made,
)

__all__ = [
    "ENVIRONMENT",
    "KEYS",
    "MAIN",
    "PASSPHRASE_VARIABLE",
    "VARIABLES",
    "AskPassphrase",
    "Backend",
    "Cost",
    "Field",
    "Finding",
    "Hidden",
    "KeyEntry",
    "KeyMaterial",
    "KeyRef",
    "KeyStore",
    "KeysLocked",
    "Kind",
    "Names",
    "Probe",
    "VenueKeys",
    "WithPassphrase",
    "check",
    "holder",
    "key_ref",
    "kind_for",
    "kind_of",
]

T = TypeVar("T")

PASSPHRASE_LEAST = 12  # characters; scrypt slows guessing down, it does not make a short one long


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a venue told about a key: its rights, its account. `advice`: what a person should do."""

    state: Literal["pass", "warn", "fail"]
    text: str
    advice: str = ""


class KeyMaterial:
    """One key, read. `build` is the only way to its fields."""

    __slots__ = ("_fields", "_kind", "backend", "fingerprint", "note", "ref")

    def __init__(
        self, ref: KeyRef, kind: Kind, fields: Mapping[str, Hidden], backend: Backend, note: str
    ) -> None:
        self.ref = ref
        self.backend: Backend = backend
        self.note = note
        self.fingerprint = fingerprint(ref, fields)
        self._kind = kind
        self._fields = dict(fields)

    @property
    def kind(self) -> str:
        return self._kind.name

    def build(self, factory: Callable[[Mapping[str, str]], T] | None = None) -> T:
        """An object that signs, made of the plain fields by `factory`, by default the kind's own.

        The factory must keep nothing in the open. Its BadInput is passed on without what led to it.

        Raises:
            BadInput: the factory refuses the fields.
            Conflict: this kind has no factory of its own.
        """
        make: Callable[[Mapping[str, str]], Any] | None = factory or self._kind.make
        if make is None:
            raise Conflict(f"nothing here can sign with a key of {self.ref.venue} ({self.kind}) yet")
        built, wrong = made(make, self._fields)
        if wrong is not None:
            raise BadInput(wrong[0], wrong[1])
        return built  # type: ignore[no-any-return]

    def check(self) -> None:
        """Raises BadInput when a field has not the form it must have, as `check` does."""
        check(self._kind, self._fields)

    def __repr__(self) -> str:
        return f"KeyMaterial({self.ref}, {self.kind}, {self.backend}, {self.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled or copied")


# asks a venue about a key: is it valid, may it trade, may it withdraw. Raises ExchangeError
Probe = Callable[[KeyMaterial], Sequence[Finding]]
# asks a person for the passphrase; True: there is no file yet, so it is a new one (ask twice)
AskPassphrase = Callable[[bool], Hidden]


class KeyStore:
    """All keys of one data directory.

    Args:
        data_dir: where `keys.enc` is or will be; made when the first key is added.
        environ: variables of `VARIABLES` are read from it, nothing else.
        now_ns: UTC nanoseconds, for when a key was added.
        ask: asked when the file must be opened and the passphrase is not in the environment: once, unless
            somebody changes the passphrase of the file meanwhile.
        cost: of a file that is made now; a file that exists says its own.
        keyring: the module `keyring` or one like it; imported when it is installed and None is given.
    """

    def __init__(
        self,
        data_dir: Path,
        environ: Mapping[str, str],
        *,
        now_ns: Callable[[], int],
        ask: AskPassphrase | None = None,
        cost: Cost | None = None,
        keyring: Any = None,
    ) -> None:
        self._file = KeyFile(data_dir, cost or Cost())
        self._environment = Environment(environ)
        self._keyring = Keyring(keyring)
        self._now_ns = now_ns
        self._ask = ask

    @property
    def path(self) -> Path:
        return self._file.path

    def get(self, venue: str, env: str, account: str = MAIN) -> KeyMaterial:
        """The key of an account, from the first backend that has it.

        Raises:
            BadInput: no such venue, environment or account name; a wrong passphrase; a key in the environment
                that has the wrong form.
            NotFound: no backend has it; says how to add it.
            KeysLocked: it is in the file, and the passphrase is not to be had.
            Conflict: the file cannot be used.
        """
        ref = key_ref(venue, env, account)
        found = self._file.find(ref)
        if found is not None:
            self._unlock()
            fields = self._file.read(ref)
            return KeyMaterial(ref, kind_of(ref.venue, found.kind), fields, "file", "")
        kept = self._keyring.read(ref)
        if kept is not None:
            return KeyMaterial(ref, kind_of(ref.venue, kept.kind), kept.hidden(), "keyring", "")
        names = self._environment.find(ref)
        if names is not None:
            kind, fields = self._environment.read(names)
            return KeyMaterial(ref, kind, fields, "environment", names.note)
        raise NotFound(
            f"there is no key for {ref}; add one: run.py --cli keys add {ref.venue} --env {ref.env}"
            + ("" if ref.account == MAIN else f" --account {ref.account}")
        )

    def entries(self) -> tuple[KeyEntry, ...]:
        """Every key of every backend, sorted; needs no passphrase.

        Raises Conflict when the file cannot be used.
        """
        seen: set[KeyRef] = set()
        found: list[KeyEntry] = []
        for entry in (*self._file.entries(), *self._keyring.entries(), *self._environment.entries()):
            found.append(dataclasses.replace(entry, is_used=entry.ref not in seen))
            seen.add(entry.ref)
        return tuple(sorted(found, key=lambda e: (e.venue, e.env, e.account, not e.is_used)))

    def find(self, ref: KeyRef) -> tuple[KeyEntry, ...]:
        """What each backend has under this name, the one in use first."""
        return tuple(e for e in self.entries() if e.ref == ref)

    def add(
        self,
        ref: KeyRef,
        kind: Kind,
        fields: Mapping[str, Hidden],
        *,
        backend: Backend = "file",
        replace: bool = False,
    ) -> KeyEntry:
        """Check a key and keep it.

        Args:
            replace: a key that this backend has under the name is overwritten.

        Raises:
            BadInput: a field of the wrong form; a wrong passphrase, or a new one that is too short.
            Conflict: there is a key already and `replace` is not set; the backend cannot be written.
            KeysLocked: the passphrase is not to be had.
        """
        tidy = check(kind, fields)
        if backend == "environment":
            raise BadInput("backend", "the environment cannot be written; allowed: file, keyring")
        home = self._file if backend == "file" else self._keyring
        if not replace and home.find(ref) is not None:
            raise already(ref, backend)
        mark, added_ns = fingerprint(ref, tidy), self._now_ns()
        if backend == "file":
            self._unlock()
        home.write(ref, kind.name, tidy, added_ns, mark, replace=replace)
        return next(entry for entry in self.find(ref) if entry.backend == backend)

    def remove(self, ref: KeyRef, backend: Backend) -> None:
        """Forget a key.

        Raises:
            NotFound: this backend has no such key.
            Conflict: it stands in the environment, which only its owner can change.
            KeysLocked, BadInput: as `add`.
        """
        if backend == "environment":
            names = self._environment.find(ref)
            told = ", ".join(v for _, v in names.fields) if names else "its variables"
            raise Conflict(f"this key stands in the environment; unset {told} where they are set")
        home = self._file if backend == "file" else self._keyring
        if home.find(ref) is None:
            raise NotFound(f"there is no key for {ref} in the {backend}")
        if backend == "file":
            self._unlock()
        home.delete(ref)

    def change_passphrase(self, new: Hidden) -> int:
        """Encrypt every key of the file anew, under a new passphrase and salt. How many keys that were.

        Raises:
            NotFound: there is no file.
            BadInput: the old passphrase is wrong, the new one too short.
        """
        if not self._file.is_there:
            raise NotFound("there is no key file yet; it is made with the first key")
        _check_new(new)
        self._unlock()
        return self._file.rewrap(new)

    def unlock(self) -> None:
        """Ask for the passphrase now, so that nobody has to be asked later. Nothing where there is no file.

        Raises as `get`.
        """
        if self._file.is_there:
            self._unlock()

    def _unlock(self) -> None:
        if self._file.is_unlocked:
            return
        is_new = not self._file.is_there
        given, source = self._environment.passphrase(), PASSPHRASE_VARIABLE
        if given is None:
            source = "passphrase"
            if self._ask is None:
                raise KeysLocked(
                    f"the key file needs its passphrase: set {PASSPHRASE_VARIABLE}, or use a terminal"
                )
            given = self._ask(is_new)
        if is_new:
            _check_new(given, source)
        self._file.unlock(given, source)


def _check_new(passphrase: Hidden, source: str = "passphrase") -> None:
    if len(passphrase.reveal()) < PASSPHRASE_LEAST:
        raise BadInput(source, f"too short for a new key file; at least {PASSPHRASE_LEAST} characters")
