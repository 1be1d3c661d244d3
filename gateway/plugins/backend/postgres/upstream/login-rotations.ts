/**
 * Does the steps of rotations that the server tells of. Every process of every gateway of a backend may
 * take one; the server gives it to one at a time.
 */
import { randomBytes } from 'node:crypto';
import {
  type Rotation,
  RotationStep,
} from '../../../../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Backoff } from '../../../../../runtime/backoff.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import type { WatchedSource } from '../../../../../runtime/watched.ts';
import type { GatewayApi } from '../../../../access/gateway-api.ts';
import type { GatewaySnapshot } from '../../../../access/snapshot.ts';
import { doStep, type RotationAccess, rotationAccess } from './rotation-steps.ts';

export interface LoginRotationsOptions {
  readonly api: () => Pick<GatewayApi, 'takeRotation' | 'reportRotation'>;
  readonly snapshot: WatchedSource<Pick<GatewaySnapshot, 'backends' | 'rotations'>>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly access?: RotationAccess;
}

const RETRY = { firstMs: 250, maximumMs: 5000 };
const MOST_WAITS = 10;

export class LoginRotations implements AsyncDisposable {
  readonly #options: LoginRotationsOptions;
  readonly #worker = randomBytes(16).toString('base64url');
  readonly #stop = new AbortController();
  /** Steps that this process tries, by rotation and step. */
  readonly #tasks = new Map<string, Promise<void>>();
  #following: Promise<void> | undefined;

  constructor(options: LoginRotationsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#following ??= this.#follow();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
    await Promise.all(this.#tasks.values());
  }

  async #follow(): Promise<void> {
    for await (const { rotations } of this.#options.snapshot.values(this.#stop.signal)) {
      for (const rotation of rotations) {
        const key = `${rotation.id} ${rotation.step}`;
        if (this.#tasks.has(key)) continue;
        const task = this.#work(rotation).finally(() => this.#tasks.delete(key));
        this.#tasks.set(key, task);
      }
    }
  }

  /** Until the server tells of the step no more. Does not reject. */
  async #work(rotation: Rotation): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff(RETRY);
    for (let waits = 0; !signal.aborted; ) {
      const backend = this.#backendOf(rotation);
      if (backend === undefined) return;
      try {
        if ((await this.#tryOnce(rotation, backend, isToBeTold(rotation, waits))) === 'wait')
          waits += 1;
      } catch (error) {
        // Most often another process has the step.
        log.debug({ backend: rotation.backend, err: error }, 'a step of a rotation was not done');
      }
      await clock.wait(backoff.next(), signal).catch(() => undefined);
    }
  }

  async #tryOnce(
    { id, step, backend: name }: Rotation,
    backend: PostgresBackend,
    isToBeTold: boolean,
  ): Promise<'reported' | 'wait'> {
    const { api, log, access = rotationAccess } = this.#options;
    const { signal } = this.#stop;
    const mine = { id, step, worker: this.#worker };
    const taken = await api().takeRotation(mine, { signal });
    const result = await doStep(step, backend, { taken, access });
    signal.throwIfAborted();
    if (result !== 'done' && 'wait' in result && !isToBeTold) return 'wait';
    const failure = result === 'done' ? '' : 'failure' in result ? result.failure : result.wait;
    await api().reportRotation({ ...mine, failure }, { signal });
    if (failure !== '')
      log.warn({ backend: name, reason: failure }, "a step of a login's rotation failed");
    else log.info({ backend: name }, "a step of a login's rotation is done");
    return result !== 'done' && 'wait' in result ? 'wait' : 'reported';
  }

  /** Undefined once the step has passed, or its backend is not served any more. */
  #backendOf({ id, step, backend: name }: Rotation): PostgresBackend | undefined {
    const { rotations, backends } = this.#options.snapshot.value;
    if (!rotations.some((one) => one.id === id && one.step === step)) return undefined;
    const type = backends.get(name)?.type;
    return type?.case === 'postgres' ? type.value : undefined;
  }
}

/** A backend that is long out of reach proves nothing; what else waits says why, and goes on. */
function isToBeTold({ step }: Rotation, waits: number): boolean {
  return step === RotationStep.PROVE ? waits >= MOST_WAITS : waits === MOST_WAITS;
}
