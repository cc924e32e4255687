"""What a key of each venue consists of, and what its parts look like.

Hides: the forms, and the ways people write them (a PEM in one line, a PEM with a password). Must not know:
where a key is kept. Called by the other files of the key store, whose docstring (`api/keys.py`) is the
whole's; others import `api.keys`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from api.errors import BadInput, Conflict
from api.signing import Ed25519Key, HmacKey, RsaKey

Backend = Literal["file", "keyring", "environment"]

FIELD_CHARS_MAX = 16_384  # the longest PEM we accept is under 4 KiB
MAIN = "main"


class Hidden:
    """A text that does not print, format, pickle or copy itself. `reveal()` is the one way to read it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and hmac.compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret is a little of the secret

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Hidden is not pickled or copied")


class KeysLocked(Conflict):
    """The key file needs its passphrase, and nobody can be asked for it."""


@dataclass(frozen=True, slots=True)
class Field:
    """One part of a key. `allowed` is its form in words; `fits` judges a text and raises nothing.

    `is_pem`: it is a private key in PEM form, usually in a file. `is_optional`: it may be left away.
    """

    name: str
    allowed: str
    fits: Callable[[str], bool]
    is_pem: bool = False
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of key of a venue. `make` makes the object that signs of the plain fields and raises BadInput
    when they do not belong together; None: the venue's own folder makes it (`KeyMaterial.build`).
    """

    name: str
    fields: tuple[Field, ...]
    make: Callable[[Mapping[str, str]], Any] | None = None

    @property
    def needed(self) -> frozenset[str]:
        return frozenset(f.name for f in self.fields if not f.is_optional)


@dataclass(frozen=True, slots=True)
class VenueKeys:
    """What a venue's keys are: its environments (keys of one are refused by the other) and kinds, the usual
    one first.
    """

    envs: tuple[str, ...]
    kinds: tuple[Kind, ...]
    also: tuple[tuple[str, str], ...] = ()  # other words for an environment


@dataclass(frozen=True, slots=True)
class WithPassphrase:
    """An HMAC key of a venue that wants a passphrase beside each signature."""

    key: HmacKey
    passphrase: Hidden


def _pattern(form: str) -> Callable[[str], bool]:
    compiled = re.compile(form, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _base64_of(size: int) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            return len(base64.b64decode(text, validate=True)) == size
        except (binascii.Error, ValueError):
            return False

    return fits


def _hex_between(digits: str, most: int) -> Callable[[str], bool]:
    """A hexadecimal number from 1 to below `most`; `digits` is how many, as a range of a pattern."""
    compiled = re.compile(rf"(?:0[xX])?[0-9a-fA-F]{{{digits}}}")
    return lambda text: compiled.fullmatch(text) is not None and 0 < int(text, 16) < most


# the orders of the groups: SEC 2 (secp256k1), StarkWare's curve
_SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_STARK_ORDER = 0x800000000000010FFFFFFFFFFFFFFFFB781126DCAE7B2321E66A241ADC64D2F
_FELT_PRIME = 2**251 + 17 * 2**192 + 1

_TEXT = "printable ASCII without spaces, 1 to 256 characters"
_ANY = _pattern(r"[!-~]{1,256}")
_ALNUM = "letters and digits, 16 to 128 of them"
_IS_ALNUM = _pattern(r"[A-Za-z0-9]{16,128}")
_ADDRESS = _pattern(r"0x[0-9a-fA-F]{40}")
_PEM = _pattern(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----\n.*\n-----END [A-Z ]*PRIVATE KEY-----\n?")
_PEM_FORM = "a private key in PEM form (-----BEGIN PRIVATE KEY-----), {}"


def _pem(form: str) -> Field:
    return Field("private_key", _PEM_FORM.format(form), _PEM, is_pem=True)


def _hmac_hex(fields: Mapping[str, str]) -> HmacKey:
    return HmacKey(fields["api_key"], fields["secret"])


def _ed25519(fields: Mapping[str, str]) -> Ed25519Key:
    return Ed25519Key(fields["api_key"], fields["private_key"])


def _rsa(fields: Mapping[str, str]) -> RsaKey:
    return RsaKey(fields["api_key"], fields["private_key"])


def _rsa512(fields: Mapping[str, str]) -> RsaKey:
    return RsaKey(fields["key_id"], fields["private_key"], digest="sha512")


def _okx(fields: Mapping[str, str]) -> WithPassphrase:
    key = HmacKey(fields["api_key"], fields["secret"], encoding="base64")
    return WithPassphrase(key, Hidden(fields["passphrase"]))


def _bifu(fields: Mapping[str, str]) -> WithPassphrase:
    return WithPassphrase(_hmac_hex(fields), Hidden(fields.get("passphrase", "")))


def _backpack(fields: Mapping[str, str]) -> Ed25519Key:
    """The seed's own public key must be the api_key: a mix-up of two keys is seen before it is sent."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = base64.b64decode(fields["secret"])
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    if public != base64.b64decode(fields["api_key"]):
        raise BadInput("secret", "it does not belong to this api_key")
    return Ed25519Key.from_seed(fields["api_key"], seed)


