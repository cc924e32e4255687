"""The Stark curve and Paradex's typed data, against every published vector and against slow arithmetic."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.errors import BadInput
from api.types import Side
from api.venues.paradex import derive, stark
from api.venues.paradex.keys import MAINNET, TESTNET, ParadexKey
from tests.shared import shared

ACCOUNT = "0x129c135ed63df9353885e292be4426b8ed6122b13c6c0e1bb787288a1f5adfa"
PRIVATE = "0x543b6cf6c91817a87174aaea4fb370ac1c694e864d7740d728f8344d53e815"
PUBLIC = 0x2C144D2F2D4FC61B6F8967F3BA0012A87D90140BCFE5A3E92E8DF83258C960F
FIELD = st.one_of(
    st.integers(0, stark.P - 1),
    st.sampled_from((0, 1, 2**248 - 1, 2**248, 2**251, stark.P - 1, 255, 256, 0x100000000)),
)


def vectors(kind: str) -> list[dict[str, Any]]:
    found = json.loads(shared("fixtures/paradex/signing_vectors.json").read_text())[kind]
    assert isinstance(found, list) and found
    return found


def key(chain: str = TESTNET) -> ParadexKey:
    return ParadexKey(ACCOUNT, PRIVATE, chain)


def slow_pedersen(a: int, b: int) -> int:
    low = 2**stark.SPLIT - 1
    total: stark.Point | None = stark.SHIFT
    pairs = ((a & low, stark.P1), (a >> 248, stark.P2), (b & low, stark.P3), (b >> 248, stark.P4))
    for scalar, point in pairs:
        total = stark._add(total, stark.times(scalar, point))
    assert total is not None
    return total[0]


def test_every_primitive_of_the_vectors_is_reproduced() -> None:
    for vector in vectors("primitives"):
        if vector["name"] == "pedersen":
            assert stark.pedersen(int(vector["a"]), int(vector["b"])) == int(vector["expected"])
        else:
            assert stark.public_key(int(vector["private_key"])) == int(vector["expected"])


def test_the_public_pedersen_vector_of_starkware_is_reproduced() -> None:
    a = 0x03D937C035C878245CAF64531A5756109C53068DA139362728FEB561405371CB
    b = 0x0208A0A10250E382E1E4BBE2880906C2791BF6275695E02FBBC6AEFF9CD8B31A
    assert stark.pedersen(a, b) == 0x030E480BED5FE53FA909CC0F8C4D99B8F9F2C016BE4C41E13A4848797979C662


def test_every_typed_hash_of_the_vectors_is_reproduced() -> None:
    for vector in vectors("hashes"):
        typed, struct = vector["typed_data"], vector["struct"]
        fields = typed["types"][struct]
        name = struct + "(" + ",".join(f"{f['name']}:{f['type']}" for f in fields) + ")"
        source = typed["domain"] if struct == "StarkNetDomain" else typed["message"]
        values = [stark.element(str(source[f["name"]])) for f in fields]
        assert stark.chain([stark.selector(name), *values]) == int(vector["expected_hash"], 16)


def test_every_signature_of_the_vectors_is_reproduced_with_its_nonce() -> None:
    for vector in vectors("signatures"):
        private, public = int(vector["l2_private_key"], 16), int(vector["l2_public_key"], 16)
        message = int(vector["expected_message_hash"], 16)
        r, s = (int(part) for part in vector["example_signature"])
        assert stark.public_key(private) == public
        assert stark.sign(message, private) == (r, s)
        assert stark.is_signed(message, (r, s), public)
        assert not stark.is_signed(message + 1, (r, s), public)
        own = ParadexKey(vector["account_address"], vector["l2_private_key"], TESTNET)
        told = vector["typed_data"]["message"]
        if "action" in told:
            assert own.hash_of("onboarding", (stark.short_string(told["action"]),)) == message
            assert own.onboarding() == f'["{r}","{s}"]'
        else:
            terms = int(told["timestamp"]), told["market"], Side.BUY, int(told["size"]), int(told["price"])
            assert own.hash_of("order", own._terms(*terms)) == message
            assert own.order(*terms) == f'["{r}","{s}"]'


def test_every_key_derivation_of_the_vectors_is_reproduced() -> None:
    for vector in vectors("key_derivation"):
        private = derive.stark_key(vector["l1_private_key"], vector["l1_chain_id"])
        public = f"0x{stark.public_key(int(private, 16)):x}"
        hashes = vector["paraclear_account_hash"], vector["paraclear_account_proxy_hash"]
        assert derive.account_address(public, *hashes) == vector["expected_l2_address"]
        assert private == vector.get("expected_l2_private_key", private)
        assert public == vector.get("expected_l2_public_key", public)


def test_the_hashes_of_the_fact_sheet_are_reproduced() -> None:
    terms = (1634736000000, "ETH-USD-PERP", Side.BUY, 121300000, 2950012000000)
    own = key()
    order = own.hash_of("order", own._terms(*terms))
    modify = own.hash_of("modify", (*own._terms(*terms), stark.element("123456")))
    post, path = stark.short_string("POST"), stark.short_string("/v1/auth")
    request = own.hash_of("request", (post, path, 0, 1681759756, 1682364556))
    assert order == 0x77ECCFC3DDB031118E71EF5A32751905D1166C41D75727E2D11AD81307B442
    assert modify == 0x58A4D631D805A34824A4E0870A3E46B1B2828D03EC27AD0F9A76F32C96EA317
    assert request == 0x1871413DC49BA9DF6FE2D57A1CAD50586CEC6F7868C0ADE81629318620F45DC


def test_signatures_say_what_was_ordered_and_for_which_chain() -> None:
    terms = (1634736000000, "ETH-USD-PERP", Side.BUY, 121300000, 2950012000000)
    own = key()
    r, s = json.loads(own.modify(*terms, "123456"))
    message = own.hash_of("modify", (*own._terms(*terms), 123456))
    assert stark.is_signed(message, (int(r), int(s)), PUBLIC)
    sold = own.order(terms[0], terms[1], Side.SELL, terms[3], terms[4])
    assert len({own.order(*terms), sold, key(MAINNET).order(*terms), own.login(1, 2), own.login(1, 3)}) == 5
    assert own.order(*terms) == own.order(*terms)  # the nonce is the order's


@settings(max_examples=60, deadline=None)
@given(FIELD, FIELD)
def test_the_windowed_hash_is_the_plain_one(a: int, b: int) -> None:
    assert stark.pedersen(a, b) == slow_pedersen(a, b)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, stark.TOP - 1), st.integers(1, stark.N - 1))
def test_what_is_signed_verifies_and_nothing_else_does(message: int, private: int) -> None:
    public = stark.public_key(private)
    plain = stark.times(private, stark.G)
    assert plain is not None and plain[0] == public
    r, s = stark.sign(message, private)
    assert 0 < r < stark.TOP and 0 < pow(s, -1, stark.N) < stark.TOP
    assert stark.is_signed(message, (r, s), public)
    assert not stark.is_signed((message + 1) % stark.TOP, (r, s), public)
    assert not stark.is_signed(message, (r, s + 1), public)


def test_points_that_meet_are_doubled_and_not_lost() -> None:
    x, y = stark.G
    doubled, tripled = stark.times(2, stark.G), stark.times(3, stark.G)
    assert doubled is not None and tripled is not None
    assert stark._sum_x(x, y, iter([stark.G])) == doubled[0]
    assert stark._sum_x(x, y, iter([stark.G, stark.G])) == tripled[0]
    with pytest.raises(ValueError):
        stark._sum_x(x, y, iter([(x, stark.P - y)]))


def test_nonces_follow_rfc_6979() -> None:
    """The curve-independent generator against appendix A.2.5 (P-256, SHA-256, "sample")."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    private = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    hashed = 0xAF2BDBE1AA9B6EC1E2ADE1D694F41FC71A831D0268E9891562113D8A62ADD1BF
    seed = private.to_bytes(32, "big") + hashed.to_bytes(32, "big")
    first = next(iter(stark.rfc6979(seed, order)))
    assert first == 0xA6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60


