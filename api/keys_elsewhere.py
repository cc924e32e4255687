"""Keys that are kept outside of the encrypted file: in the environment, in the operating system's keyring.

Hides: the names of variables people use already, the package `keyring`. Must not know: the order in which
places are asked. Called by `api.keys`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from api.errors import BadInput, Conflict
from api.keys_forms import (
    KEYS,
    MAIN,
    Hidden,
    KeyEntry,
    KeyRef,
    Kind,
    fingerprint,
    kind_for,
    kind_of,
    problem,
    tidied,
)

PASSPHRASE_VARIABLE = "MAKERDECK_KEYS_PASSPHRASE"
KEYRING_SERVICE = "makerdeck"
_INDEX = "index"  # the keyring cannot list what it holds


@dataclass(frozen=True, slots=True)
class Names:
    """Variables that together are a key of the account `main`, under names people use already.

    `kinds`: which kind it can be; of several its PEM decides. `fields` are (field, variable). `note`: said
    whenever this key is used or listed; such a group counts only when all of it is set, since its names are
    not ours alone.
    """

    venue: str
    env: str
    kinds: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    note: str = ""

    @property
    def needed(self) -> frozenset[str]:
        """Fields without which it is no key."""
        return kind_of(self.venue, self.kinds[0]).needed


def _names(venue: str, env: str, kind: str, note: str = "", **fields: str) -> Names:
    return Names(venue, env, (kind,), tuple(fields.items()), note)


def _prefixed(venue: str, env: str, prefix: str) -> Iterator[Names]:
    """PREFIX_API_KEY and so on, by the names of the fields."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for kind in KEYS[venue].kinds:
        alike.setdefault(tuple(f.name for f in kind.fields), []).append(kind.name)
    for fields, kinds in alike.items():
        for spelling in ("SECRET", "SECRET_KEY", "API_SECRET") if "secret" in fields else ("",):
            said = ((name, spelling if name == "secret" else name.upper()) for name in fields)
            yield Names(venue, env, tuple(kinds), tuple((name, f"{prefix}_{word}") for name, word in said))


def _environment_names() -> Iterator[Names]:
    yield _names("backpack", "live", "ed25519", api_key="BACKPACK_KEY", secret="BACKPACK_SECRET")
    yield _names(
        "backpack",
        "live",
        "ed25519",
        "API_KEY and SECRET_KEY are taken for Backpack, as old .env files mean it; "
        "call them BACKPACK_KEY and BACKPACK_SECRET",
        api_key="API_KEY",
        secret="SECRET_KEY",
    )
    yield from _prefixed("aster", "live", "ASTER")
    yield from _prefixed("aster", "testnet", "ASTER_TESTNET")
    yield from _prefixed("paradex", "live", "PARADEX")
    yield from _prefixed("paradex", "testnet", "PARADEX_TESTNET")
    for word, env in (("TEST", "testnet"), ("PROD", "live")):
        key_id, pem = f"THALEX_{word}_API_KEY_ID", f"THALEX_{word}_PRIVATE_KEY"
        yield _names("thalex", env, "rsa", key_id=key_id, private_key=pem)
    yield _names(
        "thalex",
        "testnet",
        "rsa",
        "THALEX_KEY_ID and THALEX_PRIVATE_KEY say no network; they are taken for the testnet; "
        "call them THALEX_TEST_... or THALEX_PROD_...",
        key_id="THALEX_KEY_ID",
        private_key="THALEX_PRIVATE_KEY",
    )
    for env, infix in (("live", ""), ("testnet", "_TESTNET"), ("demo", "_DEMO")):
        yield from _prefixed("binance_spot", env, f"BINANCE{infix}")
        yield from _prefixed("binance_usdm", env, f"BINANCE_USDM{infix}")
    yield from _prefixed("binance_usdm", "live", "BINANCE")  # one key of the website serves both
    yield from _prefixed("okx", "live", "OKX")
    yield from _prefixed("okx", "testnet", "OKX_TESTNET")
    yield from _prefixed("okx", "testnet", "OKX_DEMO")
    yield from _prefixed("bifu", "live", "BIFU")


ENVIRONMENT: tuple[Names, ...] = tuple(_environment_names())
# every variable that may hold a part of a key; what hands an environment on leaves these out, or hands them
# over another way
VARIABLES = frozenset(variable for n in ENVIRONMENT for _, variable in n.fields) | {PASSPHRASE_VARIABLE}