_BINANCE_KEY = Field("api_key", _ALNUM, _IS_ALNUM)
_BINANCE = VenueKeys(
    ("testnet", "demo", "live"),
    (
        Kind("hmac", (_BINANCE_KEY, Field("secret", _ALNUM, _IS_ALNUM)), _hmac_hex),
        Kind("ed25519", (_BINANCE_KEY, _pem("Ed25519")), _ed25519),
        Kind("rsa", (_BINANCE_KEY, _pem("RSA of 2048 to 4096 bits")), _rsa),
    ),
)
_PASSPHRASE_FORM = "printable ASCII, 1 to 64 characters"
_PASSPHRASE = Field("passphrase", _PASSPHRASE_FORM, _pattern(r"[ -~]{1,64}"))

# Forms are from the venues' own pages where they state one, else wide: a form that is too narrow would keep
# a good key out, and a wrong key is found by `keys test` anyway.
KEYS: dict[str, VenueKeys] = {
    "binance_spot": _BINANCE,
    "binance_usdm": _BINANCE,
    "okx": VenueKeys(
        ("testnet", "live"),
        (
            Kind(
                "hmac",
                (
                    Field(
                        "api_key", "letters, digits and dashes, 16 to 64", _pattern(r"[A-Za-z0-9-]{16,64}")
                    ),
                    Field("secret", _ALNUM, _IS_ALNUM),
                    _PASSPHRASE,
                ),
                _okx,
            ),
        ),
        also=(("demo", "testnet"),),
    ),
    "backpack": VenueKeys(
        ("live",),
        (
            Kind(
                "ed25519",
                (
                    Field("api_key", "base64 of a 32-byte public key", _base64_of(32)),
                    Field("secret", "base64 of a 32-byte seed", _base64_of(32)),
                ),
                _backpack,
            ),
        ),
    ),
    "aster": VenueKeys(
        ("testnet", "live"),
        (
            Kind(
                "v3",
                (
                    Field("user", "the wallet's address: 0x and 40 hexadecimal digits", _ADDRESS),
                    Field("signer", "the agent's address: 0x and 40 hexadecimal digits", _ADDRESS),
                    Field(
                        "private_key",
                        "the agent's private key: 64 hexadecimal digits, with or without 0x",
                        _hex_between("64", _SECP256K1_ORDER),
                    ),
                ),
            ),
            Kind("v1", (Field("api_key", _ALNUM, _IS_ALNUM), Field("secret", _ALNUM, _IS_ALNUM)), _hmac_hex),
        ),
    ),
    "paradex": VenueKeys(
        ("testnet", "live"),
        (
            Kind(
                "stark",
                (
                    Field(
                        "account_address",
                        "0x and up to 64 hexadecimal digits, the Starknet address",
                        _hex_between("1,64", _FELT_PRIME),
                    ),
                    Field(
                        "private_key",
                        "the account's or a subkey's Stark key: up to 64 hexadecimal digits, below the "
                        "order of the curve",
                        _hex_between("1,64", _STARK_ORDER),
                    ),
                ),
            ),
        ),
    ),
    "thalex": VenueKeys(
        ("testnet", "live"),
        (Kind("rsa", (Field("key_id", _TEXT, _ANY), _pem("RSA of 2048 to 4096 bits")), _rsa512),),
    ),
    "bifu": VenueKeys(
        ("live",),
        (
            Kind(
                "hmac",
                (
                    Field("api_key", _TEXT, _ANY),
                    Field("secret", _TEXT, _ANY),
                    Field("passphrase", _PASSPHRASE_FORM, _PASSPHRASE.fits, is_optional=True),
                ),
                _bifu,
            ),
        ),
    ),
}


