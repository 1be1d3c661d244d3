/** G48, G49 and G51: what the record of a session holds, what it does not, and what a crash leaves of it. */
import assert from 'node:assert/strict';
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import {
  queryMessage,
  startupMessage,
} from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import { cstring, message } from '../../gateway/plugins/backend/postgres/wire/message-body.ts';
import { runAttempt } from '../corpus/attempt.ts';
import { leaksIn } from '../corpus/leak-forms.ts';
import { leakAttempts } from '../corpus/leaks.ts';
import { POSTGRES_VERSIONS, postgresTitle, requirePostgres } from '../fixtures/postgres.ts';
import { bind, describeStatement, execute, parse, sync } from '../fixtures/relay-world.ts';
import { until, untilRestarted } from '../fixtures/restarts.ts';
import { assertAbsent, filesBelow } from '../fixtures/secret-search.ts';
import { listSessions, openSessionOf } from '../fixtures/shop-catalog.ts';
import { LOGIN_PASSWORD, SECRETS } from '../fixtures/shop-database.ts';
import { StallingRelay } from '../fixtures/stalling-relay.ts';
import { addUpShop, type UpShop } from '../fixtures/up-shop.ts';
import { WireClient } from '../fixtures/wire-client.ts';
import type { Workload } from '../fixtures/workload.ts';
import { type Outcome, type RunningUp, startUp } from '../fixtures/writ-up.ts';

/** Of a record that a crash cut off, what is younger may be lost. */
const PROMISED_LOSS_MS = 1000;
/** Of the leak attempts: what clients get of all of them is test/e2e/postgres-corpus.test.ts. */
const EACH_NTH = 4;
const RIGHTS = {
  select: ['public.customers', 'public.orders'],
  insert: ['public.orders', 'public.customers'],
  write: ['public.customers.ssn', 'public.customers.email'],
  statements: ['read', 'write'],
};

/** One line of `session replay --json`, as far as these tests read it. */
interface Recorded {
  readonly statement?: {
    readonly number: string;
    readonly text?: string;
    readonly class: string;
    readonly denied_by?: string;
    readonly parameters?: readonly {
      readonly target?: string;
      readonly value?: string;
      readonly hmac?: string;
    }[];
  };
  readonly result?: {
    readonly number: string;
    readonly command_tag?: string;
    readonly rows?: string;
    readonly sqlstate?: string;
  };
  readonly rows?: { readonly data: string };
  readonly closed?: {
    readonly reason: string;
    readonly rows?: string;
    readonly statements?: string;
  };
}

