"""Keys of venues: their forms, where they are kept, and that no byte of one is ever shown."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import os
import pickle
import re
import stat
import threading
import traceback
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.errors import BadInput, Conflict, NotFound
from api.keys import (
    ENVIRONMENT,
    KEYS,
    PASSPHRASE_VARIABLE,
    VARIABLES,
    Cost,
    Hidden,
    KeyMaterial,
    KeysLocked,
    KeyStore,
    WithPassphrase,
    check,
    holder,
    key_ref,
    kind_for,
    kind_of,
)
from api.signing import Ed25519Key, HmacKey, RsaKey
from api.supervise import scrubbed
from tests.shared import ROOT

CHEAP = Cost(n=16)  # what scrypt costs is measured elsewhere
PASSPHRASE = "canary-passphrase-of-this-file"
NOW_NS = 1_795_000_000_000_000_000


def pem_of(key: Any, password: bytes | None = None) -> str:
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        how = serialization.BestAvailableEncryption(password)
    form = serialization.PrivateFormat.PKCS8
    text: str = key.private_bytes(serialization.Encoding.PEM, form, how).decode()
    return text


RSA_KEY = rsa.generate_private_key(65537, 2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
RSA_PEM, ED_PEM = pem_of(RSA_KEY), pem_of(ED_KEY)
ALNUM = "canaryKEY0123456789" * 3
SEED = bytes(range(32))
BACKPACK = {
    "api_key": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
    "secret": b64encode(SEED).decode(),
}  # the vector of the venue's sheet
ASTER = {
    "user": "0x" + "ab" * 20,
    "signer": "0x" + "cd" * 20,
    "private_key": "0x" + "c0ffee11" * 8,
}
PARADEX = {"account_address": "0x" + "3c0ffee" * 9, "private_key": "0x5" + "ca11ab1e" * 7}
HMAC = {"api_key": ALNUM, "secret": ALNUM[::-1]}
GOOD: dict[tuple[str, str], dict[str, str]] = {
    ("binance_spot", "hmac"): HMAC,
    ("binance_spot", "ed25519"): {"api_key": ALNUM, "private_key": ED_PEM},
    ("binance_spot", "rsa"): {"api_key": ALNUM, "private_key": RSA_PEM},
    ("binance_usdm", "hmac"): HMAC,
    ("binance_usdm", "ed25519"): {"api_key": ALNUM, "private_key": ED_PEM},
    ("binance_usdm", "rsa"): {"api_key": ALNUM, "private_key": RSA_PEM},
    ("okx", "hmac"): {
        "api_key": "0a1b2c3d-" * 4 + "ca9a",
        "secret": "CA9A" * 8,
        "passphrase": "canary pass!",
    },
    ("backpack", "ed25519"): BACKPACK,
    ("aster", "v3"): ASTER,
    ("aster", "v1"): HMAC,
    ("paradex", "stark"): PARADEX,
    ("thalex", "rsa"): {"key_id": "K12345-canary", "private_key": RSA_PEM},
    ("bifu", "hmac"): {"api_key": "canary-bifu-key", "secret": "canary-bifu-secret"},
}


class Ring:
    """A keyring in memory; `fails` is raised by every call."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.fails = fails

    def _do(self) -> None:
        if self.fails is not None:
            raise self.fails

    def get_password(self, service: str, name: str) -> str | None:
        self._do()
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, text: str) -> None:
        self._do()
        self.kept[service, name] = text

    def delete_password(self, service: str, name: str) -> None:
        self._do()
        del self.kept[service, name]


def store(
    path: Path,
    environ: Mapping[str, str] | None = None,
    *,
    passphrase: str | None = PASSPHRASE,
    ring: Any = None,
    ask: Callable[[bool], Hidden] | None = None,
) -> KeyStore:
    given = dict(environ or {}) | ({PASSPHRASE_VARIABLE: passphrase} if passphrase is not None else {})
    return KeyStore(path, given, now_ns=lambda: NOW_NS, cost=CHEAP, keyring=ring or Ring(), ask=ask)


def hidden(fields: Mapping[str, str]) -> dict[str, Hidden]:
    return {name: Hidden(text) for name, text in fields.items()}