def test_keccak_is_not_sha3() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert stark.keccak256(b"").hex() == empty
    known = pytest.importorskip("Crypto.Hash.keccak")
    for size in (1, 135, 136, 137, 272, 300):  # around the block's length
        data = bytes(range(256))[:size] * 2
        assert stark.keccak256(data) == known.new(digest_bits=256, data=data).digest()


@pytest.mark.parametrize(
    ("account", "private"),
    [
        ("", PRIVATE),
        ("0x", PRIVATE),
        (ACCOUNT, "word"),
        (ACCOUNT, "0x0"),
        (ACCOUNT, hex(stark.N)),
        ("-1", PRIVATE),
    ],
)
def test_a_key_of_another_form_is_refused_without_being_repeated(account: str, private: str) -> None:
    with pytest.raises(BadInput) as bad:
        ParadexKey(account, private, TESTNET)
    assert PRIVATE[2:] not in str(bad.value)


def test_a_key_is_not_shown_nor_written_down() -> None:
    own = key()
    assert repr(own) == f"ParadexKey(account='{ACCOUNT}')" and own.public_key == f"0x{PUBLIC:x}"
    with pytest.raises(TypeError):
        pickle.dumps(own)
    assert ParadexKey(ACCOUNT, str(int(PRIVATE, 16)), TESTNET).public_key == own.public_key
    with pytest.raises(BadInput):
        derive.stark_key("zz", 1)


@pytest.mark.parametrize("values", [(-1, 0), (0, stark.P)])
def test_what_is_no_field_element_is_not_hashed(values: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        stark.pedersen(*values)
    with pytest.raises(ValueError):
        stark.short_string("a" * 32)
    with pytest.raises(ValueError):
        stark.sign(stark.TOP, 1)
    with pytest.raises(ValueError):
        stark.public_key(0)


def test_an_order_is_signed_in_a_few_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    own = key()
    own.order(1, "BTC-USD-PERP", Side.BUY, 1, 1)  # makes the tables
    started, count = time.perf_counter(), 50
    for n in range(count):
        own.order(1_700_000_000_000 + n, "BTC-USD-PERP", Side.BUY, 10_000_000, 150_000_000_000)
    each_ms = (time.perf_counter() - started) / count * 1000
    with capsys.disabled():
        print(f" [{each_ms:.2f} ms an order]", end="")
    assert each_ms < 50  # unwindowed arithmetic takes that long on this machine
