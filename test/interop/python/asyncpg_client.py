"""What a Python service does with asyncpg: each value of the report is the client's own.

usage: asyncpg_client.py TARGET
"""

import asyncio
import io
import json
import sys

import asyncpg
from target import ASLEEP, IS_ASLEEP, plain, ssl_context


def options(target: dict) -> dict:
    names = ("host", "port", "database", "user", "password")
    return {name: target[name] for name in names if name in target} | {"ssl": ssl_context(target)}


async def sqlstate(awaitable) -> str:
    try:
        await awaitable
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return "allowed"


async def kinds(connection) -> list:
    columns = "t, n, ts, j, a, ta, b, u, flag, f, big, iv"
    rows = await connection.fetch(f"select {columns} from kinds order by id")
    await connection.execute(
        "insert into kinds (id, t, n, ts, j, a, ta, b, u, flag, f, big, iv)"
        " values (100, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        *rows[0].values(),
    )
    again = await connection.fetchrow(f"select {columns} from kinds where id = 100")
    return [plain(list(row.values())) for row in [*rows, again]]


async def transactions(connection) -> dict:
    async with connection.transaction():
        await connection.execute("insert into orders (customer, total) values ('kept', 1)")
        denied = await sqlstate(in_savepoint(connection, "select * from vault"))
        unique = await sqlstate(in_savepoint(connection, "insert into orders (customer, total) values ('kept', 1)"))
    failed = []
    transaction = connection.transaction()
    await transaction.start()
    failed.append(await sqlstate(connection.execute("delete from vault")))
    failed.append(await sqlstate(connection.fetchval("select 1")))
    await transaction.rollback()
    kept = await connection.fetchval("select count(*) from orders where customer = 'kept'")
    return {"denied": denied, "unique": unique, "failed": failed, "kept": kept}


async def in_savepoint(connection, sql: str):
    async with connection.transaction():
        await connection.execute(sql)


async def copies(connection) -> dict:
    out = io.BytesIO()
    await connection.copy_from_query("select id, label from items where id < $1 order by id", 4, output=out, format="csv")
    await connection.copy_records_to_table(
        "items", records=[(1, "binary ü"), (2, None)], columns=["order_id", "label"]
    )
    copied = await connection.fetch("select order_id, label from items order by id desc limit 2")
    masked = io.BytesIO()
    await connection.copy_from_query("select ssn from customers where id = 1", output=masked)
    return {
        "out": out.getvalue().decode(),
        "in": plain([list(row.values()) for row in copied]),
        "masked": masked.getvalue().decode(),
    }


async def cancels(connection, target: dict) -> list:
    sleeping = asyncio.create_task(connection.fetch(ASLEEP))
    other = await asyncpg.connect(**options(target))
    while await other.fetchval(IS_ASLEEP) == 0:
        await asyncio.sleep(0.02)
    await other.close()
    sleeping.cancel()
    await asyncio.wait([sleeping])
    async with connection.transaction():
        await connection.execute("set local statement_timeout = 200")
        slow = await sqlstate(connection.fetch(ASLEEP))
    return [sleeping.cancelled(), slow, await connection.fetchval("select 1")]


async def pooled(target: dict) -> dict:
    async with asyncpg.create_pool(**options(target), min_size=2, max_size=4) as pool:
        rows = await asyncio.gather(*(pool.fetchval("select $1::int * 2", n) for n in range(40)))
        denied = await asyncio.gather(*(sqlstate(pool.execute("delete from vault")) for _ in range(4)))
        after = await asyncio.gather(*(pool.fetchval("select count(*) from bulk") for _ in range(4)))
    return {"sum": sum(rows), "denied": denied, "after": after}


async def main(target: dict) -> dict:
    connection = await asyncpg.connect(**options(target))
    statement = await connection.prepare("select ssn from customers where id = $1")
    async with connection.transaction():
        fetched = [row["id"] async for row in connection.cursor("select id from bulk order by id", prefetch=1000)]
    report = {
        "masked": await statement.fetchval(1),
        "names": [attribute.name for attribute in statement.get_attributes()],
        "kinds": await kinds(connection),
        "transactions": await transactions(connection),
        "copies": await copies(connection),
        "cursor": [len(fetched), sum(fetched)],
        "many": await connection.executemany("update items set label = $2 where id = $1", [(1, "x"), (2, "y")]),
        "big": sum(len(row["filler"]) for row in await connection.fetch("select filler from bulk")),
        "cancels": await cancels(connection, target),
        "pool": await pooled(target),
    }
    await connection.close()
    return report


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