def add(path: Path, venue: str, kind: str, *, account: str = "main", **more: str) -> None:
    ref = key_ref(venue, KEYS[venue].envs[-1], account)
    fields = hidden({**GOOD[venue, kind], **more})
    store(path).add(ref, kind_of(venue, kind), fields)


def plain(material: KeyMaterial) -> dict[str, str]:
    return material.build(dict)


# --------------------------------------------------------------------------------------------- forms


def test_every_venue_and_kind_has_an_example_here() -> None:
    assert set(GOOD) == {(venue, kind.name) for venue, keys in KEYS.items() for kind in keys.kinds}


@pytest.mark.parametrize(("venue", "kind"), GOOD, ids=".".join)
def test_a_key_comes_back_from_the_file_as_it_was_added(tmp_path: Path, venue: str, kind: str) -> None:
    add(tmp_path, venue, kind)
    material = store(tmp_path).get(venue, "live")
    assert plain(material) == GOOD[venue, kind]
    assert (material.backend, material.kind) == ("file", kind)


@pytest.mark.parametrize(
    ("venue", "kind", "field", "bad"),
    [
        ("binance_spot", "hmac", "api_key", "canary-with-dashes"),
        ("binance_spot", "hmac", "secret", "canary"),
        ("binance_spot", "hmac", "secret", "canaryé" * 5),
        ("binance_spot", "ed25519", "private_key", RSA_PEM),
        ("binance_spot", "rsa", "private_key", ED_PEM),
        ("binance_spot", "rsa", "private_key", RSA_PEM.replace("A", "canary", 9)),
        ("okx", "hmac", "passphrase", ""),
        ("okx", "hmac", "api_key", "canary canary canary"),
        ("backpack", "ed25519", "api_key", "canary"),
        ("backpack", "ed25519", "secret", b64encode(bytes(64)).decode()),
        ("backpack", "ed25519", "secret", b64encode(bytes(32)).decode()),  # of another key
        ("aster", "v3", "user", "canary"),
        ("aster", "v3", "signer", "ab" * 20),
        ("aster", "v3", "private_key", "0x" + "f" * 64),
        ("aster", "v3", "private_key", "0" * 64),
        ("paradex", "stark", "account_address", "canary"),
        ("paradex", "stark", "private_key", "0x0"),
        ("paradex", "stark", "private_key", "0xcanary"),
        ("thalex", "rsa", "key_id", "canary canary"),
        ("thalex", "rsa", "private_key", ED_PEM),
        ("thalex", "rsa", "private_key", "canary.pem"),
        ("bifu", "hmac", "secret", "canary canary"),
    ],
)
def test_a_wrong_form_is_one_error_that_names_the_field_and_never_the_value(
    venue: str, kind: str, field: str, bad: str
) -> None:
    with pytest.raises(BadInput) as caught:
        check(kind_of(venue, kind), hidden({**GOOD[venue, kind], field: bad}))
    assert caught.value.field == field
    assert not bad or bad not in str(caught.value)


def test_a_missing_and_an_unknown_field_are_told_by_what_is_needed() -> None:
    with pytest.raises(BadInput, match="passphrase: is missing; needed: printable ASCII"):
        check(kind_of("okx", "hmac"), hidden(HMAC))
    with pytest.raises(BadInput, match="has: api_key, secret; and no other") as caught:
        check(kind_of("aster", "v1"), hidden({**HMAC, "canary": "x"}))
    assert "canary" not in str(caught.value)


def test_space_around_a_pasted_value_and_line_ends_written_out_are_mended() -> None:
    kind = kind_of("thalex", "rsa")
    one_line = RSA_PEM.replace("\n", "\\n")
    tidy = check(kind, hidden({"key_id": "  K1\n", "private_key": f" {one_line}\r\n"}))
    assert {name: value.reveal() for name, value in tidy.items()} == {"key_id": "K1", "private_key": RSA_PEM}


def test_a_pem_tells_its_own_kind() -> None:
    for pem, kind in ((ED_PEM, "ed25519"), (RSA_PEM, "rsa")):
        assert kind_for("binance_usdm", hidden({"api_key": ALNUM, "private_key": pem})).name == kind
    assert kind_for("aster", hidden(ASTER)).name == "v3"
    assert kind_for("aster", hidden(HMAC)).name == "v1"
    with pytest.raises(BadInput, match=r"v3 \(user, signer, private_key\) or v1 \(api_key, secret\)"):
        kind_for("aster", hidden({"api_key": ALNUM}))


