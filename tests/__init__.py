"""Tests mirror the rooms. A package, so that `tests.shared` is ours and nobody else's `tests`."""
