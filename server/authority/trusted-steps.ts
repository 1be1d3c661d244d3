/** Changes of what stands in our bundle and is not ours, each in a transaction with its event. */
import type { JwtAuthority } from '../../identity/bundle.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import type { AuthorityRow } from './authority-rows.ts';
import type { StepContext } from './authority-steps.ts';
import {
  deleteTrusted,
  insertTrusted,
  type TrustedRow,
  taintTrusted,
  taintTrustedJwt,
  trustedJwt,
} from './trusted-rows.ts';

/** Room is left for our own: a bundle holds 256 of each kind. */
const MOST_TRUSTED = 192;

export type TrustedContext = StepContext & { readonly trusted: readonly TrustedRow[] };

/** A key that JWT-SVIDs of the trust domain are signed with, by a server below this one. */
export type JwtKey = Pick<JwtAuthority, 'keyId' | 'publicKey' | 'expiresAt'>;

/**
 * Puts authorities into the bundle; what is there already stays as it is.
 * @throws Fault INVALID_ARGUMENT for a JWT key whose id is another key's
 */
export async function addTrusted(
  step: TrustedContext,
  added: readonly TrustedRow[],
): Promise<void> {
  if (step.trusted.length + added.length > MOST_TRUSTED)
    throw new Fault(
      'INVALID_ARGUMENT',
      `the bundle would have more than ${MOST_TRUSTED} authorities that are not ours`,
    );
  for (const row of added) {
    if (row.source !== 'appended' && hasEnded(row, step.now)) continue;
    if (isThere(step, row)) continue;
    if (!(await insertTrusted(step.tx, row))) continue;
    await tell(step, 'trusted', row);
  }
}

/** One that was appended by hand is shown once, as SPIRE does, and goes with the next pruning. */
function hasEnded({ notAfter }: TrustedRow, now: Date): boolean {
  return notAfter !== undefined && notAfter <= now;
}

/** @throws Fault INVALID_ARGUMENT */
export function publishedKey(key: JwtKey): TrustedRow {
  if (key.keyId === '') throw new Fault('INVALID_ARGUMENT', 'the JWT authority has no key ID');
  if (key.keyId.length > 255)
    throw new Fault('INVALID_ARGUMENT', 'the key ID of the JWT authority is longer than 255');
  return trustedJwt(key, 'published');
}

/**
 * Taints a root of the upstream authority that is no longer in use.
 * @throws Fault INVALID_ARGUMENT, FAILED_PRECONDITION
 */
export async function taintUpstreamRoot(step: TrustedContext, subjectKeyId: string): Promise<void> {
  const roots = unusedRoots(step, subjectKeyId);
  if (roots.every(({ taintedAt }) => taintedAt !== undefined))
    throw new Fault('FAILED_PRECONDITION', 'the upstream authority is tainted already');
  await taintTrusted(step.tx, subjectKeyId, step.now);
  for (const row of roots) await tell(step, 'tainted', row);
}

/**
 * Drops a root of the upstream authority, and with it all that was signed below it.
 * @param mayRevoke throws if somebody would be locked out
 * @throws Fault INVALID_ARGUMENT, FAILED_PRECONDITION
 */
export async function revokeUpstreamRoot(
  step: TrustedContext,
  subjectKeyId: string,
  mayRevoke: (root: TrustedRow, below: readonly AuthorityRow[]) => Promise<void>,
): Promise<void> {
  const roots = unusedRoots(step, subjectKeyId);
  const below = step.rows.filter(({ upstreamId }) => upstreamId === subjectKeyId);
  for (const row of roots) {
    if (row.taintedAt === undefined)
      throw new Fault('FAILED_PRECONDITION', 'an authority has to be tainted before it is revoked');
    await mayRevoke(row, below);
    await deleteTrusted(step.tx, row);
    await tell(step, 'revoked', row);
  }
}

/** Taints the upstream's JWT key of this id, or drops it with all that it signed, as the upstream has. */
export async function withdrawJwt(
  step: TrustedContext,
  id: string,
  standing: 'tainted' | 'gone',
): Promise<void> {
  const row = step.trusted.find(
    (one) => one.kind === 'jwt' && one.source === 'upstream' && one.id === id,
  );
  if (row === undefined) return;
  if (standing === 'gone') {
    await deleteTrusted(step.tx, row);
    await tell(step, 'revoked', row);
  } else if (row.taintedAt === undefined) {
    await taintTrustedJwt(step.tx, id, step.now);
    await tell(step, 'tainted', row);
  }
}

export async function dropEndedTrusted(step: TrustedContext, row: TrustedRow): Promise<void> {
  await deleteTrusted(step.tx, row);
  await tell(step, 'expired', row);
}

/** One key may come with several certificates. */
function unusedRoots({ rows, trusted }: TrustedContext, subjectKeyId: string): TrustedRow[] {
  if (subjectKeyId === '') throw new Fault('INVALID_ARGUMENT', 'no subject key ID provided');
  const roots = trusted.filter(
    (one) => one.source === 'upstream' && one.subjectKeyId === subjectKeyId,
  );
  if (roots.length === 0)
    throw new Fault('INVALID_ARGUMENT', 'no upstream authority has this subject key ID');
  const isInUse = rows.some(
    ({ state, upstreamId }) => state !== 'old' && upstreamId === subjectKeyId,
  );
  if (isInUse) throw new Fault('INVALID_ARGUMENT', 'the upstream authority is in use');
  return roots;
}

/** Whether the bundle has it already, as ours or as another's. */
function isThere({ rows, trusted }: TrustedContext, row: TrustedRow): boolean {
  if (row.kind === 'x509')
    return rows.some(
      ({ certificate }) =>
        certificate !== undefined &&
        row.certificate !== undefined &&
        Buffer.compare(certificate, row.certificate) === 0,
    );
  const known = [...rows, ...trusted].find(({ kind, id }) => kind === 'jwt' && id === row.id);
  if (known === undefined) return false;
  if (known.publicKey.equals(row.publicKey)) return true;
  throw new Fault('INVALID_ARGUMENT', 'the key ID of a JWT authority is that of another key');
}

async function tell(
  { audit, tx, actor }: { readonly actor: Actor } & TrustedContext,
  event: 'trusted' | 'tainted' | 'revoked' | 'expired',
  { kind, id, source }: TrustedRow,
): Promise<void> {
  await audit.append(tx, {
    type: `authority.${event}`,
    outcome: Outcome.SUCCESS,
    actor,
    attributes: { kind, authority: id, source },
  });
}
