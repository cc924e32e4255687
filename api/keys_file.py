"""`keys.enc`: keys of venues in an encrypted file.

Hides: the format, the encryption, how the file is replaced. Must not know: what a key is for, who is asked
for the passphrase. Called by `api.keys`, where the format is described.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from api.errors import BadInput, Conflict, NotFound
from api.keys_forms import Hidden, KeyEntry, KeyRef, KeysLocked, already, joined

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FILE_NAME = "keys.enc"
LOCK_NAME = "keys.lock"
PAD_BYTES = 128
FILE_BYTES_MAX = 2**20  # a few hundred keys; more is not a file of ours


@dataclass(frozen=True, slots=True)
class Cost:
    """Of scrypt: memory is 128 * n * r bytes. The default takes 128 MiB and about 0.3 s on the build
    machine: OWASP's first choice for scrypt (n = 2**17, r = 8, p = 1).
    """

    n: int = 2**17
    r: int = 8
    p: int = 1


class _Box(msgspec.Struct, forbid_unknown_fields=True):
    """Something encrypted. `data` ends with the 16-byte tag of GCM."""

    nonce: bytes
    data: bytes


class _Kdf(msgspec.Struct, forbid_unknown_fields=True):
    name: Literal["scrypt"]
    salt: bytes
    n: int
    r: int
    p: int


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    venue: str
    env: str
    account: str
    kind: str
    added_ns: int
    fingerprint: str
    fields: dict[str, _Box]

    @property
    def ref(self) -> KeyRef:
        return KeyRef(self.venue, self.env, self.account)


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal["makerdeck-keys"]
    version: Literal[1]
    cipher: Literal["AES-256-GCM"]
    kdf: _Kdf
    keys: list[_Kept]
    seal: _Box

    def sealed(self) -> bytes:
        """What the seal stands for: everything but itself, in one writing."""
        return b"makerdeck-keys seal\0" + msgspec.json.encode(
            (self.format, self.version, self.cipher, self.kdf, self.keys)
        )


_WRONG = "wrong, or the key file was changed by something else"


class _Opened:
    """The cipher of one passphrase and salt."""

    def __init__(self, passphrase: Hidden, kdf: _Kdf) -> None:
        cipher = _cipher(passphrase, kdf)
        if cipher is None:
            raise Conflict(f"opening the key file takes {128 * kdf.n * kdf.r >> 20} MiB of memory: too much")
        self.kdf = kdf
        self._cipher = cipher

    def lock(self, plain: bytes, bound_to: bytes) -> _Box:
        nonce = os.urandom(12)  # random: a file would need 2**32 writings for a collision to matter
        return _Box(nonce, self._cipher.encrypt(nonce, plain, bound_to))

    def open(self, box: _Box, bound_to: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(box.nonce, box.data, bound_to)
        except (InvalidTag, ValueError):
            return None


def _cipher(passphrase: Hidden, kdf: _Kdf) -> AESGCM | None:
    """None where there is not enough memory. Raises nothing: the passphrase stands in its frame."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    # NFC: the same letter typed on another system is the same bytes
    text = unicodedata.normalize("NFC", passphrase.reveal())
    try:
        made = Scrypt(salt=kdf.salt, length=32, n=kdf.n, r=kdf.r, p=kdf.p)
        return AESGCM(made.derive(text.encode("utf-8", "surrogateescape")))
    except MemoryError:
        return None


def _padded(value: Hidden) -> bytes:
    """A passphrase of four characters should not show its length. No field holds a NUL."""
    raw = value.reveal().encode()
    return raw + bytes(-len(raw) % PAD_BYTES)


def _bound(ref: KeyRef, kind: str, field: str) -> bytes:
    return b"makerdeck-keys field\0" + joined("1", ref.venue, ref.env, ref.account, kind, field)


