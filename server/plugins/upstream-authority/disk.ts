import { makeBundle } from '../../../identity/bundle.ts';
import { localSigner } from '../../../identity/signer.ts';
import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import { svidRefusal, verifySvid } from '../../../identity/verify.ts';
import { subordinateCa } from '../../../identity/x509/ca.ts';
import { parseCsr } from '../../../identity/x509/csr.ts';
import { generateKey, spkiOf } from '../../../identity/x509/key.ts';
import { leafSigner } from '../../../identity/x509/leaf.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import { randomId } from '../../access/random-id.ts';
import { type DiskAuthority, type DiskFiles, readDiskAuthority } from './disk-files.ts';
import type { MintedAuthority, UpstreamAuthority } from './upstream-authority.ts';

export interface DiskUpstreamOptions {
  readonly trustDomain: TrustDomain;
  readonly files: DiskFiles;
  readonly clock: Clock;
}

const TRIAL_SECONDS = 60;

/**
 * An authority in files, which are read anew for each certificate that it signs: once they are others,
 * the next is signed by those.
 * @throws Fault CONFIG_INVALID, with one line for each thing that is wrong with the files
 */
export async function diskUpstream(options: DiskUpstreamOptions): Promise<UpstreamAuthority> {
  try {
    await usableAuthority(options);
  } catch (error) {
    if (error instanceof Error) throw new Fault('CONFIG_INVALID', inSection(error.message));
    throw error;
  }
  return {
    type: 'disk',
    async mint(csrDer, preferredTtlSeconds) {
      const { spki } = await parseCsr(csrDer);
      try {
        const authority = await usableAuthority(options);
        return await sign(authority, spki, { ...options, ttlSeconds: preferredTtlSeconds });
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        throw new Fault('FAILED_PRECONDITION', inSection(error.message), { cause: error });
      }
    },
  };
}

/** The authority of the files, if what is signed below it verifies. */
async function usableAuthority(options: DiskUpstreamOptions): Promise<DiskAuthority> {
  const { trustDomain, files, clock } = options;
  const authority = readDiskAuthority(files, clock.now());
  const privateKey = await generateKey('ec-p256');
  const spki = spkiOf(localSigner(privateKey).publicKey);
  const { chain, roots } = await sign(authority, spki, { ...options, ttlSeconds: TRIAL_SECONDS });
  const [certificate = Buffer.of()] = chain;
  const now = clock.now();
  const leaf = leafSigner({ certificate, privateKey }).sign({
    ...{ spki, uri: SpiffeId.fromSegments(trustDomain, 'trial'), dnsNames: [], now },
    notAfter: new Date(now.getTime() + TRIAL_SECONDS * 1000),
  });
  const bundle = makeBundle({ trustDomain, x509: roots });
  try {
    verifySvid([leaf.der, ...chain], () => bundle, now);
  } catch (error) {
    const why = svidRefusal(error) ?? 'unknown reason';
    throw new Error(`${files.certFile}: SVIDs below it would not verify: ${why}`);
  }
  return authority;
}

async function sign(
  { certificate: { raw }, privateKey, chain, roots }: DiskAuthority,
  spki: Uint8Array,
  options: DiskUpstreamOptions & { readonly ttlSeconds: number },
): Promise<MintedAuthority> {
  const { trustDomain, clock, ttlSeconds } = options;
  const now = clock.now();
  const notAfter = new Date(now.getTime() + ttlSeconds * 1000);
  const unit = `DISK-${randomId('').slice(0, 16)}`;
  const issuer = { certificate: raw, signer: localSigner(privateKey) };
  const { certificate } = await subordinateCa({ trustDomain, now, notAfter, unit }, spki, issuer);
  return {
    chain: [certificate, ...chain.map((one) => one.raw)],
    roots: roots.map((one) => one.raw),
  };
}

function inSection(lines: string): string {
  return lines.replace(/^/gm, 'upstream_authority.disk: ');
}