class Environment:
    """Keys of the account `main` under the names of `ENVIRONMENT`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._values = {name: Hidden(environ[name]) for name in VARIABLES if environ.get(name)}

    def passphrase(self) -> Hidden | None:
        return self._values.get(PASSPHRASE_VARIABLE)

    def find(self, ref: KeyRef) -> Names | None:
        """The first group of which all is set, else the first of which any is."""
        if ref.account != MAIN:
            return None
        groups = [n for n in ENVIRONMENT if (n.venue, n.env) == (ref.venue, ref.env)]
        whole = next((n for n in groups if not self._missing(n)), None)
        return whole or next((n for n in groups if not n.note and self._is_begun(n)), None)

    def read(self, names: Names) -> tuple[Kind, dict[str, Hidden]]:
        """Raises BadInput that names the variable."""
        missing = self._missing(names)
        if missing:
            others = ", ".join(v for _, v in names.fields if v in self._values)
            raise BadInput(missing[0], f"is not set and belongs to {others}")
        given = {field: self._values[v] for field, v in names.fields if v in self._values}
        is_one = len(names.kinds) == 1
        kind = kind_of(names.venue, names.kinds[0]) if is_one else kind_for(names.venue, given)
        tidy = tidied(kind, given)
        wrong = problem(kind, tidy)
        if wrong is not None:
            raise BadInput(dict(names.fields).get(wrong[0], wrong[0]), wrong[1])
        return kind, tidy

    def entries(self) -> Iterator[KeyEntry]:
        for ref in sorted({KeyRef(n.venue, n.env) for n in ENVIRONMENT}):
            names = self.find(ref)
            if names is None:
                continue
            kind, wrong, mark = " or ".join(names.kinds), "", ""
            try:
                found, fields = self.read(names)
                kind, mark = found.name, fingerprint(ref, fields)
            except BadInput as error:
                wrong = str(error)
            yield KeyEntry(
                ref.venue,
                ref.env,
                ref.account,
                "environment",
                kind,
                None,
                mark,
                True,
                names.note,
                wrong,
            )

    def _missing(self, names: Names) -> list[str]:
        return [v for field, v in names.fields if field in names.needed and v not in self._values]

    def _is_begun(self, names: Names) -> bool:
        return any(v in self._values for _, v in names.fields)


class _KeyringKept(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    added_ns: int
    fingerprint: str
    fields: dict[str, str]

    def hidden(self) -> dict[str, Hidden]:
        return {name: Hidden(text) for name, text in self.fields.items()}

    def __repr__(self) -> str:
        return "***"


class Keyring:
    """The keyring of the operating system, through the optional package `keyring`.

    Every key is one password there; one more holds the list of them. Reading treats a keyring that is absent
    or broken as an empty one, so that keys elsewhere still work; writing says what is wrong.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def find(self, ref: KeyRef) -> _KeyringKept | None:
        return self.read(ref)

    def read(self, ref: KeyRef) -> _KeyringKept | None:
        text = self._read(_ring_name(ref))
        kept = None if text is None else _decoded(text)
        return kept

    def entries(self) -> Iterator[KeyEntry]:
        for ref in self._index():
            kept = self.read(ref)
            if kept is not None:
                yield KeyEntry(
                    ref.venue,
                    ref.env,
                    ref.account,
                    "keyring",
                    kept.kind,
                    kept.added_ns,
                    kept.fingerprint,
                    True,
                )

    def write(
        self,
        ref: KeyRef,
        kind: str,
        fields: Mapping[str, Hidden],
        added_ns: int,
        fingerprint: str,
        *,
        replace: bool,
    ) -> None:
        ring = self._ring()
        if ring is None:
            raise Conflict(
                "the package keyring is not installed here (pip install keyring); the encrypted file needs "
                "nothing: leave --backend away"
            )
        self._write(ring, _ring_name(ref), _encoded(kind, added_ns, fingerprint, fields))
        index = sorted({*self._index(), ref})
        self._write(ring, _INDEX, _listed(index))

    def delete(self, ref: KeyRef) -> None:
        ring = self._ring()
        if ring is None:
            return
        failed = ""
        try:
            ring.delete_password(KEYRING_SERVICE, _ring_name(ref))
        except Exception as error:  # its exceptions are its backends'; their texts are not ours to trust
            failed = type(error).__name__
        if failed:
            raise Conflict(f"the operating system's keyring refused ({failed}); nothing was changed")
        self._write(ring, _INDEX, _listed([r for r in self._index() if r != ref]))

    def _ring(self) -> Any:
        if self._module is None:
            with contextlib.suppress(ImportError):
                self._module = importlib.import_module("keyring")
        return self._module

    def _read(self, name: str) -> Hidden | None:
        ring = self._ring()
        if ring is None:
            return None
        try:
            found = ring.get_password(KEYRING_SERVICE, name)
        except Exception:  # no desktop session, a locked keyring: an empty one
            return None
        return None if not isinstance(found, str) else Hidden(found)

    def _index(self) -> list[KeyRef]:
        text = self._read(_INDEX)
        if text is None:
            return []
        try:
            return [
                KeyRef(*row) for row in msgspec.json.decode(text.reveal(), type=list[tuple[str, str, str]])
            ]
        except msgspec.MsgspecError:
            return []

    def _write(self, ring: Any, name: str, text: Hidden) -> None:
        failed = _stored(ring, name, text)
        if failed:
            raise Conflict(f"the operating system's keyring refused ({failed}); nothing was changed")


def _stored(ring: Any, name: str, text: Hidden) -> str:
    """The name of what went wrong, or ""; its text and frames hold the password, so they end here."""
    try:
        ring.set_password(KEYRING_SERVICE, name, text.reveal())
    except Exception as error:
        return type(error).__name__
    return ""


def _ring_name(ref: KeyRef) -> str:
    return f"{ref.venue}|{ref.env}|{ref.account}"


def _listed(refs: Sequence[KeyRef]) -> Hidden:
    return Hidden(msgspec.json.encode([(r.venue, r.env, r.account) for r in refs]).decode())


def _encoded(kind: str, added_ns: int, fingerprint: str, fields: Mapping[str, Hidden]) -> Hidden:
    plain = {name: value.reveal() for name, value in fields.items()}
    return Hidden(msgspec.json.encode(_KeyringKept(kind, added_ns, fingerprint, plain)).decode())


def _decoded(text: Hidden) -> _KeyringKept | None:
    try:
        return msgspec.json.decode(text.reveal(), type=_KeyringKept)
    except msgspec.MsgspecError:
        return None