def test_a_pem_with_a_password_is_kept_without_it_and_refused_without_the_right_one() -> None:
    locked = pem_of(ED_KEY, b"canary-password")
    kind = kind_of("binance_spot", "ed25519")
    fields = {"api_key": ALNUM, "private_key": locked}
    tidy = check(kind, hidden({**fields, "pem_password": "canary-password"}))
    assert set(tidy) == {"api_key", "private_key"} and tidy["private_key"].reveal() == ED_PEM
    for more in ({}, {"pem_password": "canary-other"}):
        with pytest.raises(BadInput, match="private_key: has a password"):
            check(kind, hidden({**fields, **more}))


def test_the_kinds_make_what_signs(tmp_path: Path) -> None:
    for venue, kind in GOOD:
        add(tmp_path / f"{venue}-{kind}", venue, kind)

    def made(venue: str, kind: str) -> Any:
        return store(tmp_path / f"{venue}-{kind}").get(venue, "live").build()

    assert made("binance_spot", "hmac").sign(b"canary") == HmacKey(ALNUM, HMAC["secret"]).sign(b"canary")
    assert made("binance_usdm", "ed25519").sign(b"x") == Ed25519Key(ALNUM, ED_PEM).sign(b"x")
    assert made("binance_spot", "rsa").sign(b"x") == RsaKey(ALNUM, RSA_PEM).sign(b"x")
    assert made("thalex", "rsa").sign(b"x") == RsaKey("k", RSA_PEM, digest="sha512").sign(b"x")
    okx = made("okx", "hmac")
    assert isinstance(okx, WithPassphrase) and okx.passphrase == Hidden("canary pass!")
    assert len(b64decode(okx.key.sign(b"x"))) == 32
    text = "instruction=subscribe&timestamp=1614550000000&window=5000"  # the sheet's vector
    assert made("backpack", "ed25519").sign(text.encode()) == (
        "Uf+mBpqN/y/EzT77rzrj7ga4mdvZmzq4XW+Lh+9B0K0wLMFJrInMKcACIpSpVaPNzrFEpPhINxEP2rNI3E92CA=="
    )
    with pytest.raises(Conflict, match="nothing here can sign with a key of paradex"):
        made("paradex", "stark")


def test_names_of_the_registry_lead_to_the_keys_of_their_venue() -> None:
    assert [holder(v) for v in ("okx_swap", "okx_spot", "OKX", "aster_perp", "binance_usdm")] == [
        *("okx", "okx", "okx", "aster", "binance_usdm")
    ]
    assert key_ref("okx_swap", "demo").env == "testnet"
    for venue, message in (
        ("paper", "needs no key"),
        ("binance", "allowed: binance_spot"),
        ("canary", "allow"),
    ):
        with pytest.raises(BadInput, match=message) as caught:
            holder(venue)
        assert "canary" not in str(caught.value)
    with pytest.raises(BadInput, match="env: backpack has keys for: live"):
        key_ref("backpack", "testnet")
    with pytest.raises(BadInput, match="account: not a name"):
        key_ref("okx", "live", "../x")


# ---------------------------------------------------------------------------------------------- the file


def test_the_file_is_its_owners_alone_and_holds_no_byte_of_a_secret_in_the_clear(tmp_path: Path) -> None:
    for venue, kind in GOOD:
        add(tmp_path, venue, kind, account=kind)
    raw = (tmp_path / "keys.enc").read_bytes()
    assert stat.S_IMODE((tmp_path / "keys.enc").stat().st_mode) == 0o600
    for fields in GOOD.values():
        for value in fields.values():
            assert value.encode() not in raw and b64encode(value.encode())[:-4] not in raw
    assert PASSPHRASE.encode() not in raw
    assert sorted(os.listdir(tmp_path)) == ["keys.enc", "keys.lock"]
    lengths = {
        len(b64decode(box["data"])) for key in json.loads(raw)["keys"] for box in key["fields"].values()
    }
    assert {length % 128 for length in lengths} == {16}  # padded, and the tag


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    assert store(tmp_path / "data").entries() == ()
    with pytest.raises(NotFound, match="keys add okx --env testnet --account second"):
        store(tmp_path / "data").get("okx", "testnet", "second")
    assert not (tmp_path / "data").exists()


