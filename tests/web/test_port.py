"""The page's port: free, near the wanted one, and one that browsers open."""

from __future__ import annotations

import socket

import pytest

from config import ConfigErrors
from web.port import free_port


def test_a_free_port_is_taken_as_wanted_and_a_used_one_is_walked_past() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        used = taken.getsockname()[1]
        found = free_port("127.0.0.1", used)
        assert used < found < used + 200
        assert free_port("127.0.0.1", found) == found


@pytest.mark.parametrize(("wanted", "at_least"), [(5060, 5062), (6000, 6001), (6665, 6670), (10080, 10081)])
def test_a_port_that_browsers_refuse_is_walked_past(wanted: int, at_least: int) -> None:
    assert at_least <= free_port("127.0.0.1", wanted) < at_least + 150


def test_a_host_of_another_machine_and_an_exhausted_range_are_told() -> None:
    with pytest.raises(ConfigErrors, match="host: '192.0.2.1' is not an address of this machine"):
        free_port("192.0.2.1", 5000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65535))
        taken.listen(1)
        with pytest.raises(ConfigErrors, match="port: none from 65535 to 65535 is free on 127.0.0.1"):
            free_port("127.0.0.1", 65535)
