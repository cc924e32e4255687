"""The paper venue: a simulated spot exchange that matches against a real, recorded or synthetic market.

    instruments.py  what can be traded, start balances, and the file that replaces both
    settings.py     delays, limits and modes of one venue
    matching.py     one market: queue positions, fills by the tape and by the book, takers; pure
    account.py      one account's money, orders and fills; pure
    faults.py       what may go wrong on request; pure
    core.py         the venue: commands in, events out, on a clock that others move; pure
    venue.py        the `Exchange` adaptors: `SteppedPaper` for tapes, `ThreadedPaper` for a running desk
    wire.py         how frames and messages travel between a desk and a paper venue in another process
    server.py       the venue in a process of its own
    client.py       the desk's side of that: an `Exchange`, and its market as a frame source

Imports nothing of ours but `api`. Names the file that holds a thing; re-exports nothing, so that a short
command stays quick.
"""
