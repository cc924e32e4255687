"""Setting up and shipping; no part of the running desk. `run.py` imports `vendor`, nobody else anything."""
