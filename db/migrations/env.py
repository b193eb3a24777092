"""Runs migrations on the connection that kernelevo.archive.schema.upgrade hands over, inside its transaction."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("open the archive with kernelevo.archive.open_archive: that upgrades it")
context.configure(connection=connection, transactional_ddl=True, render_as_batch=True)
context.run_migrations()