def test_a_wrong_passphrase_and_a_changed_file_get_the_same_answer(tmp_path: Path) -> None:
    add(tmp_path, "okx", "hmac")
    with pytest.raises(BadInput) as wrong:
        store(tmp_path, passphrase="another passphrase").get("okx", "live")
    document = json.loads((tmp_path / "keys.enc").read_text())
    document["keys"][0]["added_ns"] += 1
    (tmp_path / "keys.enc").write_text(json.dumps(document))
    with pytest.raises(BadInput) as changed:
        store(tmp_path).get("okx", "live")
    assert str(wrong.value) == str(changed.value)
    assert wrong.value.field == PASSPHRASE_VARIABLE


def test_a_field_moved_to_another_place_does_not_open(tmp_path: Path) -> None:
    add(tmp_path, "aster", "v1")
    add(tmp_path, "binance_spot", "hmac")
    document = json.loads((tmp_path / "keys.enc").read_text())
    first, second = (key["fields"] for key in document["keys"])
    first["secret"], second["secret"] = second["secret"], first["secret"]
    (tmp_path / "keys.enc").write_text(json.dumps(document))
    with pytest.raises(BadInput, match="changed by something else"):
        store(tmp_path).get("aster", "live")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_gives_the_same_key(
    tmp_path: Path, place: float, byte: int, cut: bool
) -> None:
    path = tmp_path / "keys.enc"
    whole = tmp_path / "whole"
    if not whole.exists():
        add(tmp_path, "okx", "hmac")
        whole.write_bytes(path.read_bytes())
    raw = bytearray(whole.read_bytes())
    at = int(place * len(raw))
    raw[at : at + 1] = b"" if cut else bytes([byte])
    path.write_bytes(raw)
    try:
        found = plain(store(tmp_path).get("okx", "live"))
    except (BadInput, Conflict, NotFound):
        return
    assert found == GOOD["okx", "hmac"]


def test_a_file_that_others_can_read_or_that_is_no_key_file_is_refused(tmp_path: Path) -> None:
    add(tmp_path, "okx", "hmac")
    path = tmp_path / "keys.enc"
    path.chmod(0o640)
    with pytest.raises(Conflict, match="mode 0640.*chmod 600"):
        store(tmp_path).get("okx", "live")
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict, match="cannot be read"):
        store(tmp_path).entries()
    path.unlink()
    path.mkdir()
    with pytest.raises(Conflict, match="not a file"):
        store(tmp_path).entries()
    path.rmdir()
    greedy = {"name": "scrypt", "salt": b64encode(bytes(16)).decode(), "n": 2**40, "r": 8, "p": 1}
    seal = {"nonce": "", "data": ""}
    head = {"format": "makerdeck-keys", "version": 1, "cipher": "AES-256-GCM", "keys": [], "seal": seal}
    for text in ("", "{}", "canary", json.dumps({**head, "kdf": greedy}), json.dumps({**head, "version": 2})):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(Conflict, match="not a key file of version 1"):
            store(tmp_path).get("okx", "live")


def test_replacing_is_asked_for_and_leaves_nothing_of_the_old_key(tmp_path: Path) -> None:
    add(tmp_path, "okx", "hmac")
    ref, kind = key_ref("okx", "live"), kind_of("okx", "hmac")
    before = (tmp_path / "keys.enc").read_bytes()
    other = hidden({**GOOD["okx", "hmac"], "passphrase": "another"})
    with pytest.raises(Conflict, match="there is a key for okx live main already"):
        store(tmp_path).add(ref, kind, other)
    assert (tmp_path / "keys.enc").read_bytes() == before
    [old] = store(tmp_path).find(ref)
    new = store(tmp_path).add(ref, kind, other, replace=True)
    assert new.fingerprint != old.fingerprint and store(tmp_path).find(ref) == (new,)
    assert plain(store(tmp_path).get("okx", "live"))["passphrase"] == "another"


