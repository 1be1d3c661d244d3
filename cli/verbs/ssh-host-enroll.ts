import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { parsePublicKeyLine, publicKeyLine } from '../../identity/ssh/public-key.ts';
import { SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import { parseDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { makeDirectory } from '../../runtime/make-directory.ts';
import { type Flags, textFlag, type Verb, type VerbIo } from '../verb.ts';

const A_YEAR_SECONDS = 365 * 24 * 60 * 60;
const ACCOUNT = /^[a-z_][a-z0-9_-]{0,31}$/;

export const sshHostEnroll: Verb = {
  path: ['ssh', 'host', 'enroll'],
  positionals: ['BACKEND'],
  summary:
    'Write what a target’s sshd needs: host certificate, gateway authority, principals, sshd_config',
  options: {
    'host-key': { type: 'string', default: '/etc/ssh/ssh_host_ed25519_key.pub' },
    ttl: { type: 'string', default: '90d' },
    out: { type: 'string', default: '.' },
  },
  run,
};

async function run(flags: Flags, io: VerbIo, [backend = '']: readonly string[]): Promise<void> {
  const ttlSeconds = parseDuration(textFlag(flags, 'ttl') ?? '', '--ttl', A_YEAR_SECONDS);
  const publicKey = await readPublicKey(textFlag(flags, 'host-key') ?? '');
  const ssh = io.admin(SshService);
  const { gateway } = await ssh.listSshAuthorities({}, { signal: io.signal });
  const request = { backend, publicKey, ttlSeconds };
  const signed = await ssh.signHostCertificate(request, { signal: io.signal });
  const accounts = Object.entries(signed.principals);
  // What follows runs as root often, and writes files under these names.
  if (!accounts.every(([account]) => ACCOUNT.test(account)))
    throw new Fault('PROTOCOL_VIOLATION', 'the server names accounts that no machine has');

  const folder = resolve(textFlag(flags, 'out') ?? '.');
  const write = (path: string, lines: readonly string[]) =>
    writeAtomic(join(folder, path), Buffer.from(lines.map((line) => `${line}\n`).join('')), 0o644);
  await makeDirectory(join(folder, 'principals'), 0o755);
  await write('host-cert.pub', [publicKeyLine(signed.certificate, backend)]);
  await write(
    'gateway_ca.pub',
    gateway.map((blob) => publicKeyLine(blob, 'writ gateway')),
  );
  for (const [account, { principals }] of accounts) {
    await write(join('principals', account), principals);
  }
  await write('sshd_config', [
    `# Lines for the sshd of ${backend}; put these files into /etc/ssh/writ first.`,
    'HostCertificate /etc/ssh/writ/host-cert.pub',
    'TrustedUserCAKeys /etc/ssh/writ/gateway_ca.pub',
    'AuthorizedPrincipalsFile /etc/ssh/writ/principals/%u',
    '',
    '# Whoever logs in by Writ could leave a key of their own, and come back by it unrecorded.',
    `Match User ${accounts.map(([account]) => account).join(',')}`,
    '  AuthorizedKeysFile none',
    '  AuthenticationMethods publickey',
    '  PermitUserRC no',
    '  DisableForwarding yes',
  ]);
  io.out(folder);
  const until = signed.expiresAt === undefined ? '' : timestampDate(signed.expiresAt).toISOString();
  io.err(`copy ${folder} to /etc/ssh/writ on the target; the certificate ends at ${until}`);
}

async function readPublicKey(file: string): Promise<Buffer> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new Fault('USAGE', `--host-key ${file}: cannot be read`, { cause });
  }
  try {
    return parsePublicKeyLine(text.trim());
  } catch (cause) {
    const message = `--host-key ${file}: expected a public key line such as ssh-ed25519 AAAA...`;
    throw new Fault('USAGE', message, { cause });
  }
}
