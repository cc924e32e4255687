"""`python -m bench [names]`: run the benchmarks, print one table, write `.bench/<time>.json`.

Names: feed (recorded frames to updated book and event), paper (the paper venue's events per second), tick
(frame to signed order). Every ratio is against a limit or a peer measured in the same run; read those, not
the absolute figures of one machine.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import Result

OUT = Path(__file__).resolve().parent.parent / ".bench"


def _feed() -> tuple[list[Result], Any]:
    from bench import feed

    told = feed.run()
    results = []
    for market, figures in told.items():
        goal = f"goal: {figures['goal_ratio']}"
        for name, per_s in figures["frames_per_s"].items():
            against = "" if name == "json" else "orjson.loads"
            ratio = None if name == "json" else figures["ratio_to_json"][name]
            note = goal if name == "feed" else figures["source"] if name == "json" else ""
            results.append(Result("feed", f"{market} {name}", per_s, "frames/s", ratio, against, note))
    return results, told


def _paper() -> tuple[list[Result], Any]:
    from bench import paper

    told = paper.run()
    results = []
    for name in ("core", "tape"):
        figures = told[name]
        if figures is None:
            continue
        note = f"goal: {told['goal_per_s']} events/s" if name == "core" else "recorded market"
        bare, full = figures["bare_per_s"], figures["with_venue_per_s"]
        results.append(Result("paper", f"{name} bare", bare, "events/s"))
        results.append(Result("paper", name, full, "events/s", full / bare, "bare loop", note))
    return results, told


def _tick() -> tuple[list[Result], Any]:
    from bench import tick

    results = tick.run()
    return results, [asdict(result) for result in results]


BENCHES: dict[str, Callable[[], tuple[list[Result], Any]]] = {"feed": _feed, "paper": _paper, "tick": _tick}


def table(results: list[Result]) -> str:
    """One line a result, columns aligned."""
    rows = [("bench", "what", "value", "unit", "ratio", "against", "")]
    for result in results:
        value = f"{result.value:,.1f}" if result.value < 10_000 else f"{result.value:,.0f}"
        ratio = "" if result.ratio is None else f"{result.ratio:.3f}"
        rows.append((result.bench, result.name, value, result.unit, ratio, result.against, result.note))
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in (2, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def main(names: list[str]) -> int:
    """0: all ran; 2: a name that does not exist."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    results: list[Result] = []
    told: dict[str, Any] = {}
    for name in names or list(BENCHES):
        print(f"{name} ...", file=sys.stderr)
        found, told[name] = BENCHES[name]()
        results += found
    print(table(results))
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    written = {"machine": machine, "table": [asdict(result) for result in results], "figures": told}
    path.write_text(json.dumps(written, indent=1), "utf-8")
    print(f"written to {path.relative_to(OUT.parent)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