def holder(venue: str) -> str:
    """Whose keys a venue of the registry uses: `okx_swap` and `okx_spot` use those of `okx`.

    Raises:
        BadInput: a venue that needs no key, or none that is known. The word is not repeated, since it may be
            a secret that went astray.
    """
    name = venue.lower()
    if name in KEYS:
        return name
    family = name.partition("_")[0]
    if family in KEYS:
        return family
    if family == "paper":
        raise BadInput("venue", "the paper venue needs no key")
    raise BadInput("venue", f"not a venue that has keys here; allowed: {', '.join(KEYS)}")


@dataclass(frozen=True, slots=True, order=True)
class KeyRef:
    """Which key. Made by `key_ref`, which checks it."""

    venue: str
    env: str
    account: str = MAIN

    def __str__(self) -> str:
        return f"{self.venue} {self.env} {self.account}"


def key_ref(venue: str, env: str, account: str = MAIN) -> KeyRef:
    """The key of this venue (any name of the registry), environment and account.

    Raises:
        BadInput: which of the three is wrong, and what is allowed.
    """
    name = holder(venue)
    keys = KEYS[name]
    env = dict(keys.also).get(env, env)
    if env not in keys.envs:
        raise BadInput("env", f"{name} has keys for: {', '.join(keys.envs)}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", account):
        raise BadInput("account", "not a name: small letters, digits, - and _, 1 to 32 of them")
    return KeyRef(name, env, account)


def kind_of(venue: str, name: str) -> Kind:
    """Raises BadInput when the venue has no such kind of key."""
    for kind in KEYS[venue].kinds:
        if kind.name == name:
            return kind
    raise BadInput("kind", f"{venue} has: {', '.join(k.name for k in KEYS[venue].kinds)}")


def kind_for(venue: str, fields: Mapping[str, Hidden]) -> Kind:
    """The kind that has these fields; of several with a PEM the one whose algorithm it is.

    Raises:
        BadInput: no kind has these fields; the message names the fields each kind has.
    """
    given = {name for name, value in fields.items() if value} - {"pem_password"}
    fitting = [
        kind for kind in KEYS[venue].kinds if kind.needed <= given <= {field.name for field in kind.fields}
    ]
    if len(fitting) > 1:
        # the first whose maker takes it; when none does, the last one's refusal is as good as any
        fitting = [k for k in fitting if not problem(k, tidied(k, fields))] or fitting[-1:]
    if not fitting:
        forms = " or ".join(
            f"{kind.name} ({', '.join(f.name + ('?' if f.is_optional else '') for f in kind.fields)})"
            for kind in KEYS[venue].kinds
        )
        raise BadInput("fields", f"a key of {venue} is {forms}; each has all of its fields and no other")
    return fitting[0]


def check(kind: Kind, fields: Mapping[str, Hidden]) -> dict[str, Hidden]:
    """The fields in the form they are kept in: trimmed, a PEM with real line ends and without a password.

    Args:
        fields: by name; `pem_password` opens a PEM that has one, and is not kept.

    Raises:
        BadInput: the first field that is missing, unknown or of the wrong form, and what is allowed; the
            value is never repeated.
    """
    unknown = set(fields) - {f.name for f in kind.fields} - {"pem_password"}
    if unknown:
        allowed = ", ".join(f.name for f in kind.fields)
        raise BadInput("fields", f"a key of kind {kind.name} has: {allowed}; and no other")
    tidy = tidied(kind, fields)
    wrong = problem(kind, tidy)
    if wrong is not None:
        raise BadInput(*wrong)
    return tidy


