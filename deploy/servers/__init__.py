"""The two servers behind a station: embedded PostgreSQL and Valkey, or somebody else's.

server.py     what the supervisor needs to know of a server
postgres.py   the embedded PostgreSQL          valkey.py     the embedded Valkey
wheel.py      the servers' programs, as pip installed them
account.py    whom a server runs as, and what that account may enter
folder.py     a server's data folder, its settings and its socket
leftovers.py  processes that still hold a data folder although their server is gone
external.py   servers that ANDON_DATABASE_URL and ANDON_REDIS_URL name
"""

from deploy.servers.external import DATABASE_VARIABLE, REDIS_VARIABLE, external_database, external_redis
from deploy.servers.postgres import Postgres
from deploy.servers.server import Server
from deploy.servers.valkey import Valkey

__all__ = [
    "DATABASE_VARIABLE",
    "REDIS_VARIABLE",
    "Postgres",
    "Server",
    "Valkey",
    "external_database",
    "external_redis",
]
