/** `writ server upgrade`: takes the store of a server that does not run to this program's schema (threats M1). */
import { createPrivateKey } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Outcome } from '../proto/gen/writ/audit/v1/audit_pb.ts';
import { systemClock } from '../runtime/clock.ts';
import { loadConfig } from '../runtime/config.ts';
import { Fault } from '../runtime/fault.ts';
import { createLogger } from '../runtime/log.ts';
import { makeDirectory } from '../runtime/make-directory.ts';
import { SERVER_ACTOR } from './access/actor.ts';
import { AuditLog } from './audit/audit-log.ts';
import { restoreBackup } from './backup/restore-backup.ts';
import { backedUpKeys, writeBackup } from './backup/write-backup.ts';
import { type ServerConfig, serverConfigSchema } from './config.ts';
import { AdminSocket } from './endpoints.ts';
import { holdStoreAlone, keyManager, openDatastore, storedSchema } from './plugins/catalog.ts';
import type { Reader } from './plugins/datastore/datastore.ts';
import { MIGRATIONS, type Migration } from './plugins/datastore/migrations.ts';
import { text } from './plugins/datastore/row.ts';
import { openSqlite } from './plugins/datastore/sqlite.ts';
import { wrappingKeyFromPem } from './plugins/key-manager/key-wrapping.ts';
import { memoryKeyManager } from './plugins/key-manager/memory.ts';
import { prepareStateDir } from './state-dir.ts';

/** Programs of older schemas restore no backup. */
const FIRST_THAT_RESTORES = 3;

export interface UpgradeServerOptions {
  /** Keeps the backup whole, or throws. */
  keep(chunks: AsyncIterable<Uint8Array>): Promise<void>;
  /** The backup as it was kept. */
  kept(): AsyncIterable<Uint8Array>;
  /** The schema to take the store to; this program's unless told. */
  readonly migrations?: readonly Migration[];
}

export interface Upgraded {
  /** Version of the schema that the store had. */
  readonly from: number;
  readonly to: number;
  /** Whether a program of the old version can restore the backup. */
  readonly canGoBack: boolean;
}

/**
 * Backs the store up as it is, restores the backup on trial, and only then changes the schema, all of it
 * or nothing.
 * @param configFile of the server
 * @returns undefined if the schema is this program's already; no backup is taken then
 * @throws Fault CONFIG_INVALID, STATE_UNUSABLE, FAILED_PRECONDITION; the store is as it was then
 */
export async function upgradeServer(
  configFile: string,
  options: UpgradeServerOptions,
): Promise<Upgraded | undefined> {
  const { migrations = MIGRATIONS } = options;
  const config = await loadConfig(configFile, serverConfigSchema);
  await prepareStateDir(config.state_dir);
  // Holds state and store as a running server would, so that none can start meanwhile.
  const log = createLogger({ process: 'server', level: config.log.level });
  await using _socket = await AdminSocket.open(config.state_dir, log);
  await using _alone = await holdStoreAlone(config);
  const from = await storedSchema(config);
  const to = migrations.at(-1)?.version ?? 0;
  if (from === 0)
    throw new Fault('FAILED_PRECONDITION', 'there is no store yet: a server that starts makes it');
  if (from === to) return undefined;
  const backedUp = await backUp(config, from, options);
  await tryRestore(config, options);
  await using _store = await openDatastore(config, {
    migrations,
    upgrade: async (tx) => {
      if ((await newestEvent(tx)) !== backedUp)
        throw new Fault(
          'FAILED_PRECONDITION',
          'the store has changed since it was backed up: stop every server on it first',
        );
      await new AuditLog(tx, systemClock).append(tx, {
        ...{ type: 'server.upgraded', outcome: Outcome.SUCCESS, actor: SERVER_ACTOR },
        attributes: { from: String(from), to: String(to) },
      });
    },
  });
  return { from, to, canGoBack: from >= FIRST_THAT_RESTORES };
}

/** Resolves with the number of the newest audit event in the backup: no change comes without one. */
async function backUp(
  config: ServerConfig,
  schema: number,
  { keep, migrations = MIGRATIONS }: UpgradeServerOptions,
): Promise<number> {
  await using store = await openDatastore(config, { migrations: migrations.slice(0, schema) });
  await using snapshot = await store.snapshot();
  const owner = await snapshot.get(`select value from meta where key = 'trust_domain'`);
  const trustDomain = owner === undefined ? config.trust_domain : text(owner, 'value');
  if (trustDomain !== config.trust_domain)
    throw new Fault(
      'STATE_UNUSABLE',
      `the store belongs to trust domain ${trustDomain}, not ${config.trust_domain}`,
    );
  const head = {
    ...{ format: 'writ-server-backup' as const, schema },
    ...{ trust_domain: trustDomain, taken_at: systemClock.now().toISOString() },
  };
  await keep(writeBackup(snapshot, head, backedUpKeys(keyManager(config))));
  return await newestEvent(snapshot);
}

/** @throws Fault STATE_UNUSABLE if the backup could not be restored */
async function tryRestore(
  { state_dir: stateDir, trust_domain: trustDomain }: ServerConfig,
  { kept, migrations = MIGRATIONS }: UpgradeServerOptions,
): Promise<void> {
  const directory = join(stateDir, 'upgrade-trial');
  await rm(directory, { recursive: true, force: true });
  await makeDirectory(directory, 0o700);
  try {
    await restoreBackup(kept(), {
      trustDomain,
      clock: systemClock,
      keys: {
        ...memoryKeyManager(),
        importKey: async (_, pem) => {
          if (wrappingKeyFromPem(pem) === undefined) createPrivateKey(pem);
        },
      },
      openStore: (version) =>
        openSqlite(join(directory, 'server.db'), migrations.slice(0, version)),
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function newestEvent(reader: Reader): Promise<number> {
  const row = await reader.get('select coalesce(max(seq), 0) as seq from audit_events');
  return Number(row?.seq);
}