def tidied(kind: Kind, fields: Mapping[str, Hidden]) -> dict[str, Hidden]:
    """The fields as they are kept, without the empty ones; judges nothing."""
    password = fields.get("pem_password")
    kept = {
        field.name: _without_password(_tidy(fields[field.name], field.is_pem), password)
        if field.is_pem
        else _tidy(fields[field.name], field.is_pem)
        for field in kind.fields
        if field.name in fields
    }
    return {name: value for name, value in kept.items() if value}


def _tidy(value: Hidden, is_pem: bool) -> Hidden:
    text = value.reveal()
    if is_pem:
        # in one line of an environment file the line ends are often written as \n
        text = text.replace("\r\n", "\n").replace("\\n", "\n")
    text = text.strip()
    return Hidden(text + "\n" if is_pem and text else text)


def _without_password(pem: Hidden, password: Hidden | None) -> Hidden:
    """The same private key without its password, where the password opens it; else as it was."""
    if not password:
        return pem
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(pem.reveal().encode(), password.reveal().encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return pem
    return Hidden(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    )


def problem(kind: Kind, fields: Mapping[str, Hidden]) -> tuple[str, str] | None:
    """What is wrong: the field and what is allowed. Raises nothing, so that its plain texts die here."""
    for field in kind.fields:
        value = fields.get(field.name)
        if value is None:
            if field.is_optional:
                continue
            return field.name, f"is missing; needed: {field.allowed}"
        text = value.reveal()
        if len(text) > FIELD_CHARS_MAX or not text.isascii() or not field.fits(text):
            return field.name, f"has the wrong form; allowed: {field.allowed}"
        if field.is_pem and "ENCRYPTED" in text:
            return field.name, "has a password; the one that opens it is needed beside it (pem_password)"
    if kind.make is None:
        return None
    _, wrong = made(kind.make, fields)
    if wrong is not None and wrong[0] == "key":  # the maker's word for the secret half
        return kind.fields[-1].name, wrong[1]
    return wrong


def made(
    make: Callable[[Mapping[str, str]], Any], fields: Mapping[str, Hidden]
) -> tuple[Any, tuple[str, str] | None]:
    """What was made, or the field and what is wrong with it. Raises nothing: see the module."""
    try:
        return make({name: value.reveal() for name, value in fields.items()}), None
    except BadInput as error:
        return None, (error.field, error.message)
    except Exception as error:  # a library's own, whose text may repeat what it was given
        return None, ("key", f"cannot be used ({type(error).__name__})")


def fingerprint(ref: KeyRef, fields: Mapping[str, Hidden]) -> str:
    """Six hexadecimal digits that tell two keys apart: a hash of all fields, salted with the place.

    The same key in the same place has the same one wherever it is kept. 24 bits of a hash of a key of 128
    bits or more give nothing away.
    """
    digest = hashlib.sha256(joined("makerdeck fingerprint", ref.venue, ref.env, ref.account))
    for name in sorted(fields):
        digest.update(joined(name, fields[name].reveal()))
    return digest.hexdigest()[:6]


def joined(*parts: str) -> bytes:
    """Unambiguous: each part with its length before it."""
    return b"".join(len(raw).to_bytes(4, "big") + raw for raw in (part.encode() for part in parts))


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One line of a list: never a value.

    added_ns: UTC nanoseconds; None where nobody wrote it down (the environment).
    is_used: this is the one `get` hands out; False: a backend before it has the key too.
    problem: why it cannot be used, or "".
    """

    venue: str
    env: str
    account: str
    backend: Backend
    kind: str
    added_ns: int | None
    fingerprint: str
    is_used: bool
    note: str = ""
    problem: str = ""

    @property
    def ref(self) -> KeyRef:
        return KeyRef(self.venue, self.env, self.account)


def already(ref: KeyRef, backend: Backend) -> Conflict:
    return Conflict(f"there is a key for {ref} already ({backend}); nothing was changed")
