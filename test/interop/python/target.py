"""Where a client program connects, from one JSON argument: see Target in client-world.ts."""

import ssl
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID


# Takes a lock that others see, so that they know when it has begun and can be cancelled.
ASLEEP = "select pg_advisory_xact_lock(77), pg_sleep(30)"
IS_ASLEEP = "select count(*) from pg_locks where locktype = 'advisory' and objid = 77"


def conninfo(target: dict) -> str:
    """For libpq: psycopg, and SQLAlchemy on it."""
    return " ".join(f"{name}={value}" for name, value in libpq_parameters(target).items())


def libpq_parameters(target: dict) -> dict:
    names = {"host": "host", "port": "port", "database": "dbname", "user": "user", "password": "password"}
    found = {libpq: target[name] for name, libpq in names.items() if name in target}
    if "ca" in target:
        found |= {"sslmode": "verify-full", "sslrootcert": target["ca"]}
    if "cert" in target:
        found |= {"sslcert": target["cert"], "sslkey": target["key"]}
    return found


def ssl_context(target: dict) -> ssl.SSLContext | bool:
    """For asyncpg: checks the server's name, as libpq's verify-full."""
    if "ca" not in target:
        return False
    context = ssl.create_default_context(cafile=target["ca"])
    if "cert" in target:
        context.load_cert_chain(target["cert"], target["key"])
    return context


def plain(value):
    """The same value for JSON, so that two reports can be compared."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (date, datetime, timedelta, Decimal, UUID, float)):
        return str(value)
    return value
