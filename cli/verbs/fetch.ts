/** `writ fetch x509|jwt|ssh|bundle`: this process's identity from the agent, for people and scripts. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { bundleToPem } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { opensshPrivateKey } from '../../identity/ssh/private-key.ts';
import { encodePublicKey, publicKeyLine } from '../../identity/ssh/public-key.ts';
import { svidPem } from '../../identity/x509-svid.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import { Fault } from '../../runtime/fault.ts';
import { fetchJwtSvid } from '../../sdk/jwt-source.ts';
import { SshAccessClient } from '../../sdk/ssh-access-client.ts';
import { WorkloadApiClient } from '../../sdk/workload-api-client.ts';
import { X509Source } from '../../sdk/x509-source.ts';
import { agentEndpoint } from '../agent-endpoint.ts';
import { patiently } from '../patiently.ts';
import { knownHostsText } from '../ssh-config.ts';
import { type Flags, textFlag, textFlags, type Verb, type VerbIo } from '../verb.ts';

const WAIT_MS = 10_000;
const common = { socket: { type: 'string' }, 'spiffe-id': { type: 'string' } } as const;

export const fetchX509: Verb = {
  path: ['fetch', 'x509'],
  positionals: [],
  summary: 'Write this process’s X509-SVID, key and bundle as svid.pem, key.pem and bundle.pem',
  options: { ...common, out: { type: 'string', default: '.' } },
  async run(flags, io) {
    await using source = await connect(flags, io);
    const folder = textFlag(flags, 'out') ?? '.';
    const { certificates, key } = svidPem(source.svid.value);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await writeAtomic(join(folder, 'key.pem'), Buffer.from(key), 0o600);
    await writeAtomic(join(folder, 'svid.pem'), Buffer.from(certificates), 0o644);
    await writeAtomic(
      join(folder, 'bundle.pem'),
      Buffer.from(bundleToPem(source.bundle.value)),
      0o644,
    );
    const { id, notAfter } = source.svid.value;
    io.out(String(id));
    io.err(`svid.pem, key.pem and bundle.pem in ${folder} hold until ${notAfter.toISOString()}`);
  },
};

export const fetchSsh: Verb = {
  path: ['fetch', 'ssh'],
  positionals: [],
  summary: 'Write a new SSH key, its certificate and known_hosts for clients without an ssh-agent',
  options: { ...common, out: { type: 'string', default: '.' } },
  async run(flags, io) {
    await using client = new SshAccessClient(agentEndpoint(flags));
    const { privateKey } = generateKeyPairSync('ed25519');
    const publicKey = encodePublicKey(privateKey);
    const signal = AbortSignal.any([io.signal, AbortSignal.timeout(WAIT_MS)]);
    const wanted = { ...idOf(flags), signal };
    const { id, certificate, expiresAt } = await patiently(
      () => client.issue(publicKey, wanted),
      signal,
    );
    const hosts = knownHostsText(await client.access(signal));
    const folder = textFlag(flags, 'out') ?? '.';
    const comment = String(id);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const write = (name: string, text: string, mode: number) =>
      writeAtomic(join(folder, name), Buffer.from(text), mode);
    await write('id_ed25519', opensshPrivateKey(privateKey, comment), 0o600);
    await write('id_ed25519.pub', `${publicKeyLine(publicKey, comment)}\n`, 0o644);
    await write('id_ed25519-cert.pub', `${publicKeyLine(certificate.blob, comment)}\n`, 0o644);
    await write('known_hosts', hosts, 0o644);
    io.out(comment);
    io.err(
      `id_ed25519, id_ed25519-cert.pub and known_hosts in ${folder} hold until ${expiresAt.toISOString()}`,
    );
  },
};

export const fetchBundle: Verb = {
  path: ['fetch', 'bundle'],
  positionals: [],
  summary: 'Print the trust domain’s X.509 authorities as PEM',
  options: common,
  async run(flags, io) {
    await using source = await connect(flags, io);
    io.out(bundleToPem(source.bundle.value).trimEnd());
  },
};

export const fetchJwt: Verb = {
  path: ['fetch', 'jwt'],
  positionals: [],
  summary: 'Print a JWT-SVID of this process',
  options: { ...common, audience: { type: 'string', multiple: true } },
  async run(flags, io) {
    const audience = textFlags(flags, 'audience');
    if (audience.length === 0) throw new Fault('USAGE', 'fetch jwt: name the --audience');
    await using client = new WorkloadApiClient(agentEndpoint(flags));
    const signal = AbortSignal.any([io.signal, AbortSignal.timeout(WAIT_MS)]);
    const svid = await fetchJwtSvid(client, audience, { ...idOf(flags), signal });
    io.out(svid.token);
  },
};

function connect(flags: Flags, io: VerbIo): Promise<X509Source> {
  const signal = AbortSignal.any([io.signal, AbortSignal.timeout(WAIT_MS)]);
  return X509Source.connect({ endpoint: agentEndpoint(flags), ...idOf(flags), signal });
}

function idOf(flags: Flags): { spiffeId?: SpiffeId } {
  const text = textFlag(flags, 'spiffe-id');
  return text === undefined ? {} : { spiffeId: SpiffeId.parse(text) };
}
