"""The old console's four endpoints: shapes and number types as they were, acting on one worker named
`default`.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
import requests

from api.desk import WorkerView
from api.errors import BadInput
from tests.web.face import TOKEN, Face, until
from web.rest.legacy import canonical_symbol

START: dict[str, Any] = {"exchange": "paper", "symbol": "ETH-USDT", "spread": 0.2}

OLD_FIELDS = {
    "symbol": str,
    "exchange": str,
    "base_asset": str,
    "quote_asset": str,
    "base_balance": float,
    "quote_balance": float,
    "total_balance_usd": float,
    "current_price": float,
    "total_trades": int,
    "buy_trades": int,
    "sell_trades": int,
    "maker_buy_volume": float,
    "maker_sell_volume": float,
    "taker_buy_volume": float,
    "taker_sell_volume": float,
    "total_fees": float,
    "total_volume_usdc": float,
    "realized_pnl": float,
    "unrealized_pnl": float,
    "session_realized_pnl": float,
    "total_pnl": float,
    "cumulative_pnl": float,
    "slippage_rate": float,
    "runtime_seconds": int,
    "runtime_formatted": str,
}


def start(face: Face, **changes: Any) -> requests.Response:
    return face.http.post(face.url + "/api/start", json={**START, **changes})


def status(face: Face) -> Any:
    return face.http.get(face.url + "/api/status").json()


def default_of(face: Face) -> WorkerView:
    (found,) = [worker for worker in face.desk.workers() if worker.name == "default"]
    return found


def test_before_the_first_start_it_says_so_in_the_old_shape(face: Face) -> None:
    assert status(face) == {
        "running": False,
        "strategy": None,
        "start_time": None,
        "last_update": None,
        "stats": {},
    }


def test_config_tells_what_can_be_started(face: Face) -> None:
    assert face.http.get(face.url + "/api/config").json() == {
        "exchanges": ["paper"],
        "market_types": ["spot"],
        "strategies": ["standard"],
        "env_configured": {"paper": True},
    }


def test_a_start_answers_in_the_old_shape_and_runs_the_worker_default(face: Face) -> None:
    answer = start(face)
    assert answer.status_code == 200
    told = answer.json()
    assert told["success"] is True
    assert isinstance(told["message"], str)
    assert told["config"] == {
        "exchange": "paper",
        "symbol": "ETH-USDT",
        "spread": 0.2,
        "market_type": "spot",
        "strategy": "standard",
    }
    worker = default_of(face)
    assert worker.state == "running"
    assert worker.params == {
        "spread": 0.2,
        "quantity": None,
        "max_orders": 3,
        "duration": 3600.0,
        "interval": 60.0,
    }


def test_status_has_every_old_field_with_its_type_while_running_and_after(face: Face) -> None:
    start(face)
    face.desk.tick(50)
    for is_running in (True, False):
        told = status(face)
        assert told["running"] is is_running
        assert told["strategy"] == "standard"
        assert told["start_time"].startswith("20")
        assert told["last_update"].startswith("20")
        stats = told["stats"]
        wrong = {
            name: stats[name]
            for name, kind in OLD_FIELDS.items()
            if not isinstance(stats[name], kind) or isinstance(stats[name], bool)
        }
        assert wrong == {}
        assert stats["worker_id"] == default_of(face).id
        assert stats["base_balance"] != 0
        assert stats["total_trades"] > 0
        face.http.post(face.url + "/api/stop")


def test_slippage_keeps_its_sign_and_wear_is_its_opposite_with_all_parts(face: Face) -> None:
    start(face)
    face.desk.tick(200)
    stats = status(face)["stats"]
    worker = default_of(face)
    cumulative = worker.stats.realized - worker.stats.fees
    assert stats["cumulative_pnl"] == pytest.approx(float(cumulative))
    assert stats["slippage_rate"] == pytest.approx(float(cumulative / worker.stats.traded_quote * 100))
    assert worker.stats.net is not None
    wear = -worker.stats.net / worker.stats.traded_quote * 100
    assert stats["wear_rate"] == pytest.approx(float(wear), abs=1e-5)
    assert stats["total_pnl"] == pytest.approx(float(worker.stats.net))


def test_a_second_start_is_a_400_while_it_runs_also_while_paused(face: Face) -> None:
    assert start(face).status_code == 200
    second = start(face, spread=0.5)
    assert second.status_code == 400
    assert second.json()["success"] is False
    assert "running" in second.json()["message"]
    face.desk.pause(default_of(face).id, by="test")
    assert start(face).status_code == 400
    assert default_of(face).params["spread"] == 0.2


def test_of_many_starts_at_once_one_succeeds(face: Face) -> None:
    codes: list[int] = []

    def go() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        codes.append(requests.post(face.url + "/api/start", json=START, headers=headers).status_code)

    threads = [threading.Thread(target=go) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200] + [400] * 11
    assert [call[0] for call in face.desk.calls].count("start") == 1


def test_stop_stops_only_default_and_can_be_asked_twice(face: Face) -> None:
    start(face)
    first = face.http.post(face.url + "/api/stop").json()
    assert first["success"] is True
    assert first["receipt"]["confirmed"] is True
    again = face.http.post(face.url + "/api/stop")
    assert again.status_code == 200
    assert again.json()["success"] is True
    assert face.desk.worker("w1").state == "running"
    assert default_of(face).state == "stopped"


def test_a_start_after_a_stop_takes_the_new_numbers_and_another_market_too(face: Face) -> None:
    start(face, quantity=0.5, max_orders=5)
    face.http.post(face.url + "/api/stop")
    start(face, spread=0.4)
    assert default_of(face).params == {
        "spread": 0.4,
        "quantity": None,
        "max_orders": 3,
        "duration": 3600.0,
        "interval": 60.0,
    }
    face.http.post(face.url + "/api/stop")
    assert start(face, symbol="BTC_USDT").json()["config"]["symbol"] == "BTC-USDT"
    assert default_of(face).symbol == "BTC-USDT"


def test_the_old_form_as_it_was_sent_works_but_for_rebalancing(face: Face) -> None:
    form = {
        "exchange": "paper",
        "symbol": "ETH_USDT",
        "spread": "0.3",
        "quantity": "",
        "max_orders": "3",
        "duration": "3600",
        "interval": "10",
        "market_type": "spot",
        "strategy": "standard",
        "enable_db": False,
        "target_position": 1,
        "max_position": 1.0,
        "position_threshold": 0.1,
        "inventory_skew": 0,
        "stop_loss": None,
        "take_profit": None,
        "enable_rebalance": True,
        "base_asset_target": 30,
        "rebalance_threshold": 15,
    }
    refused = face.http.post(face.url + "/api/start", json=form)
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == ["enable_rebalance"]
    taken = face.http.post(face.url + "/api/start", json={**form, "enable_rebalance": False})
    assert taken.status_code == 200, taken.text
    assert default_of(face).params["interval"] == 10.0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"spread": 0}, "spread"),
        ({"spread": -1}, "spread"),
        ({"spread": "0"}, "spread"),
        ({"spread": ""}, "spread"),
        ({"spread": None}, "spread"),
        ({"spread": "nan"}, "spread"),
        ({"spread": "inf"}, "spread"),
        ({"spread": True}, "spread"),
        ({"spread": [1]}, "spread"),
        ({"quantity": -1}, "quantity"),
        ({"max_orders": 1.5}, "max_orders"),
        ({"max_orders": 0}, "max_orders"),
        ({"duration": "soon"}, "duration"),
        ({"interval": -5}, "interval"),
        ({"exchange": "backpack"}, "exchange"),
        ({"symbol": "SOL_USDC"}, "symbol"),
        ({"symbol": "ETH_USDT_PERP"}, "symbol"),
        ({"market_type": "perp"}, "market_type"),
        ({"strategy": "maker_hedge"}, "strategy"),
        ({"enable_rebalance": True}, "enable_rebalance"),
        ({"enable_db": True}, "enable_db"),
        ({"max_position": 5}, "max_position"),
        ({"target_position": 0}, "target_position"),
        ({"inventory_skew": 0.3}, "inventory_skew"),
        ({"stop_loss": -10}, "stop_loss"),
        ({"take_profit": "10"}, "take_profit"),
        ({"base_asset_target": 50}, "base_asset_target"),
        ({"grid_num": 10}, "grid_num"),
        ({"api_key": "x"}, "api_key"),
    ],
    ids=repr,
)
def test_what_cannot_be_done_is_refused_by_name_and_starts_nothing(
    face: Face, changes: dict[str, Any], field: str
) -> None:
    answer = start(face, **changes)
    assert answer.status_code == 400
    told = answer.json()
    assert told["success"] is False
    assert told["message"]
    assert field in [error["field"] for error in told["errors"]]
    assert not status(face)["running"]
    assert len(face.desk.workers()) == 1


@pytest.mark.parametrize("missing", ["exchange", "symbol", "spread"])
def test_the_three_required_fields_are_required(face: Face, missing: str) -> None:
    body = {name: value for name, value in START.items() if name != missing}
    answer = face.http.post(face.url + "/api/start", json=body)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [missing]


def test_a_start_on_a_killed_desk_is_a_400_in_the_old_shape(face: Face) -> None:
    face.desk.kill(reason="test", by="test")
    answer = start(face)
    assert answer.status_code == 400
    assert "killed" in answer.json()["message"]


def test_the_default_worker_is_a_worker_like_any_other(face: Face) -> None:
    start(face)
    heard = face.client()
    one = default_of(face).id
    heard.wait_for("snapshot", f"worker/{one}")
    until(lambda: {s["worker_id"] for s in heard.of("stats_update")} == {"w1", one}, "stats of both")


SYMBOLS = ["BTC-USDT", "ETH-USDT", "SOL-USDC"]


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("BTC-USDT", "BTC-USDT"),
        ("SOL_USDC", "SOL-USDC"),
        ("ETHUSDT", "ETH-USDT"),
        ("eth/usdt", "ETH-USDT"),
    ],
)
def test_old_spellings_mean_the_one_symbol_they_can(text: str, symbol: str) -> None:
    assert canonical_symbol(text, SYMBOLS) == symbol


def test_a_spelling_that_can_mean_two_is_refused_with_both() -> None:
    with pytest.raises(BadInput, match="AB-C, A-BC"):
        canonical_symbol("ABC", ["AB-C", "A-BC"])
