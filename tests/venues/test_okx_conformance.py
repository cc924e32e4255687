"""The suite of `tests/conformance` against OKX spot, over real sockets.

The suite was written for the paper venue; what OKX does otherwise is named here, and tested in its own words
in `test_okx_trade.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance import test_exchange as suite
from tests.conformance.rig_okx import OkxRig
from tests.conformance.test_exchange import ASKS, BIDS, Seat

OTHERWISE = {
    "test_the_venue_names_itself_its_account_and_what_it_can_do": "it is no simulation, and pays rebates",
    "test_while_the_book_is_not_known_nothing_new_is_accepted_but_cancels_are": "always known",
    "test_a_read_that_fails_raises_and_never_returns_nothing": "its times to wait are whole seconds",
}
OTHERWISE_WITH = {
    "command0-WouldCross": "a refused post-only order is accepted, then canceled",
    "command1-WouldCross": "a refused post-only order is accepted, then canceled",
    "command3-BelowMinimum": "it has no smallest value of an order",
    "Fault.RATE_LIMITED-Outcome.RATE_LIMITED-RateLimited": "it counts in windows of two seconds",
}


@pytest.fixture
def seat(request: pytest.FixtureRequest) -> Iterator[Seat]:
    named = request.node.name.partition("[")[2].rstrip("]")
    if named in OTHERWISE_WITH:
        pytest.skip(f"OKX differs: {OTHERWISE_WITH[named]}")
    rig = OkxRig()
    try:
        rig.book(BIDS, ASKS)
        taken = Seat(rig)
        taken.connect()
        yield taken
    finally:
        rig.close()


globals().update(
    {name: test for name, test in vars(suite).items() if name.startswith("test_") and name not in OTHERWISE}
)


def test_what_differs_is_still_in_the_suite() -> None:
    assert all(callable(getattr(suite, name)) for name in OTHERWISE)
