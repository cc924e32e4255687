"""The REST face: nouns, each in a file of its own, all declared the same way (`routes.py`).

Called by `web.app`. Knows the Desk protocol and nothing below it.
"""

from __future__ import annotations

from collections.abc import Callable

from api.desk import Desk
from web.auth import Auth
from web.settings import WebSettings

from . import desk as desk_routes
from . import legacy, openapi, session, workers
from .routes import Routes


def all_routes(desk: Desk, auth: Auth, settings: WebSettings, is_linked: Callable[[], bool]) -> list[Routes]:
    """Every noun of the REST face, and the document that describes them."""
    nouns = [
        session.routes(auth, settings),
        desk_routes.routes(desk, is_linked),
        workers.routes(desk),
        legacy.routes(desk),
    ]
    return [*nouns, openapi.routes(nouns, version="1")]
