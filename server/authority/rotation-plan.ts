/** When authorities are prepared, activated and forgotten: SPIRE's times. */
import type { AuthorityRow } from './authority-rows.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** What is signed at most that long before the end is signed by the next. */
const LONGEST_PREPARED_MS = 30 * DAY_MS;
const LONGEST_ACTIVATED_MS = 7 * DAY_MS;
/**
 * What one of X.509 or JWT stays in the bundle for after its end, for verifiers' clocks differ. Less where
 * authorities live for minutes, or the bundle would hold thousands.
 */
const LONGEST_GRACE_MS = DAY_MS;
const LEAST_GRACE_MS = 5 * 60 * 1000;
const GRACE_IN_LIVES = 24;
/** What everybody who polls takes to know a new authority. */
const PUBLICATION_MS = 60_000;

export type RotationStep = 'prepare' | 'activate' | 'prune';

export interface DueStep {
  readonly step: RotationStep;
  readonly at: Date;
}

/** At half of its life, or 30 days before its end if that is later. */
export function prepareAt({ notBefore, notAfter }: AuthorityRow): Date {
  const life = notAfter.getTime() - notBefore.getTime();
  return new Date(notAfter.getTime() - Math.min(life / 2, LONGEST_PREPARED_MS));
}

/**
 * When a sixth of its life is left, or seven days; a successor that came late is published for a while
 * first, if what is left allows.
 */
export function activateAt(active: AuthorityRow, prepared: AuthorityRow): Date {
  const end = active.notAfter.getTime();
  const life = end - active.notBefore.getTime();
  const planned = end - Math.min(life / 6, LONGEST_ACTIVATED_MS);
  const published = prepared.notBefore.getTime();
  const known = published + Math.min(PUBLICATION_MS, Math.max(0, end - published) / 2);
  return new Date(Math.max(planned, known));
}

/** When an authority that has ended is forgotten. */
export function pruneAt({ kind, notBefore, notAfter }: AuthorityRow): Date {
  if (kind !== 'x509' && kind !== 'jwt') return notAfter;
  const life = notAfter.getTime() - notBefore.getTime();
  const grace = Math.min(LONGEST_GRACE_MS, Math.max(LEAST_GRACE_MS, life * GRACE_IN_LIVES));
  return new Date(notAfter.getTime() + grace);
}

/** As `pruneAt`, for one that is not ours; undefined if it never ends. */
export function pruneTrustedAt({
  notAfter,
}: {
  readonly notAfter: Date | undefined;
}): Date | undefined {
  return notAfter && new Date(notAfter.getTime() + LONGEST_GRACE_MS);
}

/** The next step of one kind of authority; undefined if there is none. */
export function nextStep(rows: readonly AuthorityRow[], now: Date): DueStep | undefined {
  const active = rows.find(({ state }) => state === 'active');
  const prepared = rows.find(({ state, notAfter }) => state === 'prepared' && notAfter > now);
  const steps: DueStep[] = rows.flatMap((row) => {
    return row.state === 'active' ? [] : [{ step: 'prune', at: pruneAt(row) }];
  });
  if (active !== undefined && prepared !== undefined)
    steps.push({ step: 'activate', at: activateAt(active, prepared) });
  if (active !== undefined && prepared === undefined)
    steps.push({ step: 'prepare', at: prepareAt(active) });
  return steps.reduce<DueStep | undefined>(
    (first, one) => (first === undefined || one.at < first.at ? one : first),
    undefined,
  );
}
