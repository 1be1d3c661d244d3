import { readBackupFile } from '../backup-file.ts';
import { needed } from '../identity-flags.ts';
import { passphraseOf } from '../passphrase.ts';
import type { Verb } from '../verb.ts';

export const serverRestore: Verb = {
  path: ['server', 'restore'],
  positionals: [],
  summary: 'Fill the empty state of a server that does not run from a backup; it starts locked',
  options: {
    config: { type: 'string' },
    from: { type: 'string' },
    'passphrase-file': { type: 'string' },
  },
  async run(flags, io) {
    const configFile = needed(flags, 'config');
    const from = needed(flags, 'from');
    const passphrase = await passphraseOf(flags);
    const { restoreServer } = await import('../../server/restore-server.ts');
    const takenAt = await restoreServer(configFile, readBackupFile(from, passphrase));
    io.err(`restored as it was at ${takenAt}: what was revoked or deleted since is back`);
    io.err('start it, look over entries, agents, identities and grants, then: writ server unlock');
  },
};