def test_a_removed_key_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    add(tmp_path, "okx", "hmac")
    add(tmp_path, "okx", "hmac", account="second")
    store(tmp_path).remove(key_ref("okx", "live"), "file")
    with pytest.raises(NotFound):
        store(tmp_path).get("okx", "live")
    with pytest.raises(NotFound):
        store(tmp_path).remove(key_ref("okx", "live"), "file")
    assert plain(store(tmp_path).get("okx", "live", "second")) == GOOD["okx", "hmac"]


def test_many_writers_at_once_lose_no_key(tmp_path: Path) -> None:
    add(tmp_path, "okx", "hmac", account="first")
    names = [f"a{n}" for n in range(8)]
    threads = [
        threading.Thread(target=add, args=(tmp_path, "okx", "hmac"), kwargs={"account": n}) for n in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert [e.account for e in store(tmp_path).entries()] == sorted([*names, "first"])


def test_the_passphrase_is_asked_once_and_only_when_the_file_must_open(tmp_path: Path) -> None:
    asked: list[bool] = []

    def ask(is_new: bool) -> Hidden:
        asked.append(is_new)
        return Hidden(PASSPHRASE)

    keys = store(tmp_path, passphrase=None, ask=ask)
    keys.add(key_ref("okx", "live"), kind_of("okx", "hmac"), hidden(GOOD["okx", "hmac"]))
    assert keys.get("okx", "live").fingerprint == keys.entries()[0].fingerprint
    assert asked == [True]
    again = store(tmp_path, passphrase=None, ask=ask)
    assert len(again.entries()) == 1 and asked == [True]
    again.unlock()
    again.get("okx", "live")
    assert asked == [True, False]
    with pytest.raises(KeysLocked, match=PASSPHRASE_VARIABLE):
        store(tmp_path, passphrase=None).get("okx", "live")


def test_a_new_file_wants_a_passphrase_of_twelve_characters(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least 12 characters") as caught:
        store(tmp_path, passphrase="canary11chr").add(
            key_ref("okx", "live"), kind_of("okx", "hmac"), hidden(GOOD["okx", "hmac"])
        )
    assert caught.value.field == PASSPHRASE_VARIABLE and not list(tmp_path.iterdir())


def test_a_new_passphrase_opens_every_key_and_the_old_one_none(tmp_path: Path) -> None:
    for venue, kind in GOOD:
        add(tmp_path, venue, kind, account=kind)
    running = store(tmp_path)
    running.unlock()
    assert store(tmp_path).change_passphrase(Hidden("the new passphrase")) == len(GOOD)
    for venue, kind in GOOD:
        material = store(tmp_path, passphrase="the new passphrase").get(venue, "live", kind)
        assert plain(material) == GOOD[venue, kind]
    with pytest.raises(BadInput, match="wrong"):
        running.get("okx", "live", "hmac")


# ------------------------------------------------------------------------------------- other backends


def test_the_file_comes_before_the_keyring_and_that_before_the_environment(tmp_path: Path) -> None:
    ring = Ring()
    environ = {"BACKPACK_KEY": BACKPACK["api_key"], "BACKPACK_SECRET": BACKPACK["secret"]}
    ref, kind = key_ref("backpack", "live"), kind_of("backpack", "ed25519")

    def used() -> str:
        found = store(tmp_path, environ, ring=ring).find(ref)
        assert [entry.is_used for entry in found] == [True] + [False] * (len(found) - 1)
        assert len({entry.fingerprint for entry in found}) == 1  # the same key wherever it is
        backend = store(tmp_path, environ, ring=ring).get("backpack", "live").backend
        assert backend == found[0].backend
        return backend

    assert used() == "environment"
    store(tmp_path, environ, ring=ring).add(ref, kind, hidden(BACKPACK), backend="keyring")
    assert used() == "keyring"
    store(tmp_path, environ, ring=ring).add(ref, kind, hidden(BACKPACK))
    assert used() == "file"
    store(tmp_path, environ, ring=ring).remove(ref, "file")
    store(tmp_path, environ, ring=ring).remove(ref, "keyring")
    assert used() == "environment"
    with pytest.raises(Conflict, match="unset BACKPACK_KEY, BACKPACK_SECRET"):
        store(tmp_path, environ, ring=ring).remove(ref, "environment")


def test_every_name_in_the_environment_means_one_environment_and_finds_its_key(tmp_path: Path) -> None:
    envs: dict[str, set[str]] = {}
    for names in ENVIRONMENT:
        for kind in names.kinds:
            example = GOOD[names.venue, kind]
            environ = {variable: example.get(field, "") for field, variable in names.fields}
            material = store(tmp_path, environ).get(names.venue, names.env)
            assert (plain(material), material.kind) == (example, kind)
            assert (material.backend, material.note) == ("environment", names.note)
        for _, variable in names.fields:
            envs.setdefault(variable, set()).add(names.env)
    assert {variable for variable, found in envs.items() if len(found) != 1} == set()
    assert {
        "BACKPACK_KEY",
        "ASTER_SECRET_KEY",
        "PARADEX_ACCOUNT_ADDRESS",
        "THALEX_PROD_PRIVATE_KEY",
    } <= VARIABLES


def test_half_a_key_in_the_environment_is_listed_and_refused_by_its_variable(tmp_path: Path) -> None:
    keys = store(tmp_path, {"BACKPACK_KEY": BACKPACK["api_key"]})
    assert [(e.venue, e.problem) for e in keys.entries()] == [
        ("backpack", "BACKPACK_SECRET: is not set and belongs to BACKPACK_KEY")
    ]
    with pytest.raises(BadInput, match="BACKPACK_SECRET: is not set"):
        keys.get("backpack", "live")
    wrong = store(tmp_path, {"OKX_API_KEY": "x", "OKX_SECRET": "canary", "OKX_PASSPHRASE": "p"})
    with pytest.raises(BadInput, match="OKX_API_KEY: has the wrong form"):
        wrong.get("okx", "live")


def test_old_names_are_taken_with_a_word_and_only_when_both_are_there(tmp_path: Path) -> None:
    legacy = {"API_KEY": BACKPACK["api_key"], "SECRET_KEY": BACKPACK["secret"]}
    assert "call them BACKPACK_KEY" in store(tmp_path, legacy).get("backpack", "live").note
    assert store(tmp_path, {"API_KEY": "of another program"}).entries() == ()
    new = {**legacy, "BACKPACK_KEY": BACKPACK["api_key"], "BACKPACK_SECRET": BACKPACK["secret"]}
    assert store(tmp_path, new).get("backpack", "live").note == ""


def test_every_name_of_a_variable_is_in_the_document() -> None:
    text = (ROOT / "docs/keys.md").read_text("utf-8")
    assert {name for name in VARIABLES if f"`{name}`" not in text} == set()
    for venue, keys in KEYS.items():
        assert f"`{venue}`" in text
        for kind in keys.kinds:
            assert {f.name for f in kind.fields if f"`{f.name}`" not in text} == set()


def test_children_inherit_no_variable_that_holds_a_secret() -> None:
    public = {"ACCOUNT_ADDRESS", "USER", "SIGNER"}
    left = scrubbed(dict.fromkeys(VARIABLES, "canary"))
    assert {name for name in left if not any(name.endswith(word) for word in public)} == set()


def test_a_keyring_that_fails_is_empty_to_readers_and_tells_writers(tmp_path: Path) -> None:
    broken = Ring(RuntimeError("canary-of-the-keyring"))
    ref, kind = key_ref("bifu", "live"), kind_of("bifu", "hmac")
    assert store(tmp_path, ring=broken).entries() == ()
    with pytest.raises(Conflict, match=r"keyring refused \(RuntimeError\)") as caught:
        store(tmp_path, ring=broken).add(ref, kind, hidden(GOOD["bifu", "hmac"]), backend="keyring")
    assert "canary" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("keyring") is not None, reason="the package keyring is here")
def test_a_keyring_that_is_not_installed_is_said(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path, {}, now_ns=lambda: NOW_NS, cost=CHEAP)
    with pytest.raises(Conflict, match="package keyring is not installed"):
        keys.add(
            key_ref("bifu", "live"), kind_of("bifu", "hmac"), hidden(GOOD["bifu", "hmac"]), backend="keyring"
        )
    assert keys.entries() == ()


# -------------------------------------------------------------------------------------- nothing is shown


def test_a_hidden_text_shows_nothing_and_goes_nowhere() -> None:
    secret = Hidden("canary")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>20}",
        f"{[secret]}",
        "{!s} {!r}".format(*[secret] * 2),
    ]
    assert "canary" not in "".join(shown)
    for out in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode, hash):
        with pytest.raises(TypeError) as caught:
            out(secret)
        assert "canary" not in str(caught.value)


