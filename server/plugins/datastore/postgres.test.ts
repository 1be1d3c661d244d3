import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { postgresStore, sharedPostgres } from '../../../test/fixtures/each-store.ts';
import { availableVersions, type TestPostgres } from '../../../test/fixtures/postgres.ts';
import { skipWithout } from '../../../test/fixtures/programs.ts';
import { unusedPort } from '../../../test/fixtures/unused-port.ts';
import { SCHEMA_VERSION } from './migrations.ts';
import { openPostgres } from './postgres.ts';
import { parsePostgresUrl, readPostgresUrl } from './postgres-url.ts';

const COUNT = 'select count(*) as n from meta';
const PUT = 'insert into meta (key, value) values (?, ?)';

describe('openPostgres', () => {
  let server: TestPostgres;
  let store: Awaited<ReturnType<typeof postgresStore>>;
  before(async function () {
    this.timeout(60_000);
    if (availableVersions().length === 0) skipWithout(this, 'PostgreSQL');
    server = await sharedPostgres();
  });
  beforeEach(async () => {
    store = await postgresStore();
  });
  afterEach(() => store?.[Symbol.asyncDispose]());

  it('makes the schema once when several servers start at once on an empty database', async () => {
    const servers = await Promise.all([1, 2, 3, 4].map(() => store.open()));
    await Promise.all(
      servers.map((one, n) => one.transaction((tx) => tx.run(PUT, `server-${n}`, ''))),
    );
    assert.deepEqual(await servers[0]?.get(COUNT), { n: 4 });
    const version = await servers[1]?.all('select version from schema_version');
    assert.deepEqual(version, [{ version: SCHEMA_VERSION }]);
    for (const one of servers) await one[Symbol.asyncDispose]();
  });

  it('gives numbers of several servers in the order of their commits, without gaps', async () => {
    await using a = await store.open();
    await using b = await store.open();
    const next = `insert into audit_events (seq, at_ms, writer, writer_seq, type, body, leaf_hash, hash)
      select coalesce(max(seq), 0) + 1, 0, 'w', coalesce(max(seq), 0) + 1, 't', ?, ?, ?
      from audit_events returning seq`;
    const empty = new Uint8Array();
    // A reader that has seen a number must never see a lower one appear later.
    let highest = 0;
    const seen: number[] = [];
    const write = (one: typeof a, n: number) =>
      one.transaction(async (tx) => {
        await tx.get(next, empty, empty, empty);
        if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
        if (n % 7 === 0) throw new Error('undone');
      });
    const writing = Promise.allSettled(
      Array.from({ length: 100 }, (_, n) => write(n % 2 === 0 ? a : b, n)),
    );
    let isOver = false;
    void writing.then(() => {
      isOver = true;
    });
    while (!isOver) {
      const rows = await a.all('select seq from audit_events where seq > ? order by seq', highest);
      for (const { seq } of rows) seen.push(Number(seq));
      highest = seen.at(-1) ?? 0;
    }
    const all = await a.all('select seq from audit_events order by seq');
    const numbers = all.map(({ seq }) => Number(seq));
    assert.deepEqual(
      numbers,
      numbers.map((_, at) => at + 1),
    );
    assert.deepEqual(seen, numbers.slice(0, seen.length));
    assert.equal(numbers.length, 85);
  });

  it('tells the other servers, and not itself, of what was committed', async () => {
    await using a = await store.open();
    await using b = await store.open();
    const signal = AbortSignal.timeout(5000);
    const heard = (async () => {
      for await (const count of b.foreignCommits?.values(signal) ?? []) if (count > 1) return true;
      return false;
    })();
    const untilListening = async (one: typeof a) => {
      for await (const count of one.foreignCommits?.values(signal) ?? []) if (count > 0) return;
    };
    await Promise.all([untilListening(a), untilListening(b)]);
    await a.transaction((tx) => tx.get(COUNT));
    await a.transaction((tx) => tx.run(PUT, 'a', ''));
    assert.equal(await heard, true);
    assert.equal(a.foreignCommits?.value, 1);
  });

  it('takes what is lost with its connection for unavailable, and serves again by itself', async () => {
    await using one = await store.open();
    const held = one.transaction(async (tx) => {
      await tx.run(PUT, 'a', '');
      await server.exec(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where application_name = 'writ-server' and pid <> pg_backend_pid()`,
      );
      await tx.run(PUT, 'b', '');
    });
    await assert.rejects(held, { code: 'STORE_UNAVAILABLE' });
    await one.transaction((tx) => tx.run(PUT, 'c', ''));
    assert.deepEqual(await one.all('select key from meta'), [{ key: 'c' }]);
  });

  it('does not commit a transaction in which a statement has failed, though its author goes on', async () => {
    await using one = await store.open();
    const careless = one.transaction(async (tx) => {
      await tx.run(PUT, 'a', '');
      await tx.run(PUT, 'a', '').catch(() => undefined);
    });
    await assert.rejects(careless);
    assert.deepEqual(await one.get(COUNT), { n: 0 });
  });

  const refused = async (url: string, message: RegExp) => {
    const target = parsePostgresUrl(url);
    await assert.rejects(openPostgres(target), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'STATE_UNUSABLE');
      assert.match(error.message, message);
      assert.ok(!error.message.includes(target.password) && !error.message.includes('\n'));
      return true;
    });
  };

  it('says in one line that the login is refused', async () => {
    const url = server.superuserUrl.replace(server.password, 'wrong-password');
    await refused(url, /refuses the login of postgres/);
  });

  it('says in one line that there is no such database', async () => {
    await refused(server.superuserUrl.replace(/\/postgres$/, '/nowhere'), /no database nowhere/);
  });

  it('says in one line that nobody answers there', async () => {
    const port = await unusedPort();
    await refused(
      `postgres://u:secret-word@127.0.0.1:${port}/d`,
      /cannot be reached: ECONNREFUSED/,
    );
  });

  it('says in one line that the user may not make tables', async () => {
    const name = `weak${store.target.options.slice(-8)}`;
    await server.exec(`create role ${name} login password 'weak-password'`);
    const url = server.superuserUrl
      .replace(`postgres:${server.password}`, `${name}:weak-password`)
      .replace(/$/, `?options=${encodeURIComponent(store.target.options)}`);
    await refused(url, new RegExp(`${name} may not make tables`));
    await server.exec(`drop role ${name}`);
  });

  it('refuses a store whose schema is newer than the program', async () => {
    {
      await using one = await store.open();
      await one.transaction((tx) => tx.run('update schema_version set version = ?', 1000));
    }
    await assert.rejects(store.open(), { code: 'STATE_UNUSABLE', message: /version 1000/ });
  });

  it('leaves a schema that cannot be brought up to date as it was', async () => {
    const broken = {
      version: SCHEMA_VERSION + 1,
      sql: 'create table extra (a text); select nonsense;',
    };
    const { MIGRATIONS } = await import('./migrations.ts');
    await assert.rejects(openPostgres(store.target, [...MIGRATIONS, broken]), {
      code: 'STATE_UNUSABLE',
    });
    await using one = await openPostgres(store.target);
    await assert.rejects(one.all('select * from extra'));
  });
});

describe('readPostgresUrl', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'writ-postgres-url-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const fileOf = (text: string, mode = 0o600) => {
    const file = join(directory, 'url');
    writeFileSync(file, text, { mode });
    return file;
  };

  it('reads a URL, of a host, an address or a socket', () => {
    const { ssl, ...target } = readPostgresUrl(fileOf('postgres://a%40b:p%2F@[::1]:6000/d\n'));
    assert.deepEqual(target, {
      ...{ host: '::1', port: 6000, user: 'a@b', password: 'p/', database: 'd', options: '' },
    });
    assert.equal(ssl, false);
    const socket = readPostgresUrl(fileOf('postgresql://u@localhost/d?host=/run/postgresql'));
    assert.deepEqual([socket.host, socket.port], ['/run/postgresql', 5432]);
    const far = readPostgresUrl(fileOf('postgres://u:p@db.example.org/d?sslmode=verify-full'));
    assert.ok(far.ssl !== false && far.ssl.rejectUnauthorized === true);
    assert.equal(far.ssl.servername, 'db.example.org');
  });

  const refused: [string, string, RegExp][] = [
    ['another protocol', 'mysql://u:hidden@h/d', /write a URL/],
    ['no URL', 'hidden', /write a URL/],
    ['no user', 'postgres://localhost/hidden', /needs a user/],
    ['no database', 'postgres://u:hidden@localhost', /needs a user, a host and a database/],
    ['a host elsewhere without TLS', 'postgres://u:hidden@db/d', /sslmode=verify-full/],
    [
      'a host elsewhere with TLS that proves nothing',
      'postgres://u:hidden@db/d?sslmode=require',
      /sslmode=verify-full/,
    ],
    [
      'a parameter that it does not know',
      'postgres://u:hidden@localhost/d?x=1',
      /"x" is not known/,
    ],
    ['a malformed escape', 'postgres://u:hidden%@localhost/d', /malformed/],
  ];
  for (const [what, text, message] of refused) {
    it(`refuses ${what}, without showing the URL`, () => {
      assert.throws(
        () => readPostgresUrl(fileOf(text)),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'CONFIG_INVALID');
          assert.match(error.message, message);
          return !error.message.includes('hidden');
        },
      );
    });
  }

  it('refuses a file that others can read, or that is not there', () => {
    const file = fileOf('postgres://u:p@localhost/d', 0o640);
    assert.throws(() => readPostgresUrl(file), { code: 'CONFIG_INVALID', message: /0600/ });
    assert.throws(() => readPostgresUrl(join(directory, 'none')), {
      ...{ code: 'CONFIG_INVALID', message: /ENOENT/ },
    });
  });
});
