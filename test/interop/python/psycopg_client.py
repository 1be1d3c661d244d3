"""What a Python service does with psycopg through the gateway. Prints one JSON document.

usage: psycopg_client.py CONNINFO
"""

import json
import sys

import psycopg
from psycopg import errors

MASKED = "select ssn, card_number, email from customers where id = 1"


def refused(connection, sql: str) -> str:
    try:
        connection.execute(sql)
    except errors.InsufficientPrivilege as error:
        return error.sqlstate
    return "allowed"


def main(conninfo: str) -> dict:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        text = connection.execute(MASKED).fetchone()
        binary = connection.cursor(binary=True).execute(MASKED).fetchone()
        prepared = [
            connection.execute("select id from orders where id = %s", (n,), prepare=True).fetchone()[0]
            for n in (1, 2, 3)
        ]
        copied = b""
        with connection.cursor().copy("copy (select id, ssn from customers where id = 1) to stdout") as copy:
            for chunk in copy:
                copied += bytes(chunk)
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (n,)) for n in range(5)]
        pipelined = [cursor.fetchone()[0] for cursor in cursors]
        denied = refused(connection, "delete from orders")
        after = connection.execute("select 1").fetchone()[0]
        with connection.transaction():
            with connection.cursor(name="server_side") as cursor:
                cursor.execute("select id from orders order by id")
                fetched = len(cursor.fetchmany(10))
    return {
        "text": text,
        "binary": binary,
        "prepared": prepared,
        "copied": copied.decode(),
        "pipelined": pipelined,
        "denied": denied,
        "after": after,
        "fetched": fetched,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
