/** `writ server backup|unlock|limit-admin-socket`: what an operator does to a server that runs. */
import { ServerService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { writeBackupFile } from '../backup-file.ts';
import { needed } from '../identity-flags.ts';
import { passphraseOf } from '../passphrase.ts';
import type { Verb, VerbIo } from '../verb.ts';

export const serverBackup: Verb = {
  path: ['server', 'backup'],
  positionals: [],
  summary: 'Write everything that a running server keeps, its keys too, to a file',
  options: { out: { type: 'string' }, 'passphrase-file': { type: 'string' } },
  async run(flags, io) {
    const file = needed(flags, 'out');
    const passphrase = await passphraseOf(flags);
    await writeBackupFile(file, chunks(io), passphrase);
    if (passphrase === undefined)
      io.err("the file holds the authorities' private keys as they are: keep it as you keep them");
    io.out(file);
  },
};

export const serverUnlock: Verb = {
  path: ['server', 'unlock'],
  positionals: [],
  summary: 'Let a restored server serve again, once it has been looked over',
  options: { reason: { type: 'string' } },
  async run(flags, io) {
    const reason = needed(flags, 'reason');
    await io.admin(ServerService).unlock({ reason }, { signal: io.signal });
    io.err('unlocked');
  },
};

export const serverLimitAdminSocket: Verb = {
  path: ['server', 'limit-admin-socket'],
  positionals: [],
  summary:
    'Leave the admin socket with looking, locking and killing; only a restart opens it again',
  options: {},
  async run(_flags, io) {
    await io.admin(ServerService).limitAdminSocket({}, { signal: io.signal });
    io.err('limited');
  },
};

async function* chunks(io: VerbIo): AsyncGenerator<Uint8Array> {
  const parts = io.admin(ServerService).backup({}, { signal: io.signal });
  for await (const { chunk } of parts) yield chunk;
}
