/**
 * `npm run bench [ROW ...]`: each row measures Writ beside a peer in the same run and prints a ratio.
 * Compare ratios, never absolute figures of two runs. `--revocations N` and `--seconds N` set the size.
 */
import { parseArgs } from 'node:util';
import { Closers } from '../../runtime/closers.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';
import { benchEntries } from './entries.ts';
import { benchIdentity } from './identity.ts';
import { benchPostgres } from './postgres.ts';
import { benchPostgresWorkers } from './postgres-workers.ts';
import { benchRevocation } from './revocation.ts';
import type { Row } from './row.ts';
import { benchSsh } from './ssh.ts';
import { benchSshRevocation } from './ssh-revocation.ts';

const ROWS: Readonly<Record<string, Row>> = {
  entries: benchEntries,
  identity: benchIdentity,
  postgres: benchPostgres,
  'postgres-workers': benchPostgresWorkers,
  revocation: benchRevocation,
  ssh: benchSsh,
  'ssh-revocation': benchSshRevocation,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '5' },
    revocations: { type: 'string', default: '100' },
  },
});
const options = { seconds: Number(values.seconds), revocations: Number(values.revocations) };
const names = positionals.length > 0 ? positionals : Object.keys(ROWS);
await using closers = new Closers();
let running: Promise<RunningUp> | undefined;
/** One for all rows, started when the first needs it. */
const up = async () => {
  running ??= startUp();
  return running;
};
closers.defer(async () => await (await running)?.[Symbol.asyncDispose]());
for (const name of names) {
  const row = ROWS[name];
  if (row === undefined) {
    process.stderr.write(`bench: no row ${name}; there are ${Object.keys(ROWS).join(', ')}\n`);
    process.exitCode = 2;
    break;
  }
  for (const line of await row(up, options)) process.stdout.write(`${line}\n`);
}
