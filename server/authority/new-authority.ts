/** Makes authorities, outside of any transaction: an upstream may take its time. */
import { createHash, randomBytes } from 'node:crypto';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import { createCaCsr, selfSignedCa } from '../../identity/x509/ca.ts';
import { isIssuedBy, parseCertificate, publicKeyOf } from '../../identity/x509/certificate.ts';
import { subjectKeyIdOf } from '../../identity/x509/key.ts';
import { Fault } from '../../runtime/fault.ts';
import type { UpstreamAuthority } from '../plugins/upstream-authority/upstream-authority.ts';
import type { AuthorityKeys, NewKey } from './authority-keys.ts';
import type { AuthorityInit, AuthorityKind } from './authority-rows.ts';
import { type AuthoritySettings, settingsOf } from './authority-settings.ts';
import { type TrustedRow, trustedX509 } from './trusted-rows.ts';

export interface MakeOptions {
  readonly trustDomain: TrustDomain;
  readonly keys: AuthorityKeys;
  readonly settings: AuthoritySettings;
  readonly upstream: UpstreamAuthority | undefined;
  readonly now: Date;
  readonly signal: AbortSignal;
}

export interface NewAuthority {
  readonly authority: AuthorityInit;
  /** What verifies it, and has to be in the bundle. */
  readonly roots: readonly TrustedRow[];
}

/**
 * An authority whose key is kept, and that nobody knows yet.
 * @throws Fault UNAVAILABLE, FAILED_PRECONDITION if the upstream authority signs none
 */
export async function makeAuthority(
  kind: AuthorityKind,
  options: MakeOptions,
): Promise<NewAuthority> {
  const { keys, settings, now, upstream } = options;
  const { keyType, lifetimeMs } = settingsOf(kind, settings);
  const key = await keys.generate(kind, keyType);
  try {
    if (kind !== 'x509') {
      const notAfter = new Date(now.getTime() + lifetimeMs);
      return { authority: { ...plain(kind, key), notBefore: now, notAfter }, roots: [] };
    }
    return upstream === undefined
      ? await root(key, lifetimeMs, options)
      : await intermediate(key, lifetimeMs, { ...options, upstream });
  } catch (error) {
    await keys.remove(key.name);
    throw error;
  }
}

function plain(kind: AuthorityKind, { name: keyName, signer: { publicKey } }: NewKey) {
  const id =
    kind === 'jwt'
      ? randomBytes(16).toString('hex')
      : createHash('sha256').update(encodePublicKey(publicKey)).digest('hex');
  return { id, kind, keyName, publicKey, ...{ certificate: undefined, chain: [], upstreamId: '' } };
}

async function root(
  { name: keyName, signer }: NewKey,
  lifetimeMs: number,
  { trustDomain, now }: MakeOptions,
): Promise<NewAuthority> {
  const notAfter = new Date(now.getTime() + lifetimeMs);
  const { certificate, subjectKeyId } = await selfSignedCa({ trustDomain, now, notAfter }, signer);
  const parts = { certificate, keyName, publicKey: signer.publicKey, chain: [], upstreamId: '' };
  // A certificate ends on a whole second.
  const end = parseCertificate(certificate).notAfter;
  return {
    authority: { id: subjectKeyId, kind: 'x509', ...parts, notBefore: now, notAfter: end },
    roots: [],
  };
}

async function intermediate(
  { name: keyName, signer }: NewKey,
  lifetimeMs: number,
  options: MakeOptions & { readonly upstream: UpstreamAuthority },
): Promise<NewAuthority> {
  const { trustDomain, upstream, now, signal } = options;
  const csr = await createCaCsr(trustDomain, signer);
  const minted = await upstream.mint(csr, lifetimeMs / 1000, signal);
  const [own, ...chain] = minted.chain.map((der) => parseCertificate(der));
  if (own === undefined || !publicKeyOf(own).equals(signer.publicKey))
    throw unusable('it is not of the key that was asked for');
  const roots = minted.roots.map((der) => trustedX509(der, 'upstream'));
  const last = chain.at(-1) ?? own;
  const issuer = roots.find(
    ({ certificate }) => certificate && isIssuedBy(last, parseCertificate(certificate)),
  );
  if (issuer === undefined) throw unusable('none of its roots has signed it');
  // What is signed has to end with the first that ends of its path.
  const ends = [own, ...chain, { notAfter: issuer.notAfter ?? own.notAfter }];
  const notAfter = new Date(Math.min(...ends.map((one) => one.notAfter.getTime())));
  if (notAfter <= now) throw unusable('it has ended');
  return {
    authority: {
      ...{ id: subjectKeyIdOf(own.spki).toString('hex'), kind: 'x509', keyName },
      ...{ certificate: own.raw, publicKey: signer.publicKey, notBefore: now, notAfter },
      chain: chain.map(({ raw }) => raw),
      upstreamId: issuer.subjectKeyId,
    },
    roots,
  };
}

function unusable(why: string): Fault {
  return new Fault(
    'FAILED_PRECONDITION',
    `the certificate of the upstream authority cannot be used: ${why}`,
  );
}
