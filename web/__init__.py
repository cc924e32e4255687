"""The browser face: REST, Socket.IO and the page over a Desk and a bus. `run.py` calls `create_app` and
`run_server`.
"""
