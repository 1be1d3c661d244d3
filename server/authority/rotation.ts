/** Takes each authority to its next step when its time has come, for as long as the server runs. */

import { BackgroundLoop } from '../../runtime/background-loop.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import type { Authorities } from './authorities.ts';
import { AUTHORITY_KINDS, type AuthorityKind } from './authority-rows.ts';
import { type AuthoritiesState, rowsOfKind } from './authority-state.ts';
import { dropEnded } from './authority-steps.ts';
import { nextStep, pruneAt, pruneTrustedAt, type RotationStep } from './rotation-plan.ts';
import { dropEndedTrusted } from './trusted-steps.ts';
import { waitForEither } from './wait-for-either.ts';

const RETRY = { firstMs: 1000, maximumMs: 60_000 };

export interface RotationOptions {
  readonly authorities: Authorities;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Due {
  readonly kind: AuthorityKind | 'trusted';
  readonly step: RotationStep;
  readonly at: Date;
}

/** Runs until what it returns is disposed. */
export function rotateForever(options: RotationOptions): BackgroundLoop {
  const { clock, log } = options;
  const backoff = new Backoff(RETRY);
  return new BackgroundLoop({
    ...{ clock, log, retryMs: () => backoff.next() },
    failure: 'an authority could not be rotated',
    turn: async (signal) => {
      await rotate(options, signal);
      backoff.reset();
      await untilNext(options, signal);
      return 0;
    },
  });
}

/** Waits for the next step, or for a change that another hand has made. */
async function untilNext(
  { authorities, clock }: RotationOptions,
  signal: AbortSignal,
): Promise<void> {
  const source = authorities.state;
  const seen = source.value;
  await waitForEither(clock, earliest(seen, clock.now())?.at, { source, seen }, signal);
}

/**
 * Takes all steps that are due now, the earliest first.
 * @throws Fault UNAVAILABLE, FAILED_PRECONDITION if the upstream authority signs none
 */
export async function rotate(options: RotationOptions, signal: AbortSignal): Promise<void> {
  const { authorities, clock } = options;
  for (;;) {
    signal.throwIfAborted();
    for (const kind of AUTHORITY_KINDS) await authorities.ensureActive(kind, signal);
    const due = earliest(authorities.state.value, clock.now());
    if (due === undefined || due.at > clock.now()) return;
    await take(options, due, signal);
  }
}

async function take(
  { authorities, log, clock }: RotationOptions,
  { kind, step }: Due,
  signal: AbortSignal,
): Promise<void> {
  if (kind === 'trusted' || step === 'prune') {
    await prune(authorities, clock.now());
    return;
  }
  const rows = rowsOfKind(authorities.state.value, kind);
  const prepared = rows.find(({ state }) => state === 'prepared');
  const row =
    step === 'activate' && prepared !== undefined
      ? await authorities.activate({ kind, id: prepared.id }, SERVER_ACTOR)
      : await authorities.prepare(kind, SERVER_ACTOR, signal);
  log.info(
    { kind, authority: row.id, state: row.state, expires_at: row.notAfter },
    'authority rotated',
  );
}

async function prune(authorities: Authorities, now: Date): Promise<void> {
  await authorities.change(SERVER_ACTOR, async (step) => {
    for (const row of step.rows) {
      if (row.state !== 'active' && hasPassed(pruneAt(row), now)) await dropEnded(step, row);
    }
    for (const row of step.trusted) {
      if (hasPassed(pruneTrustedAt(row), now)) await dropEndedTrusted(step, row);
    }
  });
}

function hasPassed(at: Date | undefined, now: Date): boolean {
  return at !== undefined && at <= now;
}

function earliest(state: AuthoritiesState, now: Date): Due | undefined {
  const steps: Due[] = AUTHORITY_KINDS.flatMap((kind) => {
    const next = nextStep(rowsOfKind(state, kind), now);
    return next === undefined ? [] : [{ kind, ...next }];
  });
  for (const row of state.trusted) {
    const at = pruneTrustedAt(row);
    if (at !== undefined) steps.push({ kind: 'trusted', step: 'prune', at });
  }
  const [first] = steps.sort((one, other) => one.at.getTime() - other.at.getTime());
  return first;
}
