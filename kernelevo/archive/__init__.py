"""The archive of everything that was tried: one SQLite file, or a PostgreSQL database.

    with open_archive("evolution.sqlite") as archive:
        for placing in archive.leaderboard("rmsnorm"):
            print(placing.place, placing.candidate, placing.score_ns)

Reading order: tables.py (what is stored), store.py (what can be asked), views.py (the same in SQL; db/README.md has a
cookbook), rows.py (record <-> row), connection.py and schema.py (files, locks, versions), scored.py (selection).
"""

from kernelevo.archive.answers import Ancestry, Cost, Pending, Placing, Progress, RunEntry
from kernelevo.archive.store import Archive, open_archive

__all__ = ["Ancestry", "Archive", "Cost", "Pending", "Placing", "Progress", "RunEntry", "open_archive"]
