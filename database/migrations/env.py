"""Run by Alembic, always from `database.journal` and always on a connection it was given."""

from __future__ import annotations

from alembic import context

from database.models import meta

context.configure(connection=context.config.attributes["connection"], target_metadata=meta)
with context.begin_transaction():
    context.run_migrations()
