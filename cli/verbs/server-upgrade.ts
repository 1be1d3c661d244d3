import { readBackupFile, writeBackupFile } from '../backup-file.ts';
import { needed } from '../identity-flags.ts';
import { passphraseOf } from '../passphrase.ts';
import type { Verb } from '../verb.ts';

export const serverUpgrade: Verb = {
  path: ['server', 'upgrade'],
  positionals: [],
  summary: "Take the store of a server that does not run to this program's schema, after a backup",
  options: {
    config: { type: 'string' },
    backup: { type: 'string' },
    'passphrase-file': { type: 'string' },
  },
  async run(flags, io) {
    const configFile = needed(flags, 'config');
    const file = needed(flags, 'backup');
    const passphrase = await passphraseOf(flags);
    const { upgradeServer } = await import('../../server/upgrade-server.ts');
    const done = await upgradeServer(configFile, {
      keep: (chunks) => writeBackupFile(file, chunks, passphrase),
      kept: () => readBackupFile(file, passphrase),
    });
    if (done === undefined) {
      io.err("the store has this program's schema already: nothing to upgrade");
      return;
    }
    io.out(file);
    io.err(`upgraded from schema version ${done.from} to ${done.to}`);
    io.err(
      done.canGoBack
        ? `it can go back, without what happens from now on: into an empty state, with the older program, writ server restore --config FILE --from ${file}`
        : `it cannot go back: no program of schema version ${done.from} restores a backup`,
    );
    if (passphrase === undefined)
      io.err("the file holds the authorities' private keys as they are: keep it as you keep them");
  },
};
