/**
 * What the upstream authority is about to withdraw, or has withdrawn, goes here too: first another
 * authority signs, then what is below the root is made anew, then the root goes.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import type { UpstreamBundle } from '../plugins/upstream-authority/upstream-authority.ts';
import type { Authorities } from './authorities.ts';
import { type AuthoritiesState, rowsOfKind } from './authority-state.ts';
import type { TrustedRow } from './trusted-rows.ts';
import { taintUpstreamRoot, withdrawJwt } from './trusted-steps.ts';

/** How often in a row an authority has to be missing: a server above may answer from a cache. */
const MISSING_TIMES = 2;

export interface UpstreamWithdrawalOptions {
  readonly authorities: Authorities;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How an authority stands upstream. */
type Standing = 'good' | 'tainted' | 'gone';

export class UpstreamWithdrawal {
  readonly #options: UpstreamWithdrawalOptions;
  /** How often in a row the upstream's bundle was without it, by kind and id. */
  readonly #missing = new Map<string, number>();

  constructor(options: UpstreamWithdrawalOptions) {
    this.#options = options;
  }

  /**
   * @param bundle the upstream's
   * @param before what there was here before it was asked for: what has come since may not be in it
   * @throws Fault FAILED_PRECONDITION if the upstream signs with nothing else, and as `prepare` does
   */
  async follow(
    bundle: UpstreamBundle,
    before: AuthoritiesState,
    signal: AbortSignal,
  ): Promise<void> {
    if (bundle.x509.length === 0)
      throw new Fault('FAILED_PRECONDITION', 'the upstream authority has no root in its bundle');
    const standings = this.#standings(bundle, before);
    const standingOf = (row: TrustedRow) => standings.get(nameOf(row)) ?? 'good';
    await this.#leave(byKey(before, standingOf), signal);
    for (const [subjectKeyId, standing] of byKey(this.#state, standingOf))
      if (standing !== 'good') await this.#withdrawRoot(subjectKeyId, standing);
    for (const row of this.#state.trusted)
      if (row.kind === 'jwt' && row.source === 'upstream') await this.#withdrawKey(row, standingOf);
  }

  get #state(): AuthoritiesState {
    return this.#options.authorities.state.value;
  }

  #standings(bundle: UpstreamBundle, before: AuthoritiesState): ReadonlyMap<string, Standing> {
    const told = new Map<string, boolean>([
      ...bundle.x509.map(({ der, tainted }) => [`x509 ${sha256(der)}`, tainted] as const),
      ...bundle.jwt.map(({ keyId, tainted }) => [`jwt ${keyId}`, tainted] as const),
    ]);
    const standings = new Map<string, Standing>();
    const now = this.#options.clock.now();
    // One that has ended is the rotation's to forget.
    const names = before.trusted
      .filter(({ source, notAfter }) => source !== 'published' && !(notAfter && notAfter <= now))
      .map(nameOf);
    for (const name of this.#missing.keys()) if (!names.includes(name)) this.#missing.delete(name);
    for (const name of names) {
      const missing = told.has(name) ? 0 : (this.#missing.get(name) ?? 0) + 1;
      this.#missing.set(name, missing);
      if (missing >= MISSING_TIMES) standings.set(name, 'gone');
      else standings.set(name, told.get(name) === true ? 'tainted' : 'good');
    }
    return standings;
  }

  /** Has another root sign for the authority that signs here, and for the one that would next. */
  async #leave(roots: ReadonlyMap<string, Standing>, signal: AbortSignal): Promise<void> {
    const { authorities, log } = this.#options;
    const isLeft = (id: string) => (roots.get(id) ?? 'good') !== 'good';
    const left = rowsOfKind(this.#state, 'x509').filter(
      ({ state, upstreamId }) => state !== 'old' && isLeft(upstreamId),
    );
    if (left.length === 0) return;
    const made = await authorities.prepare('x509', SERVER_ACTOR, signal);
    if (isLeft(made.upstreamId))
      throw new Fault('FAILED_PRECONDITION', 'the upstream still signs with a root it withdraws');
    if (left.some(({ state }) => state === 'active'))
      await authorities.activate({ kind: 'x509', id: made.id }, SERVER_ACTOR);
    log.warn({ authority: made.id }, 'the upstream withdraws a root: another authority signs now');
  }

  async #withdrawRoot(subjectKeyId: string, standing: Standing): Promise<void> {
    const { authorities, log } = this.#options;
    const roots = this.#state.trusted.filter(
      (one) => one.source === 'upstream' && one.subjectKeyId === subjectKeyId,
    );
    if (roots.length === 0) return;
    if (roots.some(({ taintedAt }) => taintedAt === undefined))
      await authorities.change(SERVER_ACTOR, (step) => taintUpstreamRoot(step, subjectKeyId));
    if (standing !== 'gone') return;
    try {
      await authorities.revokeUpstream(subjectKeyId, SERVER_ACTOR);
    } catch (error) {
      // Agents are still renewing; after five minutes it goes whoever is left behind.
      if (!(error instanceof Fault) || error.code !== 'FAILED_PRECONDITION') throw error;
      log.info({ err: error }, 'a root that the upstream has withdrawn stays for now');
    }
  }

  async #withdrawKey(row: TrustedRow, standingOf: (row: TrustedRow) => Standing): Promise<void> {
    const standing = standingOf(row);
    if (standing === 'good' || (standing === 'tainted' && row.taintedAt !== undefined)) return;
    await this.#options.authorities.change(SERVER_ACTOR, (step) =>
      withdrawJwt(step, row.id, standing),
    );
  }
}

/** One key may come with several certificates: it stands as well as the best of them. */
function byKey(
  { trusted }: AuthoritiesState,
  standingOf: (row: TrustedRow) => Standing,
): ReadonlyMap<string, Standing> {
  const standings = new Map<string, Standing>();
  for (const row of trusted) {
    if (row.kind !== 'x509' || row.source === 'published') continue;
    const found = standings.get(row.subjectKeyId);
    const standing = standingOf(row);
    if (found === undefined || ORDER.indexOf(standing) < ORDER.indexOf(found))
      standings.set(row.subjectKeyId, standing);
  }
  return standings;
}

const ORDER: readonly Standing[] = ['good', 'tainted', 'gone'];

function nameOf({ kind, id }: TrustedRow): string {
  return `${kind} ${id}`;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
