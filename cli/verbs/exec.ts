/** `writ exec`: runs one command of a CI job with an identity that the job's own token brings. */
import { readFile } from 'node:fs/promises';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { decodePem } from '../../identity/x509/pem.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { descendsFrom } from '../exec/descendants.ts';
import { JobIdentity } from '../exec/job-identity.ts';
import { jobTokenSource } from '../exec/job-token.ts';
import { postgresFiles } from '../exec/postgres-files.ts';
import { servePrivately } from '../exec/private-endpoint.ts';
import { runCommand } from '../exec/run-command.ts';
import { pinnedBundle, sha256 } from '../exec/server-bundle.ts';
import { ExitStatus, type Flags, textFlag, textFlags, type Verb, type VerbIo } from '../verb.ts';

export const exec: Verb = {
  path: ['exec'],
  positionals: ['COMMAND', '[ARGUMENT...]'],
  summary:
    'Run a command with an identity that this CI job’s OIDC token proves, and end it with that',
  options: {
    oidc: { type: 'string' },
    server: { type: 'string' },
    bundle: { type: 'string' },
    fingerprint: { type: 'string', multiple: true },
    'token-env': { type: 'string' },
    'token-file': { type: 'string' },
    'spiffe-id': { type: 'string' },
    backend: { type: 'string' },
  },
  async run(flags, io, command) {
    const spiffeId = textFlag(flags, 'spiffe-id');
    const token = jobTokenSource({
      variable: textFlag(flags, 'token-env'),
      file: textFlag(flags, 'token-file'),
      environment: process.env,
    });
    const [provider, server] = [required(flags, 'oidc'), required(flags, 'server')];
    const { signal } = io;
    await using identity = await JobIdentity.open({
      bundle: await pinnedBundle(server, await pinsOf(flags), signal),
      ...{ server, provider, token, clock: systemClock, signal },
      ...(spiffeId === undefined ? {} : { spiffeId: SpiffeId.parse(spiffeId) }),
    });
    await runWith(identity, { flags, io, command });
  },
};

async function runWith(
  identity: JobIdentity,
  {
    flags,
    io,
    command,
  }: { readonly flags: Flags; readonly io: VerbIo; readonly command: readonly string[] },
): Promise<void> {
  let leader: number | undefined;
  await using endpoint = await servePrivately({
    identity,
    isOurs: (pid) => descendsFrom(pid, process.pid, leader),
  });
  await using files = await postgresFiles(identity.state);
  const backend = textFlag(flags, 'backend');
  const status = await runCommand({
    ...{ command, clock: systemClock },
    environment: {
      ...process.env,
      ...files.environment,
      SPIFFE_ENDPOINT_SOCKET: endpoint.address,
      ...(backend === undefined ? {} : { PGDATABASE: backend }),
    },
    ended: identity.ended.then(
      ({ code, message }) => new Fault(code, `the job’s identity has ended: ${message}`),
    ),
    onStart: (pid) => {
      leader = pid;
    },
  });
  if (status === 126 || status === 127) io.err(`writ: ${command[0]}: exit status ${status}`);
  if (status !== 0) throw new ExitStatus(status);
}

function required(flags: Flags, name: string): string {
  const value = textFlag(flags, name);
  if (value === undefined) throw new Fault('USAGE', `exec: --${name} is missing`);
  return value;
}

/** @throws Fault USAGE, CONFIG_INVALID */
async function pinsOf(flags: Flags): Promise<readonly string[]> {
  const [file, given] = [textFlag(flags, 'bundle'), textFlags(flags, 'fingerprint')];
  if ((file === undefined) === (given.length === 0))
    throw new Fault('USAGE', 'exec: --bundle FILE or --fingerprint HEX, one of them');
  if (file === undefined) {
    const pins = given.map((text) => text.replaceAll(':', '').toLowerCase());
    if (pins.every((pin) => /^[0-9a-f]{64}$/.test(pin))) return pins;
    throw new Fault('USAGE', 'exec: --fingerprint: the SHA-256 of the root, in hex');
  }
  try {
    return decodePem('CERTIFICATE', await readFile(file, 'latin1')).map(sha256);
  } catch (cause) {
    throw new Fault('CONFIG_INVALID', `no certificates can be read from ${file}`, { cause });
  }
}
