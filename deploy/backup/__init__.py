"""A station's whole state in one file, taken while the line runs, and put back where there is none.

The file is a tar that any `tar` lists: what is in it is told at its beginning (`andon-backup.json`) and, with a digest
for every member, at its end (`manifest.json`).

archive.py    the file: members written and read one after the other, digests, what no backup may hold
manifest.py   what it says of itself
tables.py     the database: every table by binary COPY, which PostgreSQL 15 and 18 read alike
state.py      the state folder: journal, station file, recipes, bundles, public keys, audit anchor
backup.py     `andon backup`        restore.py    `andon restore`

Why no pg_dump: what that of the embedded server (18) writes cannot be read into a PostgreSQL of 15 to 17, neither by
its own pg_restore (it sets parameters those do not know) nor by theirs (they do not know the format). The schema is
made by our own migrations, so rows are all that must be carried over; and no program but ours is needed.
"""
