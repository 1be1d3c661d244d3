/** `writ server restore`: fills the state of a server that does not run from a backup. */
import { systemClock } from '../runtime/clock.ts';
import { loadConfig } from '../runtime/config.ts';
import { createLogger } from '../runtime/log.ts';
import { type Restored, restoreBackup } from './backup/restore-backup.ts';
import { serverConfigSchema } from './config.ts';
import { AdminSocket } from './endpoints.ts';
import { keyManager, openDatastore } from './plugins/catalog.ts';
import { MIGRATIONS } from './plugins/datastore/migrations.ts';
import { prepareStateDir } from './state-dir.ts';

/**
 * @param configFile of the server
 * @param chunks the backup, untrusted
 * @param auditExport of the same server's log, untrusted
 * @throws Fault CONFIG_INVALID, STATE_UNUSABLE, FAILED_PRECONDITION; nothing is left then
 */
export async function restoreServer(
  configFile: string,
  chunks: AsyncIterable<Uint8Array>,
  auditExport?: AsyncIterable<Uint8Array>,
): Promise<Restored> {
  const config = await loadConfig(configFile, serverConfigSchema);
  await prepareStateDir(config.state_dir);
  // Holds the state as a running server would, so that none can start meanwhile.
  const log = createLogger({ process: 'server', level: config.log.level });
  await using _ = await AdminSocket.open(config.state_dir, log);
  const restored = await restoreBackup(chunks, {
    trustDomain: config.trust_domain,
    clock: systemClock,
    keys: keyManager(config),
    ...(auditExport && { auditExport }),
    openStore: (version) => openDatastore(config, { migrations: MIGRATIONS.slice(0, version) }),
  });
  // The backup is the way back from this.
  await using _store = await openDatastore(config, { upgrade: async () => undefined });
  return restored;
}
