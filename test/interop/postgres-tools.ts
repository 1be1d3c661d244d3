/** psql, pg_dump and pgbench through the gateway. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { type Outcome, runProgram } from '../fixtures/writ-up.ts';
import { JDBC_PKCS12, postgresTools, reportOf } from './client-programs.ts';
import { type ClientWorld, MASKED_SSN, type Target } from './client-world.ts';

/** What psql shows of a database: its own queries of the catalog. */
const DESCRIBES = `
  \\d orders
  \\d+ items
  \\d public.*
  \\dt
  \\ds
  \\di
  \\dv pg_catalog.pg_s*
  \\df pg_catalog.lower
  \\dn
  \\dT
  \\do = integer
  \\dx
  \\sf pg_catalog.pg_sleep(double precision)
  \\encoding
  select 1 as a, null as b \\gdesc
  \\set FETCH_COUNT 100
  select count(*), sum(id) from (select id from bulk order by id) x;
  select id from bulk order by id limit 1000;
  \\unset FETCH_COUNT
  select * from kinds order by id \\gx`;

const DUMPED = ['-t', 'public.orders', '-t', 'public.items', '-t', 'public.kinds'];
/** pg_dump's own key against commands hidden in a dump differs each time. */
const KEY_LINE = /^\\(un)?restrict .*\n/gm;

export function describeTools(world: () => ClientWorld): void {
  describePsql(world);
  describePgDump(world);
  describePgbench(world);
  describePkcs12(world);
}

/** With the server's own version of the tool. */
function run(
  { version, folder }: ClientWorld,
  target: Target,
  [tool = '', ...args]: readonly string[],
  more: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  const tools = postgresTools(version);
  if (tools === undefined) throw new Error(`no tools of PostgreSQL ${version}`);
  const env = { ...environment(target), ...tools.env, ...more };
  return runProgram(join(tools.bin, tool), args, { env, cwd: folder });
}

async function done(
  world: ClientWorld,
  target: Target,
  command: readonly string[],
): Promise<string> {
  const { status, stdout, stderr } = await run(world, target, command);
  assert.equal(status, 0, `${command.join(' ')}: ${stderr}`);
  return stdout;
}

function environment(target: Target): NodeJS.ProcessEnv {
  return {
    ...process.env,
    PGHOST: target.host,
    PGPORT: String(target.port),
    PGDATABASE: target.database,
    PGUSER: target.user,
    PGSSLMODE: target.ca === undefined ? 'disable' : 'verify-full',
    PGSSLROOTCERT: target.ca,
    PGSSLCERT: target.cert,
    PGSSLKEY: target.key,
    PGPASSWORD: target.password,
    PAGER: 'cat',
  };
}

function describePsql(world: () => ClientWorld): void {
  it('G5 psql: describes, fetches and shows what it shows directly', async () => {
    const script = join(world().folder, 'describes.sql');
    await writeFile(script, DESCRIBES);
    const args = ['psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', script] as const;
    const through = await done(world(), world().through, args);
    assert.equal(through, await done(world(), world().direct, args));
    assert.match(through, /items_of_order/);
  });

  it('G5 psql: by TLS from the first byte and protocol 3.2, where it knows them', async () => {
    const { through, version } = world();
    const newer = version === 18 ? { PGSSLNEGOTIATION: 'direct', PGMAXPROTOCOLVERSION: '3.2' } : {};
    const command = [
      'psql',
      '-XAt',
      '-c',
      'select ssn from customers where id = 1',
      '-c',
      '\\conninfo',
    ];
    const { stdout, stderr } = await run(world(), through, command, newer);
    assert.ok(stdout.startsWith(`${MASKED_SSN}\n`), stderr);
    assert.match(stdout, /TLSv1\.3/);
  });

  it('G5 psql: copies a granted table in and out, a masked one by its query', async () => {
    const { through } = world();
    const psql = (...commands: readonly string[]) =>
      run(world(), through, [
        ...['psql', '-XAt', '-v', 'VERBOSITY=verbose'],
        ...commands.flatMap((one) => ['-c', one]),
      ]);
    const copied = await psql(
      '\\copy orders (customer, total, status) to copied.csv csv',
      "update orders set customer = 'was ' || customer where id > 0",
      '\\copy orders (customer, total, status) from copied.csv csv',
      'select count(*), count(distinct customer) from orders',
      '\\copy (select ssn from customers where id = 1) to stdout',
    );
    assert.equal(copied.stderr, '');
    assert.match(copied.stdout, /^100\|100$/m);
    assert.ok(copied.stdout.includes(`\n${MASKED_SSN}\n`));
    for (const command of ['copy customers to stdout', '\\copy customers to stdout']) {
      const refused = await psql(command);
      assert.match(
        refused.stderr,
        /^ERROR: {2}42809: cannot copy from view "customers"$/m,
        command,
      );
      assert.match(refused.stderr, /^HINT: .*COPY \(SELECT \.\.\.\) TO/m);
    }
  });
}

