"""The `keys` commands: what is asked, what is kept, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from api.errors import Unauthorized
from api.keys import PASSPHRASE_VARIABLE, Cost, Finding, Hidden, KeyMaterial, KeyStore, Probe
from cli.keys import KeyTools
from cli.main import main
from tests.cli.test_terminal import Terminal
from tests.shared import ROOT

PASSPHRASE = "canary passphrase"
OKX = {"api_key": "canary-key-0123456789", "secret": "canarysecret0123456789", "passphrase": "canary words"}
LOCKED = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"canary-password"),
)
# makes the terminal on standard input the controlling one
_CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, sys.argv[1:])
"""


class EmptyRing:
    """A keyring that holds nothing."""

    def get_password(self, service: str, name: str) -> str | None:
        return None


class Face:
    """`run.py --cli keys ...` on a data directory of its own; nobody is at home where a desk would be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ: dict[str, str] = {}
        self.typed: list[str] = []  # at hidden prompts
        self.answers: list[str] = []  # at open questions
        self.prompts: list[str] = []
        self.stdin: str | None = None
        self.probes: dict[str, Probe] = {}
        self.out = self.err = self.shown = ""

    def __call__(self, *words: str, is_tty: bool = False) -> int:
        out, err = io.StringIO(), io.StringIO()
        tools = KeyTools(
            lambda ask: KeyStore(
                self.path, self.environ, now_ns=lambda: 10**18, ask=ask, cost=Cost(n=16), keyring=EmptyRing()
            ),
            self.probes,
            self._hidden,
            lambda: None if self.stdin is None else Hidden(self.stdin),
        )
        try:
            return main(["keys", *words], no_desk, out=out, err=err, is_tty=is_tty, ask=self._ask, keys=tools)
        finally:
            self.out, self.err = out.getvalue(), err.getvalue()
            self.shown += self.out + self.err + "".join(self.prompts)

    @property
    def error(self) -> Any:
        return json.loads(self.out)["error"]

    def _hidden(self, prompt: str) -> Hidden:
        self.prompts.append(prompt)
        return Hidden(self.typed.pop(0) if self.typed else "")

    def _ask(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self.answers.pop(0) if self.answers else ""

    def add_okx(self, *words: str) -> None:
        self.environ[PASSPHRASE_VARIABLE] = PASSPHRASE
        self.stdin = json.dumps(OKX)
        assert self("add", "okx", "--stdin", *words) == 0, self.err

    def field(self, name: str, env: str = "testnet") -> str:
        store = KeyStore(self.path, {PASSPHRASE_VARIABLE: PASSPHRASE}, now_ns=int, keyring=EmptyRing())
        return store.get("okx", env).build(lambda fields: fields[name])


def no_desk() -> NoReturn:
    raise AssertionError("a command of keys asked for a desk")


@pytest.fixture
def face(tmp_path: Path) -> Face:
    return Face(tmp_path)


def test_with_a_terminal_every_part_is_asked_for_hidden_and_the_new_passphrase_twice(face: Face) -> None:
    face.typed = [*OKX.values(), PASSPHRASE, PASSPHRASE]
    assert face("add", "okx", is_tty=True) == 0
    assert [prompt.split(" ")[0] for prompt in face.prompts] == [*OKX, "new", "the"]
    assert "added okx testnet main (hmac, fingerprint " in face.out
    assert "next: keys test okx --env testnet" in face.out
    assert {name: face.field(name) for name in OKX} == OKX
    assert "canary" not in face.shown.replace(str(face.path), "")


def test_without_a_terminal_a_key_comes_from_standard_input_and_the_answer_is_one_document(
    face: Face,
) -> None:
    face.environ[PASSPHRASE_VARIABLE] = PASSPHRASE
    face.stdin = json.dumps(OKX)
    assert face("add", "okx_swap", "--env", "live", "--account", "second", "--stdin", "--json") == 0
    document = json.loads(face.out)
    assert document["replaced"] is False and face.prompts == []
    key = document["key"]
    assert len(key.pop("fingerprint")) == 6
    assert key == {
        "venue": "okx",
        "env": "live",
        "account": "second",
        "backend": "file",
        "kind": "hmac",
        "added_ns": 10**18,
        "is_used": True,
        "note": "",
        "problem": "",
    }
    assert face("list", "--json") == 0
    assert [k["account"] for k in json.loads(face.out)["keys"]] == ["second"]


@pytest.mark.parametrize(
    "text",
    [None, "", "canary", '["canary"]', '{"api_key": 7}', '{"api_key": "canary"}', '{"canary": "canary"}'],
)
def test_standard_input_that_is_no_key_is_refused_without_its_text(face: Face, text: str | None) -> None:
    face.stdin = text
    assert face("add", "okx", "--stdin", "--json") == 2
    assert face.error["fields"][0]["field"] in ("--stdin", "fields")
    assert "canary" not in face.shown and not (face.path / "keys.enc").exists()


def test_without_a_terminal_and_a_passphrase_nothing_is_asked_or_made(face: Face) -> None:
    face.stdin = json.dumps(OKX)
    assert face("add", "okx", "--stdin") == 4
    assert PASSPHRASE_VARIABLE in face.err and not (face.path / "keys.enc").exists()
    assert face("add", "okx") == 2
    assert "needs --stdin" in face.err and face.prompts == []


def test_a_key_is_replaced_only_when_a_person_types_the_venue_or_a_script_says_it(face: Face) -> None:
    face.add_okx()
    face.stdin = json.dumps({**OKX, "passphrase": "another"})
    assert face("add", "okx", "--stdin") == 2
    assert "needs --confirm okx" in face.err
    face.answers = ["yes"]
    assert face("add", "okx", "--stdin", is_tty=True) == 2
    assert face.field("passphrase") == OKX["passphrase"]
    assert face("add", "okx", "--stdin", "--confirm", "okx") == 0
    assert "replaced okx testnet main" in face.out and face.field("passphrase") == "another"


def test_removing_is_confirmed_and_a_key_of_the_environment_is_refused_by_its_variables(face: Face) -> None:
    face.add_okx()
    assert face("remove", "okx") == 2
    face.answers = ["okx"]
    assert face("remove", "okx", is_tty=True) == 0
    assert "removed okx testnet main from the file" in face.out
    assert face("remove", "okx", "--confirm", "okx") == 3
    face.environ |= {"OKX_DEMO_API_KEY": OKX["api_key"], "OKX_DEMO_SECRET": OKX["secret"]}
    face.environ["OKX_DEMO_PASSPHRASE"] = OKX["passphrase"]
    assert face("remove", "okx") == 4
    assert "unset OKX_DEMO_API_KEY" in face.err


def test_the_list_says_where_each_key_is_kept_and_which_is_used(face: Face) -> None:
    assert face("list") == 0
    assert "no keys; add one" in face.out
    face.add_okx()
    face.environ |= {"OKX_DEMO_API_KEY": OKX["api_key"], "OKX_DEMO_SECRET": OKX["secret"]}
    face.environ |= {"OKX_DEMO_PASSPHRASE": OKX["passphrase"], "BACKPACK_KEY": "canary"}
    assert face("list") == 0
    rows = [line.split() for line in face.out.splitlines()]
    assert [row[:2] + row[-1:] for row in rows[1:]] == [
        ["backpack", "live", "below"],
        ["okx", "testnet", "yes"],
        ["okx", "testnet", "shadowed"],
    ]
    assert rows[2][-2] == rows[3][-3], "the same key has the same fingerprint"
    assert "BACKPACK_SECRET: is not set" in face.err
    assert face("list", "backpack", "--json") == 0
    assert [key["venue"] for key in json.loads(face.out)["keys"]] == ["backpack"]
    assert "canary" not in face.shown.replace(str(face.path), "")


def test_a_key_is_tested_by_form_and_by_what_the_venue_says(face: Face) -> None:
    face.add_okx()
    assert face("test", "okx", "--offline") == 0
    assert face("test", "okx") == 4
    assert "okx was not asked: not available yet" in face.out
    heard: list[KeyMaterial] = []

    def probe(material: KeyMaterial) -> Sequence[Finding]:
        heard.append(material)
        return [Finding("pass", "may trade"), Finding("fail", "may withdraw", "take that right away")]

    face.probes = {"okx": probe}
    assert face("test", "okx", "--json") == 4
    assert [f["state"] for f in json.loads(face.out)["findings"]] == ["pass", "pass", "fail"]
    assert [(m.ref.env, m.backend) for m in heard] == [("testnet", "file")]

    def refused(material: KeyMaterial) -> Sequence[Finding]:
        raise Unauthorized("the venue does not know this key", code="50111")

    face.probes = {"okx": refused}
    assert face("test", "okx") == 4 and "does not know this key" in face.err
    face.probes = {"okx": lambda material: [Finding("pass", "may trade")]}
    assert face("test", "okx") == 0


def test_of_several_keys_the_one_that_is_meant_must_be_said(face: Face) -> None:
    face.add_okx()
    face.add_okx("--env", "live")
    assert face("test", "okx", "--offline") == 2
    assert "okx --env live; okx --env testnet" in face.err
    assert face("test", "okx", "--offline", "--env", "demo") == 0
    assert face("test", "thalex") == 3


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["add", "okx", "--secret", "canary"], "--secret"),
        (["add", "okx", "--api-key=canary"], "--api-key"),
        (["add", "okx", "--passphrase", "canary"], "--passphrase"),
        (["add", "okx", "--private-key=canary"], "--private-key"),
        (["add", "okx", "canary"], "keys"),
        (["add", "okx", "secret=canary"], "keys"),
        (["add", "canary"], "venue"),
        (["canary", "okx"], "keys"),
        (["list", "okx", "canary"], "keys"),
        (["add", "okx", "--account", "Canary/canary"], "account"),
        (["add", "okx", "--env", "canary"], "env"),
        (["add", "okx", "--env", "live", "--kind", "canary"], "kind"),
        (["add", "okx", "--backend", "canary"], "--backend"),
        (["add", "okx", "--env", "live", "--pem", "canary"], "--pem"),
        (["add", "thalex", "--pem", "canary"], "--pem"),
        (["add", "thalex", "--pem=-----BEGIN PRIVATE KEY-----\ncanary"], "--pem"),
        (["remove", "okx", "--confirm", "canary"], "--confirm"),
        (["add", "paper"], "venue"),
        (["add"], "keys"),
        ([], "keys"),
    ],
    ids=" ".join,
)
def test_a_word_that_is_no_word_of_the_command_is_refused_by_its_place_and_not_repeated(
    face: Face, words: list[str], named: str
) -> None:
    face.add_okx()
    assert face(*words, "--json") == 2
    assert face.error["fields"][0]["field"] == named
    assert "canary" not in (face.out + face.err).lower()


def test_a_pem_is_read_from_its_file_and_its_password_asked_for(face: Face, tmp_path: Path) -> None:
    pem = tmp_path / "key.pem"
    pem.write_bytes(LOCKED)
    pem.chmod(0o644)
    face.typed = ["canarykey0123456789", "canary-password", PASSPHRASE, PASSPHRASE]
    assert face("add", "binance_spot", "--pem", str(pem), is_tty=True) == 0
    assert "added binance_spot testnet main (ed25519" in face.out
    assert "others on this machine can read the PEM file" in face.err
    face.prompts.clear()
    face.typed, face.answers = ["canarykey0123456789", "wrong"], [str(pem)]
    assert face("add", "binance_spot", "--kind", "ed25519", "--env", "live", is_tty=True) == 2
    assert "private_key: has a password" in face.err
    assert face.prompts[1] == "path of the private key's PEM file: "
    assert "canary" not in face.shown.replace(str(tmp_path), "")


def test_the_passphrase_is_changed_with_a_terminal_only(face: Face) -> None:
    assert face("passphrase", is_tty=True) == 3
    face.add_okx()
    assert face("passphrase") == 4
    face.environ.clear()
    face.typed = [PASSPHRASE, "a new passphrase", "another one typed"]
    assert face("passphrase", is_tty=True) == 2 and "not the same" in face.err
    face.typed = [PASSPHRASE, "a new passphrase", "a new passphrase"]
    assert face("passphrase", is_tty=True) == 0
    face.typed = [PASSPHRASE]
    assert face("test", "okx", "--offline", is_tty=True) == 2
    face.typed = ["a new passphrase"]
    assert face("test", "okx", "--offline", is_tty=True) == 0


def test_a_terminal_without_a_key_store_refuses(face: Face) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert main(["keys", "list"], no_desk, out=out, err=err, is_tty=False) == 4


def test_in_a_real_terminal_nothing_typed_is_shown_or_stands_in_the_arguments(tmp_path: Path) -> None:
    with run_py("--data-dir", str(tmp_path), "--cli", "keys", "add", "okx") as shell:
        seen = _type_all(shell, [*OKX.values(), PASSPHRASE, PASSPHRASE])
        place = Path(f"/proc/{shell.process.pid}/cmdline")
        arguments = place.read_bytes() if place.exists() else b""
        shell.wait_for("added okx testnet main")
        seen += shell.text
        assert shell.code() == 0
    assert "canary" not in seen and b"canary" not in arguments
    assert b"canary" not in (tmp_path / "keys.enc").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["keys.enc", "keys.lock"], "no desk was started"


@contextmanager
def run_py(*words: str) -> Iterator[Terminal]:
    """The program on a pseudo-terminal of its own, the one it asks for secrets on."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _CONTROLLED, sys.executable, str(ROOT / "run.py"), *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _type_all(shell: Terminal, lines: Sequence[str]) -> str:
    """Answer each prompt; what the terminal showed. The prompt comes after the echo was switched off."""
    seen = ""
    for line in lines:
        shell.wait_for(r"\): |again: ")
        shell.type(f"{line}\r")
        seen += shell.text
    return seen


def test_no_child_of_run_py_inherits_a_variable_that_holds_a_key() -> None:
    code = (
        "import os, run, subprocess, sys\n"
        "run._take_key_variables()\n"
        "show = 'import os; print(dict(os.environ))'\n"
        "told = subprocess.run([sys.executable, '-c', show], stdout=-1).stdout\n"
        "assert b'canary' not in told, told\n"
        "assert 'canary' not in str(run._secret_environ('web'))\n"
        "assert str(run._secret_environ('desk')).count('canary') == 3\n"
    )
    names = ("BACKPACK_SECRET", "THALEX_PRIVATE_KEY", PASSPHRASE_VARIABLE)
    environ = {**os.environ, **dict.fromkeys(names, "canary")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
