"""A Paradex account's key: it signs orders, modifications, logins and the onboarding, and is never shown.

Hides: typed data, the private key, what of a hash can be computed once. Must not know: sockets, what an
answer means. Called by `account` (orders), `tokens` (logins) and `venue` (onboarding).

The typed data is SNIP-12 revision 0: H = hash("StarkNet Message", domain, account, message). Of it the
domain, the account and each message's type come first in their chains, so those are hashed once per key.
Instruction, client id, flags and self-trade prevention are not signed: that is the venue's scheme.
"""

from __future__ import annotations

from api.errors import BadInput
from api.types import Side
from api.venues.paradex import stark

MAINNET, TESTNET = "PRIVATE_SN_PARACLEAR_MAINNET", "PRIVATE_SN_POTC_SEPOLIA"
_FIELDS = "timestamp:felt,market:felt,side:felt,orderType:felt,size:felt,price:felt"
TYPES = {
    "domain": "StarkNetDomain(name:felt,chainId:felt,version:felt)",
    "order": f"Order({_FIELDS})",
    "modify": f"ModifyOrder({_FIELDS},id:felt)",
    "request": "Request(method:felt,path:felt,body:felt,timestamp:felt,expiration:felt)",
    "onboarding": "Constant(action:felt)",
}
_SIDES = {Side.BUY: 1, Side.SELL: 2}


class ParadexKey:
    """See the module docstring. Its repr shows the account alone.

    Args:
        account: address of the (main) account, `0x...`. private: the account's Stark key or a subkey's,
            `0x...` or decimal.
        chain: `starknet_chain_id` of `/system/config`.

    Raises:
        BadInput: one of them has another form; the text of the key is not repeated.
    """

    __slots__ = (
        "_account",
        "_after",
        "_before",
        "_market_names",
        "_private",
        "account",
        "chain",
        "public_key",
    )

    def __init__(self, account: str, private: str, chain: str) -> None:
        self._account = _number("account", account, stark.P)
        self._private = _number("private key", private, stark.N)
        self.account = f"0x{self._account:x}"
        self.chain = chain
        self.public_key = f"0x{stark.public_key(self._private):x}"
        domain = stark.chain(
            (stark.selector(TYPES["domain"]), stark.short_string("Paradex"), stark.short_string(chain), 1)
        )
        before = 0
        for part in (stark.short_string("StarkNet Message"), domain, self._account):
            before = stark.pedersen(before, part)
        self._before = before
        self._after = {
            name: stark.pedersen(0, stark.selector(text)) for name, text in TYPES.items() if name != "domain"
        }
        self._market_names: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"ParadexKey(account={self.account!r})"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written down")

    def order(self, at_ms: int, market: str, side: Side, size_e8: int, price_e8: int) -> str:
        """The signature of a limit order. Size and price are times 10^8, exact."""
        return self._signed("order", self._terms(at_ms, market, side, size_e8, price_e8))

    def modify(self, at_ms: int, market: str, side: Side, size_e8: int, price_e8: int, order_id: str) -> str:
        """The signature of a modification. Raises ValueError for an id that cannot be signed."""
        terms = (*self._terms(at_ms, market, side, size_e8, price_e8), stark.element(order_id))
        return self._signed("modify", terms)

    def login(self, at_s: int, until_s: int, path: str = "/v1/auth") -> str:
        """The signature of a request for a token, in seconds."""
        return self._signed(
            "request", (stark.short_string("POST"), stark.short_string(path), 0, at_s, until_s)
        )

    def onboarding(self) -> str:
        return self._signed("onboarding", (stark.short_string("Onboarding"),))

    def hash_of(self, kind: str, terms: tuple[int, ...]) -> int:
        """The message hash of one of `TYPES` for this account."""
        inner = self._after[kind]
        for term in terms:
            inner = stark.pedersen(inner, term)
        inner = stark.pedersen(inner, len(terms) + 1)
        return stark.pedersen(stark.pedersen(self._before, inner), 4)

    def _terms(
        self, at_ms: int, market: str, side: Side, size_e8: int, price_e8: int
    ) -> tuple[int, int, int, int, int, int]:
        name = self._market_names.get(market)
        if name is None:
            name = self._market_names[market] = stark.element(market)
        return at_ms, name, _SIDES[side], _LIMIT, size_e8, price_e8

    def _signed(self, kind: str, terms: tuple[int, ...]) -> str:
        r, s = stark.sign(self.hash_of(kind, terms), self._private)
        return f'["{r}","{s}"]'


_LIMIT = stark.short_string("LIMIT")


def _number(what: str, text: str, below: int) -> int:
    cleaned = text.strip()
    try:
        value = int(cleaned, 16 if cleaned[:2] in ("0x", "0X") else 10)
    except ValueError:
        raise BadInput(what, "must be a number, 0x... or decimal") from None
    if not 0 < value < below:
        raise BadInput(what, "is outside the range of the Stark curve")
    return value