function describePgDump(world: () => ClientWorld): void {
  it('G5 pg_dump: dumps granted tables as it does directly, and the dump restores', async () => {
    const { through, direct, exec } = world();
    const dump = (target: Target, ...args: readonly string[]) =>
      done(world(), target, ['pg_dump', ...DUMPED, '--no-owner', '--no-privileges', ...args]);
    const plain = await dump(through);
    assert.equal(plain.replaceAll(KEY_LINE, ''), (await dump(direct)).replaceAll(KEY_LINE, ''));
    const file = join(world().folder, 'orders.dump');
    await dump(through, '-Fc', '-f', file);
    await exec('create database restored', 'postgres');
    try {
      await exec('grant create on schema public to control', 'restored');
      const args = ['pg_restore', '-d', 'restored', '--no-owner', '--exit-on-error', file] as const;
      await done(world(), direct, args);
      const count = 'select count(*)::int as n, max(id) as top from items';
      assert.deepEqual(await exec(count, 'restored'), await exec(count));
    } finally {
      await exec('drop database restored with (force)', 'postgres');
    }
  });

  it('G5 pg_dump: is refused a table that is not granted, and rows behind a mask', async () => {
    const { through } = world();
    const refused = await run(world(), through, ['pg_dump', '-t', 'public.vault']);
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, /permission denied for table vault/);
    const masked = await run(world(), through, ['pg_dump', '-t', '*.customers']);
    assert.doesNotMatch(masked.stdout, /536-22/);
    assert.doesNotMatch(masked.stdout, /^COPY/m);
  });
}

function describePgbench(world: () => ClientWorld): void {
  it('G5 pgbench: simple, extended, prepared, and a connection for each transaction', async () => {
    const { through, folder } = world();
    const script = join(folder, 'bench.sql');
    await writeFile(
      script,
      `\\set id random(1, 20000)
      select filler from bulk where id = :id;
      begin;
      select count(*) from orders where total > :id;
      end;`,
    );
    const failed = /number of failed transactions: 0 /;
    for (const mode of ['simple', 'extended', 'prepared']) {
      const args = ['-n', '-f', script, '-M', mode, '-c', '4', '-j', '2', '-t', '50'];
      const told = await done(world(), through, ['pgbench', ...args]);
      assert.match(told, /transactions actually processed: 200\/200/, mode);
      assert.match(told, failed, mode);
    }
    const told = await done(world(), through, [
      'pgbench',
      '-n',
      '-f',
      script,
      '-C',
      '-c',
      '2',
      '-t',
      '5',
    ]);
    assert.match(told, failed);
  });
}

function describePkcs12(world: () => ClientWorld): void {
  it('G5 JDBC: takes key and certificate as PKCS#12', async function () {
    const missing = JDBC_PKCS12.needs.find((name) => !hasProgram(name));
    if (missing !== undefined) skipWithout(this, missing);
    const { masked } = await reportOf(JDBC_PKCS12, world().through);
    assert.deepEqual(
      masked,
      Array.from({ length: 7 }, () => MASKED_SSN),
    );
  });
}
