/** `writ secret put|list|retire|delete`: the server's vault of what gateways log in to backends with. */
import { type Secret, SecretService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { readSecretFile } from '../../runtime/secret-file.ts';
import { printTable } from '../table.ts';
import { isoTime } from '../time.ts';
import { textFlag, type Verb } from '../verb.ts';

const STDIN = '/dev/stdin';

export const secretPut: Verb = {
  path: ['secret', 'put'],
  positionals: ['NAME'],
  summary: 'Keep a secret of stdin or a file as a new version; it is never shown again',
  options: { file: { type: 'string', short: 'f' } },
  async run(flags, io, [name = '']) {
    const value = await secretValue(textFlag(flags, 'file') ?? STDIN);
    const { version } = await io
      .admin(SecretService)
      .putSecret({ name, value }, { signal: io.signal });
    io.out(String(version));
  },
};

export const secretList: Verb = {
  path: ['secret', 'list'],
  positionals: [],
  summary: 'List secrets, their versions and the backends that name them',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const { secrets } = await io.admin(SecretService).listSecrets({}, { signal: io.signal });
    const columns = ['name', 'version', 'state', 'created_at', 'key_id', 'backends'];
    printTable(io, secrets.flatMap(versionRows), columns, flags.json === true);
  },
};

export const secretRetire: Verb = {
  path: ['secret', 'retire'],
  positionals: ['NAME'],
  summary: 'Destroy the version before the current one',
  options: {},
  async run(_flags, io, [name = '']) {
    await io.admin(SecretService).retireSecret({ name }, { signal: io.signal });
    io.err(`retired the previous version of ${name}`);
  },
};

export const secretDelete: Verb = {
  path: ['secret', 'delete'],
  positionals: ['NAME'],
  summary: 'Destroy all versions of a secret that no backend names',
  options: {},
  async run(_flags, io, [name = '']) {
    await io.admin(SecretService).deleteSecret({ name }, { signal: io.signal });
    io.err(`deleted ${name}`);
  },
};

/** As the gateway reads a password file. */
async function secretValue(file: string): Promise<Uint8Array> {
  try {
    return await readSecretFile(file);
  } catch (cause) {
    const unreadable = cause instanceof Error && 'code' in cause;
    const why = cause instanceof Error && !unreadable ? cause.message : `${file} cannot be read`;
    throw new Fault('USAGE', `secret put: ${why}`, { cause });
  }
}

function versionRows({ name, versions, backends }: Secret) {
  return versions.map(({ version, state, createdAt, keyId }) => ({
    ...{ name, version: String(version), state, created_at: isoTime(createdAt), key_id: keyId },
    backends: backends.join(' '),
  }));
}
