"""What a Python service does with psycopg 3 without blocking, and with its pool.

usage: psycopg_async_client.py TARGET
"""

import asyncio
import json
import sys

import psycopg
from psycopg_pool import AsyncConnectionPool
from target import ASLEEP, IS_ASLEEP, conninfo, plain


async def sqlstate(awaitable) -> str:
    try:
        await awaitable
    except psycopg.Error as error:
        return error.sqlstate
    return "allowed"


async def kinds(connection) -> list:
    sql = "select id, t, n, ts, j, a, ta, b, u, flag, f, big, iv from kinds where id < %s and id <> 3 order by id"
    found = []
    for binary in (False, True):
        cursor = await connection.cursor(binary=binary).execute(sql, (10,))
        found.append(plain(await cursor.fetchall()))
    return found


async def transactions(connection) -> list:
    states = []
    async with connection.transaction():
        await connection.execute("insert into orders (customer, total) values ('psycopg', 1)")
        for sql in ("delete from vault", "insert into orders (customer, total) values ('psycopg', 1)"):
            states.append(await sqlstate(in_savepoint(connection, sql)))
    cursor = await connection.execute("select count(*) from orders where customer = 'psycopg'")
    return [states, await cursor.fetchone()]


async def in_savepoint(connection, sql: str):
    async with connection.transaction():
        await connection.execute(sql)


async def cancels(connection, target: dict) -> list:
    sleeping = asyncio.create_task(sqlstate(connection.execute(ASLEEP)))
    async with await psycopg.AsyncConnection.connect(conninfo(target), autocommit=True) as other:
        while (await (await other.execute(IS_ASLEEP)).fetchone())[0] == 0:
            await asyncio.sleep(0.02)
    await connection.cancel_safe()
    return [await sleeping, (await (await connection.execute("select 1")).fetchone())[0]]


async def copies(connection) -> list:
    async with connection.cursor() as cursor:
        async with cursor.copy("copy items (order_id, label) from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for n in range(100):
                await copy.write_row((1, f"ü {n}"))
        return [cursor.rowcount, await rows_of(cursor, "copy (select ssn from customers where id = 1) to stdout")]


async def rows_of(cursor, sql: str) -> list:
    async with cursor.copy(sql) as copy:
        return [row async for row in copy.rows()]


async def pooled(target: dict) -> list:
    async with AsyncConnectionPool(conninfo(target), min_size=2, max_size=4, open=False) as pool:

        async def one(n: int) -> int:
            async with pool.connection() as connection:
                if n % 10 == 0:
                    await sqlstate(in_savepoint(connection, "delete from vault"))
                return (await (await connection.execute("select %s::int * 2", (n,))).fetchone())[0]

        return [sum(await asyncio.gather(*(one(n) for n in range(40)))), pool.get_stats().get("connections_lost", 0)]


async def main(target: dict) -> dict:
    async with await psycopg.AsyncConnection.connect(conninfo(target), autocommit=True) as connection:
        report = {
            "kinds": await kinds(connection),
            "transactions": await transactions(connection),
            "cancels": await cancels(connection, target),
            "copies": await copies(connection),
        }
        async with connection.transaction(), connection.cursor(name="server_side") as cursor:
            await cursor.execute("select id from bulk order by id")
            report["cursor"] = sum([row[0] async for row in cursor])
    report["pool"] = await pooled(target)
    return report


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
