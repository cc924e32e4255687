"""Backpack against the peer: ccxt's client trades on our fake, and signs the same request as we do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.venues.backpack.signing import headers, key_from_seed
from tests.venues.fake_backpack import FakeBackpack
from tests.venues.test_backpack_wire import PUBLIC, SEED_B64, book

ccxt = pytest.importorskip("ccxt", reason="needs ccxt, which is among the test extras")


@pytest.fixture
def fake() -> Iterator[FakeBackpack]:
    made = FakeBackpack()
    book(made)
    made.account(PUBLIC, USDC="1000", SOL="10")
    yield made
    made.close()


@pytest.fixture
def peer(fake: FakeBackpack) -> Iterator[Any]:
    made = ccxt.backpack({"apiKey": PUBLIC, "secret": SEED_B64})
    made.urls["api"] = {name: fake.rest for name in made.urls["api"]}
    yield made
    made.session.close()


def test_the_peer_trades_on_the_fake(peer: Any, fake: FakeBackpack) -> None:
    assert set(peer.load_markets()) == {"SOL/USDC", "SOL/USDC:USDC"}
    made = peer.create_order("SOL/USDC", "limit", "buy", 0.1, 99.5, {"clientOrderId": 77})
    assert [order["id"] for order in peer.fetch_open_orders("SOL/USDC")] == [made["id"]]
    (canceled,) = peer.cancel_all_orders("SOL/USDC")
    assert (canceled["status"], canceled["clientOrderId"]) == ("canceled", "77")
    assert peer.create_order("SOL/USDC", "limit", "buy", 0.1, 100.1)["status"] == "closed"
    (trade,) = peer.fetch_my_trades("SOL/USDC")
    assert (trade["price"], trade["fee"]["cost"]) == (100.1, 0.005005)
    assert peer.fetch_balance()["total"]["SOL"] == 10.1


def test_the_peer_signs_the_same_request_as_we_do(peer: Any) -> None:
    """Given one time and window. Different on purpose: ccxt adds a broker's id as a header, unsigned."""
    peer.load_markets()
    peer.nonce = peer.milliseconds = lambda: 1750793021519
    asked = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "99.5", "quantity": "0.1"}
    signed = peer.sign("api/v1/order", ["private"], "POST", {**asked, "postOnly": True})
    body = json.loads(signed["body"])
    theirs = signed["headers"]
    window = int(theirs["X-Window"])
    ours = headers(key_from_seed(PUBLIC, SEED_B64), "orderExecute", body, 1750793021519, window)
    assert {name: theirs[name] for name in ours} == ours
    assert body == {**asked, "postOnly": True}
