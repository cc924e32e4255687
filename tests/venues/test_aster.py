"""What is Aster's own: signatures, nonces, codes, its documents' payloads, keys of the older kind. What it
shares with Binance USDT-M is run for both in `test_binance_usdm`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest

from api.errors import BadInput, OutcomeUnknown, Rejected, Unauthorized, Unavailable
from api.exchange import AccountMode
from api.signing import HmacKey
from api.types import (
    _GRANT,
    Approved,
    Cancel,
    FillHeard,
    Instrument,
    InstrumentId,
    OrderHeard,
    Outcome,
    Request,
    Side,
    Status,
)
from api.venues import usdm_messages as say
from api.venues.aster import AgentKey, AsterTrading, Settings, endpoints, on_this_machine, public
from api.venues.aster.eip712 import Nonces, keccak256
from api.venues.aster.venue import RULES, AgentSigner
from api.venues.binance_usdm.venue import HeaderSigner
from api.venues.usdm_public import Wish, decode
from tests.conformance.rig_aster import AGENTS, USERS, AsterRig, AsterV1Rig
from tests.conformance.rig_binance_usdm import Seat, UsdmRig
from tests.shared import shared
from tests.venues import fake_aster

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
USER = "0x63DD5aCC6b1aa0f563956C0e534DD30B6dcF7C4e"
AGENT = "0x4fd0a42218f3eae43a6ce26d22544e986139a01e5b34a62db53757ffca81bae1"
SIGNER = "0x21cF8Ae13Bb72632562c6Fff438652Ba1a151bb0"
MSG = (
    "symbol=ASTERUSDT&type=LIMIT&side=BUY&timeInForce=GTX&quantity=20&price=0.5&nonce=1748310859508867"
    f"&user={USER}&signer={SIGNER}"
)


@pytest.fixture
def make() -> Iterator[Callable[..., Seat]]:
    rigs: list[UsdmRig] = []

    def made(kind: type[UsdmRig] = AsterRig, **more: Any) -> Seat:
        rigs.append(kind("http", **more))
        return Seat(rigs[-1])

    yield made
    for rig in rigs:
        rig.close()


def vectors() -> dict[str, dict[str, Any]]:
    told = json.loads(shared("fixtures/aster/signing_vectors.json").read_text())["vectors"]
    return {vector["name"]: vector for vector in told}


def documented(section: str) -> Iterator[tuple[str, bytes]]:
    path = shared("fixtures/aster/docs_futures_v3.json")
    for entry in json.loads(path.read_text())["payloads"]:
        if section in entry["section"]:
            yield entry["section"], json.dumps(entry["json"]).encode()


# ------------------------------------------------------------------------------------ signatures


@pytest.mark.parametrize(
    ("chain_id", "digest", "signature"),
    [
        (
            1666,
            "cfa10472c6844f9faf97daa7e3990352726ea07c4684e9066ccf590ba5239fe0",
            "1e8b2b05c674747c68cdb9b19cc3399ed84495ee31edce3fb2017bd388ae9c89"
            "24c286434a8d407999378cab3d478f75e7f757e51426a60c83abc87ee2805e471c",
        ),
        (
            714,
            None,
            "a8105ec9a0054321f681199dfdc7144252e9cc49ab79f9453fb67769f9055d4a"
            "5e1a6060fcfaa00eeff21260e9e01c2b79a31c21a0dfdd1cffae09fe6687356a1c",
        ),
    ],
)
def test_the_sheets_signatures_are_reproduced(chain_id: int, digest: str | None, signature: str) -> None:
    key = AgentKey(USER, AGENT)
    domain = key.domain(chain_id)
    assert key.signer == SIGNER
    assert digest in (None, key.digest(domain, MSG.encode()).hex())
    assert key.sign(domain, MSG.encode()) == signature
    assert fake_aster.recovered(MSG, signature, chain_id) == SIGNER.lower()


def test_the_documented_signature_is_reproduced() -> None:
    vector = vectors()["v3_eip712_limit_order"]
    key = AgentKey(vector["user"], vector["private_key"])
    domain = key.domain(vector["domain"]["chainId"])
    text = vector["message_msg"].encode()
    assert key.digest(domain, text).hex() == vector["expected_digest"]
    assert key.sign(domain, text) == vector["expected_signature"]
    assert key.signer == vector["signer"]


def test_the_older_keys_signature_is_reproduced() -> None:
    vector = vectors()["v1_hmac_order"]
    params = {k: v for k, v in vector["params"] if k not in ("timestamp", "recvWindow")}
    signer = HeaderSigner(HmacKey(vector["api_key"], vector["secret_key"]), 5.0)
    stamp_ns = int(dict(vector["params"])["timestamp"]) * 1_000_000
    assert signer.form(params, stamp_ns) == f"{vector['payload']}&signature={vector['expected_signature']}"


def test_what_is_signed_is_what_is_sent_and_always_names_user_and_signer() -> None:
    key = AgentKey(USER, AGENT)
    form = AgentSigner(key, 1666).form({"batchOrders": '[{"a":"b c"}]'}, 1_748_310_859_508_867_000)
    text, _, signature = form.rpartition("&signature=")
    assert text == (
        f"batchOrders=%5B%7B%22a%22%3A%22b%20c%22%7D%5D&nonce=1748310859508867&user={USER}&signer={SIGNER}"
    )
    assert signature == key.sign(key.domain(1666), text.encode())
    with pytest.raises(Rejected):
        AgentSigner(key, 1666).frame("order.place", 1, {}, 0)


@pytest.mark.parametrize("size", [0, 1, 64, 135, 136, 137, 300])
def test_two_keccaks_agree(size: int) -> None:
    data = bytes(range(256)) * 2
    assert keccak256()(data[:size]) == fake_aster.keccak256(data[:size])


def test_the_empty_keccak_is_the_known_one_and_not_sha3() -> None:
    known = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256()(b"").hex() == known


def test_nonces_rise_over_threads_and_follow_the_clock() -> None:
    nonces = Nonces()
    given: list[int] = []

    def take() -> None:
        for _ in range(200):
            given.append(nonces.next(5_000_000_000))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(5_000_000, 5_000_800))
    assert nonces.next(6_000_000_000) == 6_000_000
    assert nonces.next(5_999_000_000) == 6_000_001  # the clock went back a little
    assert nonces.next(5_999_000_000 + 60_000_000_000) == 65_999_000
    assert nonces.next(6_000_000_000) == 6_000_000  # it was found to have been a minute ahead


@pytest.mark.parametrize(
    ("user", "key", "what"),
    [
        ("0x12", AGENT, "address"),
        (USER, "abc", "64 hex"),
        (USER, "0x" + "00" * 32, "curve"),
        (USER, "ff" * 32, "curve"),
    ],
)
def test_a_key_of_the_wrong_form_is_refused_without_showing_it(user: str, key: str, what: str) -> None:
    with pytest.raises(BadInput, match=what) as refused:
        AgentKey(user, key)
    assert key not in str(refused.value)


def test_an_agents_key_is_shown_by_nothing() -> None:
    key = AgentKey(USER, AGENT)
    assert AGENT[2:] not in repr(key) + repr(AgentSigner(key, 1).__dict__)
    with pytest.raises(TypeError):
        key.__reduce__()


# ------------------------------------------------------------------------------------ trading


def test_the_account_tells_its_own_mode_of_self_trade_prevention(make: Callable[..., Seat]) -> None:
    seat = make()
    assert seat.venue.fetch_account_mode() == AccountMode("one-way", "single-asset", "EXPIRE_MAKER", False)


def test_every_request_has_a_nonce_of_its_own(make: Callable[..., Seat]) -> None:
    seat = make().connect()
    for n in range(20):
        seat.send(seat.place(f"n{n}", BUY, 9_990 - n, 60))
    seat.wait(lambda: all(seat.answers(f"n{n}") for n in range(20)))
    nonces = [params["nonce"] for _, _, params in seat.fake.calls if "nonce" in params]
    assert len(set(nonces)) == len(nonces) > 20
    assert not any("timestamp" in params for _, _, params in seat.fake.calls)


def test_a_nonce_that_is_refused_is_made_anew_after_measuring_the_clock(make: Callable[..., Seat]) -> None:
    seat = make().connect()
    seat.fake.fault("error", "order.place", code=-4225, msg="Nonce Expired")
    seat.rest("a")
    seat.fake.fault("error", "order.place", code=-1000, msg="Nonce has been used")
    seat.rest("b", BUY, 9_980)
    seat.fake.fault("error", "order.place", 2, code=-4225, msg="Nonce Expired")
    seat.send(seat.place("c", BUY, 9_970))
    assert seat.answer("c").outcome is Outcome.UNAVAILABLE


def test_an_agent_that_is_not_approved_is_unauthorized(make: Callable[..., Seat]) -> None:
    seat = make()
    for agent, chain_id in (("other", 714), ("main", 1666)):
        where = on_this_machine(seat.fake.rest, seat.fake.stream, chain_id)
        wrong = AsterTrading(AgentKey(USERS["main"], AGENTS[agent]), where=where)
        with pytest.raises(Unauthorized):
            wrong.fetch_balances()
        wrong.close()


@pytest.mark.parametrize("code", [-5022, -2010])
def test_every_way_to_refuse_a_crossing_post_only_order_is_understood(
    make: Callable[..., Seat], code: int
) -> None:
    seat = make().connect()
    seat.fake.fault("error", "order.place", code=code, msg="NEW_ORDER_REJECTED")
    seat.send(seat.place("x"))
    assert (seat.answer("x").outcome, seat.answer("x").error) == (Outcome.REJECTED, "WouldCross")
    seat.fake.fault("error", "order.place", code=-2010, msg="NEW_ORDER_REJECTED")
    seat.send(seat.place("y", post_only=False))
    assert seat.answer("y").error == "Rejected"


@pytest.mark.parametrize(
    "text", ["Service Unavailable.", "Internal error; unable to process your request", ""]
)
def test_503_is_always_unknown_here(text: str) -> None:
    assert type(RULES.error_of(503, None, text, is_write=True)) is OutcomeUnknown
    assert type(RULES.error_of(503, None, text, is_write=False)) is Unavailable


def test_a_commission_written_negative_is_paid_where_it_is_set_so(make: Callable[..., Seat]) -> None:
    seat = make(fees_paid_are_negative=True)
    seat.fake.fee_text = lambda fee: f"{-fee:.8f}"  # type: ignore[method-assign]
    seat.connect()
    seat.send(seat.place("t", BUY, 10_010, 100, post_only=False))
    seat.status("t", Status.FILLED)
    (heard,), (read,) = seat.fills("t"), seat.venue.fetch_fills(seat.btc, 0)
    assert heard.fee == read.fee == D("0.005005")


def test_an_old_key_trades_as_before(make: Callable[..., Seat]) -> None:
    seat = make(AsterV1Rig).connect()
    seat.rest("a", BUY, 9_990, 100)
    seat.send(Cancel("a", seat.btc))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    seat.rest("b", BUY, 9_990, 100)
    seat.rig.trade(SELL, 9_900, 500)
    seat.status("b", Status.FILLED)
    assert [fill.client_id for fill in seat.venue.fetch_fills(seat.btc, 0)] == ["b"]
    assert [position.qty for position in seat.venue.fetch_positions()] == [D("0.100")]
    assert seat.venue.fetch_balances()[0].asset == "USDT"
    assert seat.venue.fetch_key_rights().can_trade
    assert seat.venue.fetch_account_mode().self_trade_prevention is None
    (asked, _) = seat.sent("order.place")
    assert "stpMode" not in asked


def test_the_old_requests_are_those_of_another_client(make: Callable[..., Seat]) -> None:
    cases = json.loads(shared("fixtures/aster/ccxt_requests.json").read_text())["cases"]
    want = {case["method"]: case for case in cases}
    seat = make(AsterV1Rig).connect()
    seat.rest("a")
    seat.venue.cancel_all(seat.btc)
    seat.venue.fetch_open_orders(seat.btc)
    seat.venue.fetch_positions()
    for method, path, verb in (
        ("cancelAllOrders", "/fapi/v1/allOpenOrders", "DELETE"),
        ("fetchOpenOrders", "/fapi/v1/openOrders", "GET"),
        ("fetchPositionsRisk", "/fapi/v2/positionRisk", "GET"),
    ):
        case = want[method]
        url, _, query = case["url"].partition("?")
        assert url == f"https://fapi.asterdex.com{path}"
        known = seat.fake.methods_at[verb, path][0]
        theirs = dict(parse_qsl(case["output"] or query))
        assert any(set(params) == set(theirs) for params in seat.sent(known)), method


# ------------------------------------------------------------------------------------ codes


def test_each_code_of_the_document_has_a_class_and_few_leave_the_outcome_unknown() -> None:
    codes = json.loads(shared("fixtures/aster/error_codes.json").read_text())["codes"]
    assert len(codes) == 157
    unknown = []
    for row in codes:
        for text in row["msg"]:
            kind = RULES.kind_of(row["code"], text)
            assert kind is not None, row
            if kind is OutcomeUnknown:
                unknown.append(row["code"])
    assert sorted(set(unknown)) == [-1010, -1007, -1006, -1001, -1000]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (-2018, "InsufficientFunds"),
        (-2019, "InsufficientFunds"),
        (-2022, "Rejected"),
        (-2011, "UnknownOrder"),
        (-2013, "UnknownOrder"),
        (-4164, "BelowMinimum"),
        (-5076, "BelowMinimum"),
        (-5060, "BelowMinimum"),
        (-4061, "Rejected"),
        (-2020, "Rejected"),
        (-2021, "Rejected"),
        (-2025, "Rejected"),
        (-4015, "Rejected"),
        (-4115, "Rejected"),
        (-1022, "Unauthorized"),
        (-1003, "RateLimited"),
        (-1015, "RateLimited"),
        (-1007, "OutcomeUnknown"),
        (-1021, "Unavailable"),
    ],
)
def test_each_code_of_the_sheet_has_its_class(code: int, error: str) -> None:
    assert type(RULES.error_of(400, code, "so", is_write=True)).__name__ == error


# ------------------------------------------------------------------------------------ payloads


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("Aggregate Trade Streams", public.PublicTrade),
        ("> Mark Price Stream", public.MarkPrice),
        ("Kline/Candlestick Streams", public.Kline),
        ("Individual Symbol Book Ticker", public.Touch),
        ("Partial Book Depth", public.DepthDiff),
        ("Diff. Book Depth", public.DepthDiff),
        ("Subscribe to a stream", public.Control),
    ],
)
def test_every_documented_stream_we_consume_is_read(section: str, kind: type) -> None:
    raws = [raw for _, raw in documented(section)]
    assert raws and type(decode(raws[0])) is kind


def test_every_documented_answer_we_consume_is_read() -> None:
    readers: list[tuple[str, Callable[[bytes], Any]]] = [
        ("Exchange Information", public.decode_exchange),
        ("> Order Book", public.decode_snapshot),
        ("Symbol Order Book Ticker", public.decode_touch),
        ("> Kline/Candlestick Data", lambda raw: public.decode_klines(raw, "X", "1m", 0)),
        ("Check Server Time", say.decode_time),
        ("> New Order", say.decode_order),
        ("> Query Order", say.decode_order),
        ("> Cancel Order", say.decode_order),
        ("Query Current Open Order", say.decode_order),
        ("Cancel Multiple Orders", say.decode_batch),
        ("Cancel All Open Orders (TRADE)", say.decode_done),
        ("Auto-Cancel", say.decode_countdown),
        ("Account Balance v3", say.decode_balances),
        ("Position Information v3", say.decode_positions),
        ("Income History", say.decode_income),
        ("User Commission Rate", say.decode_commission),
        ("Current Position Mode", say.decode_position_mode),
        ("Current STP Mode", say.decode_stp_mode),
        ("Current Multi-Assets", say.decode_assets_mode),
        ("Start User Data Stream", say.decode_listen_key),
        ("Balance and Position Update", say.decode_account),
        ("User Data Stream Expired", say.decode_pushed),
        ("Error Codes and Messages", say.decode_refusal),
    ]
    for section, reader in readers:
        raws = [raw for _, raw in documented(section)]
        assert raws, section
        if section != "Auto-Cancel" or raws:
            reader(raws[0])
    saved = json.loads(shared("fixtures/aster/account_v4_response.json").read_text())["payloads"][0]["json"]
    assert say.decode_rights(json.dumps(saved).encode()).canTrade is True


def test_the_documented_order_event_is_read() -> None:
    ((_, raw),) = documented("Event: Order Update")
    instrument = Instrument(
        InstrumentId.of("aster_perp", "BTC-USDT-PERP"),
        *("BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(5), D(0), D(0), "BTCUSDT", "perp"),
    )
    events = say.heard(say.decode_update(raw).o, instrument, "main", 1, 1)
    assert [type(event) for event in events] == [OrderHeard]
    assert not any(isinstance(event, FillHeard) for event in events)


def test_one_address_carries_two_hundred_streams() -> None:
    where = endpoints("live")
    urls = public.stream_urls(where, [Wish(f"S{n}USDT") for n in range(100)])
    assert [url.count("@") for url in urls] == [200 + 67, 100 + 33]
    assert all(url.startswith("wss://fstream.asterdex.com/stream?streams=s") for url in urls)
    with pytest.raises(ValueError, match="nothing"):
        public.stream_urls(where, [])
    assert public.snapshot_path("X").startswith("/fapi/v3/depth?symbol=X")
    assert public.klines_path("X", "1m") == "/fapi/v3/klines?symbol=X&interval=1m&limit=500"


def test_instruments_take_their_names_from_their_assets() -> None:
    ((_, raw),) = documented("Exchange Information")
    (found,) = public.instruments_of(public.decode_exchange(raw), public.Rates(D(0), D("0.0004")))
    assert (found.id, found.venue_symbol) == ("aster_perp:BLZ-USDT-PERP", "DOGEUSDT")
    assert (found.min_notional, found.lot, found.contract_size) == (D(1), D(1), D(1))


def test_another_of_the_documented_hosts_may_be_chosen_and_no_other() -> None:
    where = endpoints("live")
    assert where.with_rest("https://fapi3.asterdex.com").rest == "https://fapi3.asterdex.com"
    assert endpoints("testnet").with_stream("wss://fstream.asterdex-testnet.com").chain_id == 714
    with pytest.raises(BadInput):
        where.with_rest("https://fapi.example.com")
    with pytest.raises(BadInput):
        endpoints("demo")
    with pytest.raises(BadInput):
        on_this_machine("https://fapi.asterdex.com", "ws://127.0.0.1:1")


def test_orders_are_sent_as_a_form_and_never_over_a_socket(make: Callable[..., Seat]) -> None:
    seat = make().connect()
    seat.venue.send_batch([Approved(seat.place("a"), "w", _GRANT)])
    assert seat.answer("a").outcome is Outcome.ACCEPTED
    assert {how for how, _, _ in seat.fake.calls} == {"http"}
    assert seat.fake.sockets("api") == []
    assert Settings().order_path == "socket"  # the default asks for one where there is one
