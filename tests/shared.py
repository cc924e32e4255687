"""Recorded traffic and facts that live beside the repository, not in it.

`../shared` seen from the repository's root, or the directory named by MAKERDECK_SHARED. Tests that need a
file call `shared("market_data/...")`: they get its path, or are skipped with the reason said aloud.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MAKERDECK_SHARED") or ROOT.parent / "shared").resolve()


def shared(relative: str) -> Path:
    """The path of a file or directory under the shared directory; skips the calling test when absent."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"needs {relative} under ../shared or MAKERDECK_SHARED, which is not on this machine")
    return path
