/** `writ server restore`: fills the state of a server that does not run from a backup. */
import { systemClock } from '../runtime/clock.ts';
import { loadConfig } from '../runtime/config.ts';
import { createLogger } from '../runtime/log.ts';
import { restoreBackup } from './backup/restore-backup.ts';
import { serverConfigSchema } from './config.ts';
import { AdminSocket } from './endpoints.ts';
import { keyManager, openDatastore } from './plugins/catalog.ts';
import { prepareStateDir } from './state-dir.ts';

/**
 * @param configFile of the server
 * @param chunks the backup, untrusted
 * @returns when the backup was taken
 * @throws Fault CONFIG_INVALID, STATE_UNUSABLE, FAILED_PRECONDITION; nothing is left then
 */
export async function restoreServer(
  configFile: string,
  chunks: AsyncIterable<Uint8Array>,
): Promise<string> {
  const config = await loadConfig(configFile, serverConfigSchema);
  await prepareStateDir(config.state_dir);
  // Holds the state as a running server would, so that none can start meanwhile.
  const log = createLogger({ process: 'server', level: config.log.level });
  await using _ = await AdminSocket.open(config.state_dir, log);
  const restored = await restoreBackup(chunks, {
    trustDomain: config.trust_domain,
    clock: systemClock,
    keys: keyManager(config),
    openStore: (version) => openDatastore(config, version),
  });
  // Once more, with the schema of this program.
  await using _store = await openDatastore(config);
  return restored.taken_at;
}
