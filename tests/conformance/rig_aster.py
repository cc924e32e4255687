"""Aster's perpetuals over their wire-level fakes, as rigs: V3 by an agent, V1 by HMAC."""

from __future__ import annotations

from typing import Any

from api.signing import HmacKey
from api.venues.aster import AgentKey, AsterTrading, Settings, on_this_machine
from api.venues.usdm_venue import UsdmTrading
from tests.conformance.rig_binance_usdm import KEYS, OTHERWISE, ConformanceRig, UsdmRig
from tests.venues.fake_aster import FakeAster, FakeAsterV1
from tests.venues.fake_binance_usdm import FakeAccount, FakeBinanceUsdm, Symbol

USERS = {"main": "0x63DD5aCC6b1aa0f563956C0e534DD30B6dcF7C4e", "other": "0x" + "22" * 20}
AGENTS = {"main": "11" * 32, "other": "33" * 32}


class AsterRig(UsdmRig):
    venue_name = "aster_perp"

    def __init__(self, path: str = "http", **more: Any) -> None:
        super().__init__(path, **more)

    def make_fake(self, symbols: list[Symbol]) -> FakeBinanceUsdm:
        return FakeAster(symbols)

    def key(self, name: str) -> AgentKey:
        return AgentKey(USERS[name], AGENTS[name])

    def make_account(self, name: str) -> FakeAccount:
        assert isinstance(self.fake, FakeAster)
        return self.fake.agent_account(USERS[name], self.key(name).signer, USDT="100000")

    def make_trading(self, name: str, settings: Settings) -> UsdmTrading:
        where = on_this_machine(self.fake.rest, self.fake.stream)
        return AsterTrading(self.key(name), account=name, settings=settings, where=where)


class AsterV1Rig(UsdmRig):
    venue_name = "aster_perp"

    def make_fake(self, symbols: list[Symbol]) -> FakeBinanceUsdm:
        return FakeAsterV1(symbols)

    def make_trading(self, name: str, settings: Settings) -> UsdmTrading:
        where = on_this_machine(self.fake.rest, self.fake.stream)
        return AsterTrading(HmacKey(*KEYS[name]), account=name, settings=settings, where=where)


def rig() -> ConformanceRig:
    late = {"test_a_late_answer_follows_the_unknown_one": "over HTTP nobody waits for an answer that is late"}
    return ConformanceRig(AsterRig, OTHERWISE | late)