class KeyFile:
    """`keys.enc`: read anew at each use, so that a key added elsewhere is seen; written under a lock."""

    def __init__(self, data_dir: Path, cost: Cost) -> None:
        self.path = data_dir / FILE_NAME
        self._cost = cost
        self._opened: _Opened | None = None

    @property
    def is_there(self) -> bool:
        return os.path.lexists(self.path)

    @property
    def is_unlocked(self) -> bool:
        """The passphrase in hand belongs to the file as it stands now."""
        if self._opened is None:
            return False
        document = self._document()
        return document is None or document.kdf == self._opened.kdf

    def entries(self) -> Iterator[KeyEntry]:
        document = self._document()
        for k in () if document is None else document.keys:
            yield KeyEntry(k.venue, k.env, k.account, "file", k.kind, k.added_ns, k.fingerprint, True)

    def find(self, ref: KeyRef) -> _Kept | None:
        document = self._document()
        return None if document is None else next((k for k in document.keys if k.ref == ref), None)

    def unlock(self, passphrase: Hidden, source: str) -> None:
        """Try a passphrase; for a file that is not there yet it becomes its passphrase.

        Raises BadInput, whose field is `source`, when it does not open the seal.
        """
        document = self._document()
        kdf = self._new_kdf() if document is None else document.kdf
        opened = _Opened(passphrase, kdf)
        if document is not None and opened.open(document.seal, document.sealed()) is None:
            raise BadInput(source, _WRONG)
        self._opened = opened

    def read(self, ref: KeyRef) -> dict[str, Hidden]:
        """Raises BadInput when a field does not open, NotFound when it is gone meanwhile."""
        kept = next((k for k in self._checked().keys if k.ref == ref), None)
        if kept is None:
            raise NotFound(f"there is no key for {ref} in the file any more")
        return self._fields(kept)

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
        with self._held():
            opened, document = self._key, self._checked()
            if not replace and any(k.ref == ref for k in document.keys):
                raise already(ref, "file")  # somebody was faster
            boxes = {name: opened.lock(_padded(v), _bound(ref, kind, name)) for name, v in fields.items()}
            kept = _Kept(ref.venue, ref.env, ref.account, kind, added_ns, fingerprint, boxes)
            document.keys = sorted(
                (*(k for k in document.keys if k.ref != ref), kept), key=lambda k: (k.venue, k.env, k.account)
            )
            self._save(document, opened)

    def delete(self, ref: KeyRef) -> None:
        with self._held():
            opened, document = self._key, self._checked()
            document.keys = [k for k in document.keys if k.ref != ref]
            self._save(document, opened)

    def rewrap(self, passphrase: Hidden) -> int:
        with self._held():
            document = self._checked()
            plain = [(kept, self._fields(kept)) for kept in document.keys]
            opened = _Opened(passphrase, self._new_kdf())
            for kept, fields in plain:
                kept.fields = {
                    name: opened.lock(_padded(v), _bound(kept.ref, kept.kind, name))
                    for name, v in fields.items()
                }
            document.kdf = opened.kdf
            self._save(document, opened)
            self._opened = opened
        return len(plain)

    @property
    def _key(self) -> _Opened:
        if self._opened is None:
            raise KeysLocked("the key file is locked")
        return self._opened

    def _fields(self, kept: _Kept) -> dict[str, Hidden]:
        found: dict[str, Hidden] = {}
        for name, box in kept.fields.items():
            value = self._opened_field(kept, name, box)
            if value is None:
                raise BadInput("passphrase", _WRONG)
            found[name] = value
        return found

    def _opened_field(self, kept: _Kept, name: str, box: _Box) -> Hidden | None:
        plain = self._key.open(box, _bound(kept.ref, kept.kind, name))
        return None if plain is None else Hidden(plain.rstrip(b"\0").decode())

    def _checked(self) -> _Document:
        """The file as it stands now, its seal opened; an empty one where there is none."""
        document = self._document()
        if document is None:
            kdf = self._key.kdf
            return _Document("makerdeck-keys", 1, "AES-256-GCM", kdf, [], _Box(b"", b""))
        if document.kdf != self._key.kdf:
            raise Conflict("the key file was made or encrypted anew by somebody else meanwhile; try again")
        if self._key.open(document.seal, document.sealed()) is None:
            raise BadInput("passphrase", _WRONG)
        return document

    def _new_kdf(self) -> _Kdf:
        return _Kdf("scrypt", os.urandom(16), self._cost.n, self._cost.r, self._cost.p)

    def _document(self) -> _Document | None:
        """None where there is no file.

        Raises Conflict: it is not ours alone, or not a key file of this version.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Conflict(f"'{self.path}' cannot be read ({error.strerror})") from None
        try:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise Conflict(f"'{self.path}' is not a file")
            if state.st_mode & 0o077 or state.st_uid != os.geteuid():
                mode = f"{state.st_mode & 0o777:04o}"
                raise Conflict(
                    f"'{self.path}' must be this user's alone, and is of mode {mode} and of user "
                    f"{state.st_uid}: chmod 600 it, and think about who may have read it"
                )
            with open(handle, "rb", closefd=False) as file:
                raw = file.read(FILE_BYTES_MAX + 1)
        finally:
            os.close(handle)
        try:
            document = msgspec.json.decode(raw, type=_Document)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            document = None
        if document is None or len(raw) > FILE_BYTES_MAX or not _is_sane(document.kdf):
            raise Conflict(
                f"'{self.path}' is not a key file of version 1, or damaged; put a backup back, or remove it "
                "and add the keys again"
            )
        return document

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """One writer at a time, over processes."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path.parent / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Conflict(f"'{self.path.parent}' cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _save(self, document: _Document, opened: _Opened) -> None:
        """Replace the file at once: a crash leaves the old one or the new one."""
        document.seal = opened.lock(b"", document.sealed())
        raw = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
        if len(raw) > FILE_BYTES_MAX:
            raise Conflict(f"the key file would be larger than {FILE_BYTES_MAX} bytes; nothing was changed")
        try:
            handle, name = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=self.path.parent)  # mode 0600
            try:
                with open(handle, "wb") as file:
                    file.write(raw)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise Conflict(f"'{self.path}' cannot be written ({error.strerror})") from None


def _is_sane(kdf: _Kdf) -> bool:
    """A file from elsewhere must not make us take all memory."""
    is_power = kdf.n > 1 and not kdf.n & (kdf.n - 1)
    return (
        is_power
        and len(kdf.salt) >= 16
        and 1 <= kdf.r <= 32
        and 1 <= kdf.p <= 16
        and 128 * kdf.n * kdf.r <= 2**30
    )
