import { createReadStream } from 'node:fs';
import { Fault } from '../../runtime/fault.ts';
import type { restoreServer } from '../../server/restore-server.ts';
import { readBackupFile } from '../backup-file.ts';
import { needed } from '../identity-flags.ts';
import { passphraseOf } from '../passphrase.ts';
import { textFlag, type Verb, type VerbIo } from '../verb.ts';

export const serverRestore: Verb = {
  path: ['server', 'restore'],
  positionals: [],
  summary: 'Fill the empty state of a server that does not run from a backup; it starts locked',
  options: {
    config: { type: 'string' },
    from: { type: 'string' },
    'passphrase-file': { type: 'string' },
    'audit-export': { type: 'string' },
  },
  async run(flags, io) {
    const configFile = needed(flags, 'config');
    const from = needed(flags, 'from');
    const passphrase = await passphraseOf(flags);
    const server = await import('../../server/restore-server.ts');
    const exported = textFlag(flags, 'audit-export');
    const { takenAt, replayed } = await server.restoreServer(
      configFile,
      readBackupFile(from, passphrase),
      exported === undefined ? undefined : readExport(exported),
    );
    if (replayed === undefined)
      io.err(`restored as it was at ${takenAt}: what was revoked or deleted since is back`);
    else tellReplayed(replayed, io);
    io.err('start it, look over entries, agents, identities and grants, then: writ server unlock');
  },
};

type Replayed = NonNullable<Awaited<ReturnType<typeof restoreServer>>['replayed']>;

async function* readExport(file: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(file);
  } catch (cause) {
    throw new Fault('STATE_UNUSABLE', `--audit-export ${file} cannot be read`, { cause });
  }
}

function tellReplayed({ events, head, unknown }: Replayed, io: VerbIo): void {
  io.err(`restored, and ended what ${events} events after the backup say has ended`);
  const hash = Buffer.from(head.hash).toString('hex');
  io.err(`the log is as it was up to event ${head.seq}, head ${hash}: what came later is back`);
  for (const [type, count] of unknown)
    io.err(
      `${count} ${type}: what they changed stands in no audit log, so that is as it was before`,
    );
}
