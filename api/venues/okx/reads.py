"""What an OKX account tells when it is asked: orders, fills, balances, positions, fees, funding, rights.

Hides: paths, paging, how far back each history reaches. Must not know: threads, the WebSocket, engines.
Called by `venue`. A page that cannot be read, or a history longer than `MOST_PAGES`, is an error and never
a part.
"""

from __future__ import annotations

from api.errors import Unavailable, UnknownOrder
from api.exchange import AccountMode, FeeRates, FundingPayment, KeyRights
from api.types import Balance, Fill, InstrumentId, OrderReport, Position
from api.venues.okx import messages as say
from api.venues.okx import requests as ask
from api.venues.okx.account import Account
from api.venues.okx.public import MS, SPOT, Market

PAGE = 100
MOST_PAGES = 500  # of one history; a longer one is refused rather than cut
DAY_MS = 24 * 3600 * 1000
RECENT_FILLS_MS = 3 * DAY_MS - 3600 * 1000  # `/trade/fills` reaches back three days
RECENT_BILLS_MS = 7 * DAY_MS - 3600 * 1000


class ReadAccount(Account):
    """The account with its reads; each goes to the venue and raises ExchangeError."""

    def fetch_balances(self) -> tuple[Balance, ...]:
        self.need_markets()
        rows = self.signed("balance", "/api/v5/account/balance", {}, say.decode_accounts)
        level = self.mode.level if self.mode is not None else ""
        try:
            balances = tuple(say.balance_of(row, level) for account in rows for row in account.details)
        except say.UNREADABLE:
            raise Unavailable("OKX tells a balance that is no number") from None
        with self.lock:
            self.balances = {balance.asset: balance for balance in balances}
        return balances

    def fetch_rows(self, instrument: InstrumentId | None) -> list[tuple[say.OrderRow, Market]]:
        """Every open order of this product, all pages."""
        self.need_markets()
        params: dict[str, str | int] = {"limit": PAGE}
        if instrument is not None:
            params["instId"] = self.terms(instrument).name[0]
        found: dict[str, say.OrderRow] = {}
        for _ in range(MOST_PAGES):
            rows = self.signed("orders-pending", "/api/v5/trade/orders-pending", params, say.decode_orders)
            found.update((row.ordId, row) for row in rows)
            if len(rows) < PAGE:
                break
            params["after"] = rows[-1].ordId
        else:
            raise Unavailable("OKX lists more open orders than can be")
        known = ((row, self.symbols.called(row.instId)) for row in found.values())
        return [(row, market) for row, market in known if market is not None]

    def fetch_open(self, instrument: InstrumentId | None) -> tuple[OrderReport, ...]:
        reports = []
        for row, market in self.fetch_rows(instrument):
            report = self._report(row, market)
            if report.ticks:
                self.note_rest(report.client_id, report.ticks, report.lots)
            reports.append(report)
        return tuple(reports)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        """Raises UnknownOrder; also for an order that ended unfilled more than about two hours ago."""
        terms = self.terms(instrument)
        params = {"instId": terms.name[0], "clOrdId": ask.theirs_of(client_id)}
        rows = self.signed("order", "/api/v5/trade/order", params, say.decode_orders)
        if not rows:
            raise UnknownOrder("OKX shows no order of this client id")
        return self._report(rows[0], terms.market)

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        """Of the last three months, which is what OKX keeps; all pages."""
        terms = self.terms(instrument)
        since_ms = max(0, since_ns // MS)
        is_recent = self.stamp_ms() - since_ms < RECENT_FILLS_MS
        pool = "fills" if is_recent else "fills-history"
        params: dict[str, str | int] = {"instType": terms.market.inst_type, "instId": terms.name[0]}
        if terms.market.inst_type == "SPOT":
            del params["instType"]  # a spot order in a margin account counts as MARGIN
            if not is_recent:
                params["instType"] = "MARGIN" if terms.trade_mode == "cross" else "SPOT"
        params |= {"begin": max(0, since_ms - 1000), "limit": PAGE}
        found: dict[str, say.FillRow] = {}
        for _ in range(MOST_PAGES):
            rows = self.signed(pool, f"/api/v5/trade/{pool}", params, say.decode_fills)
            found.update((row.billId, row) for row in rows)
            if len(rows) < PAGE:
                break
            params["after"] = rows[-1].billId
        else:
            raise Unavailable("OKX lists more fills than can be read at once")
        try:
            fills = [
                say.fill_of(row, terms.market.instrument, self.name, self.ours(row.clOrdId))
                for row in found.values()
            ]
        except say.UNREADABLE:
            raise Unavailable("OKX lists a fill that cannot be read") from None
        unique = {fill.trade_id: fill for fill in fills if fill.venue_ns >= since_ns}
        order = {say.trade_key(row.tradeId, row.ordId): _bill(row.billId) for row in found.values()}
        return tuple(sorted(unique.values(), key=lambda fill: (fill.venue_ns, order[fill.trade_id])))

    def fetch_positions(self) -> tuple[Position, ...]:
        """In hedge mode a long and a short one of the same market are two."""
        if self.venue == SPOT:
            return ()
        self.need_markets()
        rows = self.signed("positions", "/api/v5/account/positions", {}, say.decode_positions)
        positions = []
        for row in rows:
            market = self.symbols.called(row.instId)
            if market is None:
                continue
            try:
                position = say.position_of(row, market.instrument)
            except say.UNREADABLE:
                raise Unavailable("OKX tells a position that is no number") from None
            if position is not None:
                positions.append(position)
        return tuple(positions)

    def fetch_fee_rates(self, instrument: InstrumentId) -> FeeRates:
        market = self.terms(instrument).market
        params = {"instType": market.inst_type}
        if market.group:
            params["groupId"] = market.group
        elif market.inst_type == "SPOT":
            params["instId"] = market.instrument.venue_symbol
        elif market.family:
            params["instFamily"] = market.family
        groups, flat = self.fees(params)
        found = groups.get(market.group) or (next(iter(groups.values())) if len(groups) == 1 else flat)
        if found is None:
            raise Unavailable(f"OKX names no fee rates for {market.instrument.symbol}")
        return found

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        """Of the last three months; funding bills are told by their sub-type (173 paid, 174 received)."""
        terms = self.terms(instrument)
        if terms.market.inst_type != "SWAP":
            return ()
        since_ms = max(0, since_ns // MS)
        pool = "bills" if self.stamp_ms() - since_ms < RECENT_BILLS_MS else "bills-archive"
        params: dict[str, str | int] = {"instType": "SWAP", "begin": since_ms, "limit": PAGE}
        found: dict[str, say.BillRow] = {}
        for _ in range(MOST_PAGES):
            rows = self.signed(pool, f"/api/v5/account/{pool}", params, say.decode_bills)
            found.update((row.billId, row) for row in rows)
            if len(rows) < PAGE:
                break
            params["after"] = rows[-1].billId
        else:
            raise Unavailable("OKX lists more bills than can be read at once")
        symbol = terms.name[0]
        rows = [row for row in found.values() if row.instId == symbol and row.subType in say.FUNDING]
        try:
            payments = [say.funding_of(row, instrument) for row in rows]
        except say.UNREADABLE:
            raise Unavailable("OKX lists a bill that cannot be read") from None
        kept = (payment for payment in payments if payment.venue_ns >= since_ns)
        return tuple(sorted(kept, key=lambda p: (p.venue_ns, _bill(p.payment_id))))

    def fetch_key_rights(self) -> KeyRights:
        return say.rights_of(self.config())

    def fetch_account_mode(self) -> AccountMode:
        return say.account_mode_of(self.config())

    def _report(self, row: say.OrderRow, market: Market) -> OrderReport:
        try:
            return say.report_of(row, market.instrument, self.ours(row.clOrdId), self.clock.now_ns())
        except say.UNREADABLE as error:
            raise Unavailable(f"OKX shows an order that we cannot read: {error}") from None


def _bill(number: str) -> int:
    """Bill ids rise; one that is no number sorts first."""
    return int(number) if number.isascii() and number.isdigit() else 0
