/** The positive control of the corpora: the same attempts by a superuser, with no gateway and no view between. */
import { existsSync, rmSync } from 'node:fs';
import { startupMessage } from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import type { TestPostgres } from '../fixtures/postgres.ts';
import { until } from '../fixtures/restarts.ts';
import { errorOf, WireClient } from '../fixtures/wire-client.ts';
import { type Attempt, type Heard, runAttempt } from './attempt.ts';
import { shopState } from './shop-state.ts';

const BOSS = 'boss';
const PRISTINE = 'pristine';
const CONTROL = 'control';

/** What an attempt can change beyond its database. */
const CLUSTER_RESET: readonly string[] = [
  'alter system reset all',
  'select pg_reload_conf()',
  'alter database postgres reset all',
  'drop role if exists gone',
  `alter role ${BOSS} password null`,
  "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'gone'",
];

const CHANGES = /\b(alter|create|delete|drop|insert|merge|truncate|update)\b/i;
const PREPARED = 'select gid from pg_prepared_xacts';

export class Unprotected {
  readonly #server: TestPostgres;

  private constructor(server: TestPostgres) {
    this.#server = server;
  }

  /** @param sql of the shop; the server is this one's alone from now on */
  static async on(server: TestPostgres, sql: string): Promise<Unprotected> {
    await server.exec(`create role ${BOSS} superuser login`);
    await letInWithoutPassword(server, BOSS);
    await server.exec(`create database ${PRISTINE}`);
    await server.exec(sql, PRISTINE);
    const unprotected = new Unprotected(server);
    await unprotected.#renew();
    return unprotected;
  }

  /** What is answered; what it changes is undone. */
  async answers(attempt: Attempt): Promise<Heard> {
    const heard = await this.#run(attempt);
    if (CHANGES.test(JSON.stringify(attempt.steps))) await this.#renew();
    return heard;
  }

  async #run(attempt: Attempt): Promise<Heard> {
    using client = await WireClient.plain(this.#server.port);
    return await runAttempt(client, attempt, { user: BOSS, database: CONTROL });
  }

  /** What is answered, and whether it changes the database, the server or the file: all is as before then. */
  async run(attempt: Attempt, canary: string): Promise<{ heard: Heard; changed: boolean }> {
    const before = await shopState(this.#server, CONTROL);
    const heard = await this.#run(attempt);
    const isMade = existsSync(canary);
    if (!isMade && (await isSettledAt(before, this.#server))) return { heard, changed: false };
    rmSync(canary, { force: true });
    await this.#renew();
    return { heard, changed: true };
  }

  async oidOf(name: string): Promise<number> {
    const sql = `select oid::int from pg_proc where proname = '${name}'`;
    const [row] = await this.#server.exec(sql, CONTROL);
    return Number(row?.oid);
  }

  /** From a database that no attempt names. */
  async #renew(): Promise<void> {
    for (const { gid } of await this.#server.exec(PREPARED)) {
      await this.#server.exec(`rollback prepared '${gid}'`, CONTROL);
    }
    const renewals = [
      ...CLUSTER_RESET,
      `drop database if exists ${CONTROL} with (force)`,
      `create database ${CONTROL} template ${PRISTINE}`,
    ];
    for (const sql of renewals) await this.#server.exec(sql, 'template1');
  }
}

/** A state that cannot be read, because what it reads is gone, is another one. */
async function isSettledAt(state: string, server: TestPostgres): Promise<boolean> {
  const now = await shopState(server, CONTROL).catch((error: Error) => error.message);
  return now === state;
}

/** By a line of pg_hba.conf, written by the server itself. */
async function letInWithoutPassword(server: TestPostgres, role: string): Promise<void> {
  const [row] = await server.exec('show hba_file');
  const lines = [`host all ${role} 127.0.0.1/32 trust`, 'host all all 127.0.0.1/32 scram-sha-256'];
  const values = lines.map((line) => `('${line}')`).join(', ');
  await server.exec(`copy (values ${values}) to '${row?.hba_file}'`);
  await server.exec('select pg_reload_conf()');
  const isLetIn = async () => {
    using client = await WireClient.plain(server.port);
    client.send(
      startupMessage([
        ['user', role],
        ['database', 'postgres'],
      ]),
    );
    const answer = await client.next();
    return (
      answer?.type === 'R' && answer.body.readInt32BE() === 0 && errorOf([answer]) === undefined
    );
  };
  await until(isLetIn, 10_000, 'the server has read pg_hba.conf again');
}
