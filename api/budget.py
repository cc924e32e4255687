"""How much of a venue's rate limits is used, and whether one more request may go. Pure but for its lock:
told the time.

Hides: windows, what is still in flight, the share kept for cancels, the time in which nothing may be sent.
Must not know: any venue's headers or weights (a venue file says which pool, how much, and what the venue
itself counted). Called by venue files from several threads; `shown` is for the console.

Windows are fixed ones that begin at whole multiples of their length in the venue's own time, which is how
Binance and its kin count; for a venue with sliding windows this is the looser reading, so its limit should
be given with a margin.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pool:
    """One limit: at most `limit` units in each window of `window_ns`. `for_cancels`: share (0..1) that only
    cancels may use.
    """

    name: str
    limit: int
    window_ns: int
    for_cancels: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolShown:
    """A pool as the console shows it. `resets_s`: seconds until its window ends."""

    name: str
    used: int
    limit: int
    resets_s: float


Cost = tuple[str, int]
"""(pool, units)."""


class _State:
    __slots__ = ("flying", "pool", "used", "window")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.used = 0
        self.flying = 0
        self.window = -1


class Budget:
    """See the module docstring. Costs of pools that are not there count nothing."""

    def __init__(self, pools: Sequence[Pool] = ()) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, _State] = {}
        self._blocked_until_ns = 0
        self._blocked_why = ""
        self.set_pools(pools)

    def set_pools(self, pools: Sequence[Pool]) -> None:
        """What the venue says its limits are; counts of pools that stay are kept."""
        with self._lock:
            fresh: dict[str, _State] = {}
            for pool in pools:
                state = self._pools.get(pool.name)
                if state is None or state.pool.window_ns != pool.window_ns:
                    state = _State(pool)
                state.pool = pool
                fresh[pool.name] = state
            self._pools = fresh

    def take(self, costs: Sequence[Cost], now_ns: int, *, is_cancel: bool = False) -> float:
        """Take the units, or none of them.

        Returns:
            0.0 when they are taken; else the seconds to wait before it may be tried again.
        """
        with self._lock:
            if now_ns < self._blocked_until_ns:
                return (self._blocked_until_ns - now_ns) / 1e9
            wait_ns = 0
            for name, units in costs:
                state = self._pools.get(name)
                if state is None:
                    continue
                self._roll(state, now_ns)
                pool = state.pool
                most = pool.limit if is_cancel else int(pool.limit * (1.0 - pool.for_cancels))
                if state.used + state.flying + units > most:
                    wait_ns = max(wait_ns, pool.window_ns - now_ns % pool.window_ns)
            if wait_ns:
                return wait_ns / 1e9
            for name, units in costs:
                state = self._pools.get(name)
                if state is not None:
                    state.flying += units
            return 0.0

    def settle(self, costs: Sequence[Cost], counted: Sequence[Cost], now_ns: int) -> None:
        """What was taken has been answered (or never will be). `counted`: what the venue says is used now, by
        pool; for a pool it does not mention the taken units count as used.
        """
        with self._lock:
            told = dict(counted)
            for name, units in costs:
                state = self._pools.get(name)
                if state is None:
                    continue
                self._roll(state, now_ns)
                state.flying = max(0, state.flying - units)
                if name not in told:
                    state.used += units
            for name, used in told.items():
                state = self._pools.get(name)
                if state is not None:
                    self._roll(state, now_ns)
                    state.used = used

    def block(self, seconds: float, why: str, now_ns: int) -> None:
        """Nothing may be sent for so long, cancels neither (the venue asked for it)."""
        with self._lock:
            until_ns = now_ns + int(seconds * 1e9)
            if until_ns > self._blocked_until_ns:
                self._blocked_until_ns = until_ns
                self._blocked_why = why

    def exhaust(self, name: str, now_ns: int) -> float:
        """The venue says that this pool is used up; the seconds until its window ends (0.0: no such pool)."""
        with self._lock:
            state = self._pools.get(name)
            if state is None:
                return 0.0
            self._roll(state, now_ns)
            state.used = max(state.used, state.pool.limit)
            return (state.pool.window_ns - now_ns % state.pool.window_ns) / 1e9

    def blocked_s(self, now_ns: int) -> float:
        """Seconds for which nothing may be sent; 0.0: it may."""
        with self._lock:
            return max(0.0, (self._blocked_until_ns - now_ns) / 1e9)

    def blocked_why(self) -> str:
        return self._blocked_why

    def shown(self, now_ns: int) -> tuple[PoolShown, ...]:
        with self._lock:
            shown = []
            for state in self._pools.values():
                self._roll(state, now_ns)
                pool = state.pool
                left_s = (pool.window_ns - now_ns % pool.window_ns) / 1e9
                shown.append(PoolShown(pool.name, state.used + state.flying, pool.limit, left_s))
            return tuple(shown)

    def _roll(self, state: _State, now_ns: int) -> None:
        window = now_ns // state.pool.window_ns
        if window > state.window:
            state.window = window
            state.used = 0
