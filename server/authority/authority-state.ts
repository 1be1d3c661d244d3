import { type Bundle, makeBundle, x509Authority } from '../../identity/bundle.ts';
import type { Signer } from '../../identity/signer.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { spkiOf } from '../../identity/x509/key.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import type { AuthorityKeys } from './authority-keys.ts';
import { type AuthorityKind, type AuthorityRow, listAuthorities } from './authority-rows.ts';
import { bundledX509, listTrusted, type TrustedRow } from './trusted-rows.ts';

const REFRESH_HINT_SECONDS = 300;

/** An authority, and what signs for it. */
export interface KeptAuthority {
  readonly row: AuthorityRow;
  /** Undefined: its key is lost. */
  readonly signer: Signer | undefined;
}

/** An authority that can sign. */
export interface SigningAuthority extends KeptAuthority {
  readonly signer: Signer;
}

/** All authorities at one instant; a new object after each change. */
export interface AuthoritiesState {
  /** The active ones first, then the newest. */
  readonly authorities: readonly KeptAuthority[];
  readonly trusted: readonly TrustedRow[];
  /** The trust domain's own. */
  readonly bundle: Bundle;
}

/** What the store says, with each key looked up; the bundle's number is the stored one. */
export async function readState(
  reader: Reader,
  { trustDomain, keys }: { readonly trustDomain: TrustDomain; readonly keys: AuthorityKeys },
): Promise<AuthoritiesState> {
  const rows = await listAuthorities(reader);
  const authorities: KeptAuthority[] = [];
  for (const row of rows) authorities.push({ row, signer: await keys.find(row) });
  const trusted = await listTrusted(reader);
  const found = await reader.get(`select value from meta where key = 'bundle_sequence'`);
  const sequence = BigInt(String(found?.value ?? 0));
  return { authorities, trusted, bundle: bundleOf(trustDomain, { rows, trusted, sequence }) };
}

export function rowsOfKind(state: AuthoritiesState, kind: AuthorityKind): AuthorityRow[] {
  return state.authorities.flatMap(({ row }) => (row.kind === kind ? [row] : []));
}

/** The authority that signs what is of its kind, undefined if there is none or its key is lost. */
export function activeOf(
  { authorities }: AuthoritiesState,
  kind: AuthorityKind,
): SigningAuthority | undefined {
  const active = authorities.find(({ row }) => row.kind === kind && row.state === 'active');
  return active?.signer && { row: active.row, signer: active.signer };
}

/** Whether two bundles hold the same, in whatever order. */
export function isSameContent(one: Bundle, other: Bundle): boolean {
  return contentOf(one) === contentOf(other);
}

function contentOf({ x509Authorities, jwtAuthorities }: Bundle): string {
  const x509 = x509Authorities.map(
    ({ der, tainted }) => `${Buffer.from(der).toString('base64')} ${tainted}`,
  );
  const jwt = jwtAuthorities.map(
    ({ keyId, publicKey, expiresAt, tainted }) =>
      `${keyId} ${spkiOf(publicKey).toString('base64')} ${expiresAt?.getTime()} ${tainted}`,
  );
  return [...x509.sort(), ...jwt.sort()].join('\n');
}

interface BundleParts {
  readonly rows: readonly AuthorityRow[];
  readonly trusted: readonly TrustedRow[];
  readonly sequence: bigint;
}

/** The first X.509 authority is the one that what is signed now chains to: join strings pin it. */
function bundleOf(trustDomain: TrustDomain, { rows, trusted, sequence }: BundleParts): Bundle {
  const ofKind = (kind: AuthorityKind) => rows.filter((row) => row.kind === kind);
  const [active] = ofKind('x509');
  const isCurrent = ({ subjectKeyId }: TrustedRow) =>
    active !== undefined && subjectKeyId !== '' && subjectKeyId === active.upstreamId;
  const foreign = (wanted: boolean) =>
    trusted.filter((one) => isCurrent(one) === wanted).flatMap(bundledX509);
  const own = ofKind('x509').flatMap(({ certificate, upstreamId, tainted }) =>
    certificate === undefined || upstreamId !== '' ? [] : [x509Authority(certificate, tainted)],
  );
  return makeBundle({
    trustDomain,
    x509: [...foreign(true), ...own, ...foreign(false)],
    jwt: [...ofKind('jwt').map(jwtOf), ...trusted.filter(({ kind }) => kind === 'jwt').map(jwtOf)],
    sequenceNumber: sequence,
    refreshHintSeconds: REFRESH_HINT_SECONDS,
  });
}

function jwtOf({ id, publicKey, notAfter, taintedAt }: AuthorityRow | TrustedRow) {
  return { keyId: id, publicKey, expiresAt: notAfter, tainted: taintedAt !== undefined };
}
