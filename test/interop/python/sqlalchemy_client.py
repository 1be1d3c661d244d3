"""What a Python service does with SQLAlchemy 2, by psycopg and by asyncpg: reflection and an ORM.

usage: sqlalchemy_client.py TARGET
"""

import asyncio
import json
import sys

from sqlalchemy import ForeignKey, String, URL, create_engine, delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from target import libpq_parameters, plain, ssl_context


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String)
    total: Mapped[float]
    status: Mapped[str] = mapped_column(server_default="new")
    items: Mapped[list["Item"]] = relationship(order_by="Item.id", cascade="all, delete-orphan")


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    label: Mapped[str | None]


def url(target: dict, driver: str, query: dict) -> URL:
    return URL.create(
        f"postgresql+{driver}",
        username=target["user"],
        password=target.get("password"),
        host=target["host"],
        port=target["port"],
        database=target["database"],
        query=query,
    )


def engine_of(target: dict):
    query = {name: value for name, value in libpq_parameters(target).items() if name.startswith("ssl")}
    return create_engine(url(target, "psycopg", query), pool_size=2)


def reflected(engine) -> dict:
    inspector = inspect(engine)
    return {
        "tables": sorted(set(inspector.get_table_names()) - {"customers"}),
        "columns": [[c["name"], str(c["type"]), c["nullable"]] for c in inspector.get_columns("orders")],
        "key": inspector.get_pk_constraint("orders")["constrained_columns"],
        "foreign": [[f["constrained_columns"], f["referred_table"]] for f in inspector.get_foreign_keys("items")],
        "unique": [u["column_names"] for u in inspector.get_unique_constraints("orders")],
        "indexes": sorted(index["name"] for index in inspector.get_indexes("items")),
    }


def mapped(engine) -> dict:
    with Session(engine) as session:
        order = Order(customer="orm", total=9.5, items=[Item(label="one"), Item(label="ü")])
        session.add(order)
        session.commit()
        status = order.status
        order.status = "paid"
        order.items.pop(0)
        session.add(Item(order_id=order.id, label="three"))
        session.flush()
        try:
            with session.begin_nested():
                session.add(Order(customer="orm", total=9.5))
                session.flush()
        except IntegrityError as error:
            unique = error.orig.sqlstate
        session.rollback()
        loaded = session.scalars(
            select(Order).options(selectinload(Order.items)).where(Order.customer == "orm")
        ).one()
        labels = [item.label for item in loaded.items]
        ids = session.scalars(
            insert(Order).returning(Order.status),
            [{"customer": f"many {n}", "total": n} for n in range(20)],
        ).all()
        changed = session.execute(
            update(Order).where(Order.customer.like("many%")).values(total=Order.total + 1).returning(Order.total)
        ).all()
        removed = session.execute(delete(Order).where(Order.customer.like("many%"))).rowcount
        session.commit()
        return {
            "status": status,
            "unique": unique,
            "labels": labels,
            "inserted": len(ids),
            "changed": len(changed),
            "removed": removed,
        }


def refused(engine) -> list:
    with engine.connect() as connection:
        try:
            connection.execute(text("delete from vault"))
        except ProgrammingError as error:
            state = error.orig.sqlstate
        connection.rollback()
        streamed = connection.execution_options(yield_per=500).execute(text("select id from bulk order by id"))
        return [state, sum(row.id for row in streamed)]


async def by_asyncpg(target: dict) -> dict:
    engine = create_async_engine(url(target, "asyncpg", {}), connect_args={"ssl": ssl_context(target)})
    async with engine.connect() as connection:
        masked = await connection.scalar(text("select ssn from customers where id = :id"), {"id": 1})
        names = await connection.run_sync(lambda sync: sorted(inspect(sync).get_table_names()))
        total = await connection.scalar(select(func.count()).select_from(Order).where(Order.id <= 50))
    async with engine.begin() as connection:
        made = await connection.execute(insert(Order).values(customer="async", total=2).returning(Order.status))
        status = made.scalar_one()
    await engine.dispose()
    return {"masked": masked, "names": [name for name in names if name != "customers"], "total": total, "status": status}


def main(target: dict) -> dict:
    engine = engine_of(target)
    with engine.connect() as connection:
        masked = connection.scalar(text("select ssn from customers where id = 1"))
    report = {
        "masked": masked,
        "reflected": reflected(engine),
        "mapped": mapped(engine),
        "refused": refused(engine),
        "asyncpg": asyncio.run(by_asyncpg(target)),
    }
    engine.dispose()
    return plain(report)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