for (const version of POSTGRES_VERSIONS) {
  describe(`the record of a session on ${postgresTitle(version)}`, () => {
    let up: RunningUp;
    let shop: UpShop;
    let relay: StallingRelay;
    /** Its record keeps the rows that it gets. */
    let workload: Workload;
    let typist: Workload;
    const said: Buffer[] = [];
    before(async function () {
      this.timeout(90_000);
      requirePostgres(this, version);
      up = await startUp();
      shop = await addUpShop(up, {
        version,
        async at(server) {
          relay = await StallingRelay.before(server.port);
          relay.onSaid = (bytes) => said.push(bytes);
          return relay.port;
        },
      });
      workload = await shop.workload('recorded', {
        postgres: { ...RIGHTS, recording: { rows: true } },
      });
      typist = await shop.workload('typist', { postgres: RIGHTS });
    });
    after(async function () {
      this.timeout(30_000);
      await workload?.[Symbol.asyncDispose]();
      await typist?.[Symbol.asyncDispose]();
      await shop?.[Symbol.asyncDispose]();
      await relay?.[Symbol.asyncDispose]();
      await up?.[Symbol.asyncDispose]();
    });

    /** Before the StartupMessage. */
    async function dial(who = workload): Promise<WireClient> {
      const { port, ssl } = who.config();
      if (typeof ssl !== 'object') throw new Error('no TLS');
      return WireClient.secure(Number(port), ssl);
    }

    const startup = () =>
      startupMessage([
        ['user', 'app'],
        ['database', shop.backend],
      ]);

    /** A session, its id, and a function that asks and keeps all that is answered. */
    async function session(who = workload) {
      const client = await dial(who);
      client.send(startup());
      assert.equal((await client.until('Z')).at(-1)?.type, 'Z');
      const { id } = await openSessionOf(up, who.spiffeId);
      const got: Buffer[] = [];
      const ask = async (...bytes: readonly Uint8Array[]) => {
        client.send(...bytes);
        const answer = await client.until('Z');
        for (const { type, body } of answer) got.push(message(type, body));
        return answer;
      };
      return { client, id, got, ask };
    }

    async function untilClosed(id: string): Promise<void> {
      const closed = async () => (await listSessions(up, true)).every((open) => open.id !== id);
      await until(closed, 20_000, 'the session is closed');
    }

    async function replay(id: string): Promise<{ events: Recorded[]; outcome: Outcome }> {
      const outcome = await up.writ('session', 'replay', id, '--json');
      const lines = outcome.stdout.split('\n').filter((line) => line !== '');
      return { events: lines.map((line) => JSON.parse(line) as Recorded), outcome };
    }

    it('G48 replays statements, binds by their classification, tags and rows, byte for byte', async () => {
      const { client, id, got, ask } = await session();
      await ask(queryMessage('select id, name, ssn, email, card from customers order by id'));
      await ask(queryMessage(`select id from customers where ssn = '${SECRETS.ssn}' and id = 7`));
      const text = 'select note, $2::text as said from orders where id = $1';
      await ask(parse('named', text), describeStatement('named'), sync());
      await ask(
        bind('named', '', ['2', 'hello']),
        execute(),
        bind('named', '', ['1', null]),
        execute(),
        sync(),
      );
      const binary = Buffer.from(parse('', 'select ssn, id from customers order by id'));
      await ask(binary, binaryBind(), execute(), sync());
      await ask(
        parse('', 'select id from customers where email = $1'),
        bind('', '', [SECRETS.email]),
        execute(),
        sync(),
      );
      await ask(queryMessage('copy (select id, ssn from customers order by id) to stdout'));
      await ask(
        queryMessage("insert into orders (customer_id, total, note) values (1, 5, 'written')"),
      );
      await ask(queryMessage('select 1 / 0'));
      await ask(queryMessage('delete from orders'));
      client.socket.end(message('X'));
      await untilClosed(id);
      const { events, outcome } = await replay(id);
      assert.equal(outcome.status, 0, outcome.stderr);
      assert.match(outcome.stderr, /record verified/);

      const rows = events.flatMap(({ rows }) => (rows === undefined ? [] : [rows.data]));
      const kept = Buffer.concat(rows.map((data) => Buffer.from(data, 'base64')));
      assert.ok(kept.equals(Buffer.concat(got)), 'what is kept is what the client got');
      assert.ok(kept.includes(`*******${SECRETS.ssn.slice(-4)}`));

      const statements = events.flatMap(({ statement }) => statement ?? []);
      const results = new Map(
        events.flatMap(({ result }) =>
          result === undefined ? [] : [[result.number, result] as const],
        ),
      );
      const told = statements.map(({ number, class: kind, denied_by: rule, parameters = [] }) => {
        const {
          command_tag: tag = '',
          sqlstate = '',
          rows: count = '0',
        } = results.get(number) ?? {};
        const bound = parameters.map(
          ({ value, hmac }) => value ?? (hmac === undefined ? 'null' : 'withheld'),
        );
        return [kind, tag || sqlstate, count, ...bound, ...(rule === undefined ? [] : [rule])].join(
          ' ',
        );
      });
      assert.deepEqual(told, [
        'read SELECT 2 2',
        'read SELECT 0 0 withheld 7',
        'read SELECT 1 1 2 withheld',
        'read SELECT 1 1 1 null',
        'read SELECT 2 2',
        'read SELECT 0 0 withheld',
        'read COPY 2 2',
        'write INSERT 0 1 1 1 5 written',
        'read 22012 0 withheld withheld',
        'write 42501 0 unbounded-write',
      ]);
      assert.equal(statements[2]?.text, text);
      const closed = events.at(-1)?.closed;
      assert.equal(closed?.statements, String(statements.length));
      const [transcript, summary] = [await up.writ('session', 'replay', id), told.length];
      assert.equal(transcript.status, 0, transcript.stderr);
      for (const shown of [
        'SELECT 2',
        'INSERT 0 1',
        'error 22012',
        'REFUSED by unbounded-write',
        `ssn=*******${SECRETS.ssn.slice(-4)}`,
      ]) {
        assert.ok(
          transcript.stdout.includes(shown),
          `${shown} is missing in\n${transcript.stdout}`,
        );
      }
      assert.ok(transcript.stdout.includes(`${summary} statements`), transcript.stdout);
    }).timeout(60_000);

    it('G49 keeps no masked value and no credential, nor does any other file, log or event', async () => {
      const [oid] = await shop.server.exec(
        "select oid::int from pg_proc where proname = 'query_to_xml'",
      );
      const attempts = leakAttempts(Number(oid?.oid)).filter((_, at) => at % EACH_NTH === 0);
      for (const attempt of attempts) {
        using client = await dial();
        const { bytes } = await runAttempt(client, attempt, { database: shop.backend });
        assert.deepEqual(leaksIn(bytes), [], attempt.name);
      }
      const { client, id: sessionId, ask } = await session(typist);
      for (const secret of Object.values(SECRETS)) {
        for (const bytes of textsWith(secret)) {
          await ask(...bytes);
          await ask(queryMessage('rollback'));
        }
        client.send(queryMessage('copy orders (customer_id, note) from stdin'));
        await client.until('G');
        await ask(message('d', Buffer.from(`1\t${secret}\n1`)), message('f', cstring(secret)));
      }
      client.socket.end(message('X'));
      await untilClosed(sessionId);
      await until(async () => (await shop.leftovers()).length === 0, 10_000, 'nothing is left');

      const verifiers =
        Buffer.concat(said)
          .toString('latin1')
          .match(/SCRAM-SHA-256\$[^\0]{100,200}/g) ?? [];
      const keys = verifiers.flatMap(
        (verifier) => /\$([^$]+)$/.exec(verifier)?.[1]?.split(':') ?? [],
      );
      assert.ok(keys.length > 20, `${keys.length} keys of session roles were overheard`);
      const sealed = /-----BEGIN [A-Z ]*PRIVATE KEY-----\n([^-]+)\n/.exec(
        String((workload.config().ssl as { key: string }).key),
      );
      const privateKey = sealed?.[1]?.split('\n').slice(-1) ?? [];
      assert.equal(privateKey.length, 1);
      const secrets = [...Object.values(SECRETS), LOGIN_PASSWORD, ...privateKey];

      const search = (bytes: Buffer, where: string) => {
        assertAbsent(bytes, secrets, where);
        const text = bytes.toString('latin1');
        for (const key of keys) assert.ok(!text.includes(key), `${where} holds a verifier`);
      };
      const files = filesBelow(up.state).filter((file) => !isSecretByDesign(file));
      assert.ok(files.some((file) => file.includes(join('recordings', sessionId))));
      assert.ok(
        files.some((file) => file.includes('spool') || file.includes('events')),
        files.join('\n'),
      );
      for (const file of files) search(readFileSync(file), file);
      search(Buffer.from(up.output()), 'the log');
      const { outcome } = await replay(sessionId);
      assert.equal(outcome.status, 0, outcome.stderr);
      search(Buffer.from(outcome.stdout), 'the replay');
      const audit = await up.writ('audit', 'tail', '--last', '10000', '--json');
      assert.match(audit.stdout, /session.statement.denied/);
      search(Buffer.from(audit.stdout), 'the audit log');
    }).timeout(120_000);

    it('G51 loses at most a second when the gateway is killed, and says that the record has no end', async () => {
      const { client, id, ask } = await session();
      await ask(queryMessage('select 0 as n'));
      const answered: number[] = [];
      const working = (async () => {
        for (let n = 1; ; n += 1) {
          client.send(queryMessage(`select ${n} as n, repeat('r', 2000) as filler`));
          if ((await client.until('Z')).at(-1)?.type !== 'Z') return;
          answered.push(Date.now());
        }
      })();
      await until(() => answered.length > 300, 20_000, 'statements were answered');
      const { gateway } = up.json.pids;
      process.kill(gateway, 'SIGKILL');
      const killedAt = Date.now();
      await working;
      relay.drop();
      await untilRestarted(up, 'gateway', gateway);
      await untilClosed(id);

      const { events, outcome } = await replay(id);
      assert.equal(outcome.status, 0, outcome.stderr);
      assert.match(outcome.stderr, /record open: the last segment is not sealed/);
      assert.equal(events.at(-1)?.closed, undefined);
      const statements = events.flatMap(({ statement }) => statement ?? []);
      assert.deepEqual(
        statements.map(({ number }) => Number(number)),
        statements.map((_, at) => at + 1),
      );
      assert.ok(statements.length > answered.length, 'no statement that was answered is lost');
      const old = answered.filter((at) => at <= killedAt - PROMISED_LOSS_MS).length;
      const results = events.filter(({ result }) => result !== undefined).length;
      assert.ok(results > old, `${results} results of ${old} that are a second old`);
      const closed = (await listSessions(up, false)).find((one) => one.id === id);
      assert.equal(closed?.closeReason, 'gateway lost');

      const segment = join(up.state, 'gateway/recordings', id, '0.seg');
      truncateSync(segment, readFileSync(segment).length - 7);
      const torn = await replay(id);
      assert.equal(torn.outcome.status, 0, torn.outcome.stderr);
      assert.match(torn.outcome.stderr, /record open: the last segment is not sealed/);
      assert.deepEqual(
        torn.events,
        events.slice(0, torn.events.length),
        'what is left is a prefix',
      );
      assert.equal(torn.events.length, events.length - 1);
    }).timeout(90_000);
  });
}

