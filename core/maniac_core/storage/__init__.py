"""Persistence behind one Database seam."""

from maniac_core.storage.engines import migrate_database, open_database

__all__ = ["migrate_database", "open_database"]
