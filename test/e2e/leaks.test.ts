import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { systemClock } from '../../runtime/clock.ts';
import { assertAbsent, filesBelow } from '../fixtures/secret-search.ts';
import { asSuperuser, openSessionOf, untilNoSessionRoles } from '../fixtures/shop-catalog.ts';
import { readingWorkload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;
/** Attempts that answer with the whole masked value, at the least. */
const MASKED_ANSWERS = 6;

interface Person {
  readonly ssn: string;
  readonly card_number: string;
  readonly email: string;
}

/** Every way that a client has tried to see through a mask, or to have its own text kept. */
const ATTEMPTS: readonly string[] = [
  'select * from customers order by id',
  'select ssn, card_number, email from public.customers',
  'select c from customers c',
  'select row_to_json(c), to_jsonb(c) from customers c',
  "select 'zz' || ssn || 'zz', reverse(card_number), encode(ssn::bytea, 'hex') from customers",
  'select array_agg(ssn), string_agg(email, chr(10)) from customers',
  'select ssn::int from customers',
  'select cast(card_number as date) from customers',
  'copy customers to stdout',
  'copy (select * from customers) to stdout',
  'copy (select * from customers) to stdout (format binary)',
  'create temp table t as select * from customers',
  "do $$ declare r record; begin for r in select * from customers loop raise notice '%', r; end loop; end $$",
  'explain analyze select * from customers where ssn > $$0$$',
  'select most_common_vals from pg_stats where tablename = $$customers$$',
  'select query_to_xml($$select * from customers$$, true, true, $$$$)',
  'select pg_get_viewdef(c.oid) from pg_class c where relname = $$customers$$',
  "select set_config('application_name', (select ssn from customers limit 1), false)",
  'set role postgres',
  'select pg_read_file($$postgresql.auto.conf$$)',
  'select * from pg_authid',
  'select min(ssn), max(card_number) from customers group by city',
  'select ssn from customers union all select card_number from customers',
  'with x as materialized (select * from customers) select x.* from x',
  'values ((select ssn from customers limit 1))',
  'table customers',
];

describe('the unmasked value of a masked column', () => {
  let up: RunningUp;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
  });

  it('appears nowhere, nor does a backend credential', async () => {
    const people = await asSuperuser<Person & pg.QueryResultRow>(
      up,
      'select ssn, card_number, email from customers order by id limit 50',
    );
    await using workload = await readingWorkload(up, 'leaks');
    const client = await workload.connect();
    const { id } = await openSessionOf(up, workload.spiffeId);
    const got: Buffer[] = [];
    const stream = (client as unknown as { connection: { stream: NodeJS.ReadableStream } })
      .connection.stream;
    stream.on('data', (chunk: Buffer) => got.push(Buffer.from(chunk)));
    client.on('notice', (notice) => got.push(Buffer.from(JSON.stringify(notice))));

    for (const sql of ATTEMPTS) await attempt(client, { text: sql });
    await attempt(client, { text: 'select * from customers', binary: true });
    const told = people[0];
    assert.ok(told !== undefined);
    const typed = [
      `select id from customers where ssn = '${told.ssn}'`,
      `select id from customers where card_number = $t$${told.card_number}$t$ -- ${told.email}`,
      `select '${told.ssn}' from nowhere`,
      `select id from customers where ssn = '${told.ssn}' and and`,
      `insert into customers (ssn, email) values ('${told.ssn}', '${told.email}')`,
    ];
    const heard = got.length;
    // The attempts were made, on a connection that lived through them, and their bytes were seen.
    assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
    const seen = Buffer.concat(got.slice(0, heard)).toString('latin1');
    const shownAs = `${'*'.repeat(told.ssn.length - 4)}${told.ssn.slice(-4)}`;
    const times = seen.split(shownAs).length - 1;
    assert.ok(times >= MASKED_ANSWERS, `the masked form was seen ${times} times`);
    for (const sql of typed) await attempt(client, { text: sql });
    await attempt(client, { text: 'select id from customers where ssn = $1', values: [told.ssn] });
    await client.end();
    await untilNoSessionRoles(up, 5000);
    await systemClock.wait(500, never);

    const secrets = people.flatMap(({ ssn, card_number, email }) => [ssn, card_number, email]);
    const credentials = [readFileSync(join(up.state, 'gateway/shop.password'), 'utf8').trim()];
    const client_bytes = Buffer.concat(got.slice(0, heard));
    assertAbsent(client_bytes, [...secrets, ...credentials], 'what the client got');
    const replay = await up.writ('session', 'replay', id, '--json');
    assert.equal(replay.status, 0, replay.stderr);
    assert.match(replay.stdout, /fingerprint/);
    assertAbsent(Buffer.from(replay.stdout), [...secrets, ...credentials], 'the replay');
    const audit = await up.writ('audit', 'tail', '--last', '1000', '--json');
    assertAbsent(Buffer.from(audit.stdout), [...secrets, ...credentials], 'the audit log');
    const files = filesBelow(up.state).filter((file) => !isSecretByDesign(file));
    assert.ok(files.some((file) => file.includes('recordings')));
    for (const file of files) {
      assertAbsent(readFileSync(file), [...secrets, ...credentials], file);
    }
  }).timeout(60_000);
});

describe('the search for secrets', () => {
  const secret = '907-23-7919';
  const hidden: Readonly<Record<string, Buffer>> = {
    plain: Buffer.from(`a${secret}b`),
    hex: Buffer.from(Buffer.from(`a${secret}`).toString('hex')),
    'upper-case hex': Buffer.from(Buffer.from(secret).toString('hex').toUpperCase()),
    base64: Buffer.from(Buffer.from(`${secret}bc`).toString('base64')),
    'base64, one byte on': Buffer.from(Buffer.from(`a${secret}bc`).toString('base64')),
    'base64, two bytes on': Buffer.from(Buffer.from(`ab${secret}bc`).toString('base64')),
    'base64 for URLs': Buffer.from(Buffer.from(`a${secret}bc`).toString('base64url')),
    'a URL, every byte encoded': Buffer.from(
      Buffer.from(secret).toString('hex').replaceAll(/../g, '%$&'),
    ),
  };
  for (const [form, bytes] of Object.entries(hidden)) {
    it(`finds one in ${form}`, () => {
      assert.throws(() => assertAbsent(bytes, [secret], form), /holds/);
    });
  }
});

interface Attempt {
  readonly text: string;
  readonly values?: string[];
  readonly binary?: boolean;
}

async function attempt(client: pg.Client, query: Attempt): Promise<void> {
  await client.query(query).catch(() => undefined);
}

/** The database's own files, and the files that exist to hold the credential. */
function isSecretByDesign(file: string): boolean {
  return /\/postgres\/|\/shop\.password$|\/postgres-superuser$|\/writ-gateway$/.test(file);
}