CANARIES = sorted(
    {v for fields in GOOD.values() for v in fields.values() if v != ALNUM}
    | {PASSPHRASE, ALNUM, "canary-password", SEED.decode("latin-1")}
)


def spilled(text: str) -> list[str]:
    """Canaries, and long pieces of them, in a text."""
    pieces = {c for c in CANARIES} | {c[i : i + 12] for c in CANARIES for i in range(0, len(c) - 12, 4)}
    pieces -= {piece for piece in pieces if re.fullmatch(r"[-\sA-Z]*(PRIVATE KEY)?[-\sA-Z]*", piece)}
    return sorted(piece for piece in pieces if piece in text)


def wrong_form(path: Path) -> None:
    store(path).add(key_ref("okx", "live"), kind_of("okx", "hmac"), hidden(HMAC))


def wrong_pem(path: Path) -> None:
    fields = hidden({"api_key": ALNUM, "private_key": RSA_PEM.replace("A", "!", 3)})
    store(path).add(key_ref("binance_spot", "live"), kind_for("binance_spot", fields), fields)


def wrong_pair(path: Path) -> None:
    fields = hidden({**BACKPACK, "secret": b64encode(bytes(32)).decode()})
    store(path).add(key_ref("backpack", "live"), kind_of("backpack", "ed25519"), fields)


