/** What rotations do when a time has come: those that are due begin, and those that nobody proves end. */
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { DenialLimiter } from '../../runtime/denial-limiter.ts';
import { Fault } from '../../runtime/fault.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import { findBackend, listResources } from '../access/resources.ts';
import { secretOf } from '../secrets/backends-naming.ts';
import { findVersion } from '../secrets/secret-rows.ts';
import {
  findRotation,
  isBeingRotated,
  listRotations,
  type RotationRecord,
} from './rotation-rows.ts';
import type { Rotations, RotationsOptions } from './rotations.ts';

const LOOK_MS = 10_000;
const PROVE_WITHIN_MS = 10 * 60_000;
/** After one that failed. */
const AGAIN_MS = 60 * 60_000;
const ACTIVE = new Set(['proving', 'retiring', 'undoing']);

export interface RotationClockOptions extends RotationsOptions {
  readonly rotations: Rotations;
}

export class RotationClock {
  readonly #options: RotationClockOptions;
  readonly #refusals: DenialLimiter;

  constructor(options: RotationClockOptions) {
    this.#options = options;
    this.#refusals = new DenialLimiter(options.clock);
  }

  /** Runs until `signal` aborts, and rejects then. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.look();
      await this.#options.clock.wait(LOOK_MS, signal);
    }
  }

  async look(): Promise<void> {
    const { store } = this.#options;
    for (const rotation of await listRotations(store)) {
      if (ACTIVE.has(rotation.step)) await this.#end(rotation);
    }
    for (const { name, body } of await listResources(store, 'Backend')) {
      if (body.case !== 'backend' || body.value.type.case !== 'postgres') continue;
      const every = Number(body.value.type.value.loginCredential?.rotateEvery?.seconds ?? 0);
      const secret = secretOf(body.value);
      if (every === 0 || secret === undefined) continue;
      if (await this.#isDue(name, { secret, everyMs: every * 1000 }))
        await this.#begin(name, secret);
    }
  }

  async #end(seen: RotationRecord): Promise<void> {
    const { store, clock, rotations } = this.#options;
    await store.transaction(async (tx) => {
      const rotation = await findRotation(tx, 'id', seen.id);
      if (rotation === undefined || !ACTIVE.has(rotation.step)) return;
      const backend = await findBackend(tx, rotation.backend);
      if (backend === undefined || secretOf(backend) !== rotation.secret)
        return rotations.abandoned(tx, rotation, SERVER_ACTOR);
      const isLate = clock.now().getTime() - rotation.stepAt.getTime() >= PROVE_WITHIN_MS;
      const reason = `no gateway has proved the new login within ${PROVE_WITHIN_MS / 60_000} minutes`;
      if (rotation.step === 'proving' && isLate)
        await rotations.refuted(tx, rotation, { actor: SERVER_ACTOR, reason });
    });
  }

  async #isDue(
    backend: string,
    { secret, everyMs }: { readonly secret: string; readonly everyMs: number },
  ): Promise<boolean> {
    const { store, clock } = this.#options;
    const nowMs = clock.now().getTime();
    const current = await findVersion(store, secret, 'current');
    if (current === undefined || nowMs - current.createdAt.getTime() < everyMs) return false;
    const last = await findRotation(store, 'backend', backend);
    if (last === undefined) return true;
    if (ACTIVE.has(last.step)) return false;
    return last.step === 'done' || nowMs - last.stepAt.getTime() >= AGAIN_MS;
  }

  /** One that cannot begin is told once a minute, and holds up no other. */
  async #begin(backend: string, secret: string): Promise<void> {
    const { rotations, store, audit } = this.#options;
    try {
      await rotations.begin(backend, SERVER_ACTOR);
    } catch (error) {
      const fault = Fault.from(error);
      if (fault.code !== 'FAILED_PRECONDITION' && fault.code !== 'NOT_FOUND') throw error;
      // Another server on the store may have begun it.
      if (await isBeingRotated(store, secret)) return;
      if (!this.#refusals.admit(backend, fault.message)) return;
      await store.transaction((tx) =>
        audit.append(tx, {
          ...{ type: 'rotation.refused', outcome: Outcome.FAILURE, actor: SERVER_ACTOR },
          ...{ backend, reason: fault.message },
        }),
      );
    }
  }
}