/** What a client types that should have known better, in each protocol. */
function textsWith(secret: string): Uint8Array[][] {
  const simple = [
    `select id from customers where ssn = '${secret}' or email = E'${secret}' or api_key = $x$${secret}$x$`,
    `select '${secret}' from nowhere -- ${secret}`,
    `select id /* ${secret} */ from customers where ssn = '${secret}' and and`,
    `select id from customers where ssn = '${secret}`,
    `insert into customers (name, ssn, email) values ('x', '${secret.slice(0, 11)}', '${secret}')`,
    `update customers set ssn = '${secret}'`,
    `prepare p as select id from customers where email = '${secret}'; execute p; deallocate p`,
    `select '${secret}'::int`,
    `set application_name = '${secret}'`,
  ];
  const extended = [
    'select id from customers where email = $1',
    'select $1::text',
    'select $1::int',
    'insert into customers (name, email) values ($1, $1)',
  ];
  return [
    ...simple.map((sql) => [queryMessage(sql)]),
    ...extended.map((sql) => [parse('', sql), bind('', '', [secret]), execute(), sync()]),
  ];
}

/** Results in binary. */
function binaryBind(): Buffer {
  return message('B', Buffer.from([0, 0]), Buffer.from([0, 0, 0, 0]), Buffer.from([0, 1, 0, 1]));
}

/** The demo's database, and the files that exist to hold a credential. */
function isSecretByDesign(file: string): boolean {
  return /\/postgres\/|\/shop\.password$|\/postgres-superuser$|\/writ-gateway$/.test(file);
}