def wrong_passphrase(path: Path) -> None:
    add(path, "bifu", "hmac")
    store(path, passphrase="another passphrase").get("bifu", "live")


def wrong_factory(path: Path) -> None:
    def loud(fields: Mapping[str, str]) -> None:
        raise ValueError(f"cannot use {fields}")

    add(path, "paradex", "stark")
    store(path).get("paradex", "live").build(loud)


def wrong_environment(path: Path) -> None:
    environ = {"BACKPACK_KEY": BACKPACK["secret"], "BACKPACK_SECRET": BACKPACK["api_key"]}
    store(path, environ).get("backpack", "live")


def wrong_keyring(path: Path) -> None:
    ring = Ring(RuntimeError(f"cannot keep {HMAC['secret']}"))
    fields = hidden(GOOD["bifu", "hmac"])
    keys = store(path, ring=ring)
    keys.add(key_ref("bifu", "live"), kind_of("bifu", "hmac"), fields, backend="keyring")


def wrong_directory(path: Path) -> None:
    (path / "file").write_text("")
    add(path / "file", "bifu", "hmac")


@pytest.mark.parametrize(
    "fail",
    [
        *(wrong_form, wrong_pem, wrong_pair, wrong_passphrase, wrong_factory, wrong_environment),
        *(wrong_keyring, wrong_directory),
    ],
)
def test_no_canary_is_in_an_exception_its_chain_or_the_locals_of_its_frames(
    tmp_path: Path, fail: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises((BadInput, Conflict)) as caught:
        fail(tmp_path)
    chain: list[BaseException] = []
    one: BaseException | None = caught.value
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    here = Path(__file__).name
    for error in chain:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        # what this file holds in its own frames is not the store's
        frames = [frame for frame in told.stack if Path(frame.filename).name != here]
        told.stack = traceback.StackSummary.from_list(frames)
        told.__cause__ = told.__context__ = None
        assert spilled("".join(told.format())) == [], type(error)
    assert spilled(caplog.text) == []


def test_what_is_handed_out_shows_no_canary(tmp_path: Path) -> None:
    for venue, kind in GOOD:
        add(tmp_path, venue, kind, account=kind)
    keys = store(tmp_path)
    shown = [repr(keys), repr(keys.entries()), msgspec.json.encode(keys.entries()).decode()]
    for venue, kind in GOOD:
        material = keys.get(venue, "live", kind)
        shown += [repr(material), f"{material}"]
        with pytest.raises(TypeError):
            pickle.dumps(material)
        if kind_of(venue, kind).make is not None:
            shown.append(repr(material.build()))
    assert spilled("\n".join(shown)) == []
