/** What gateways do for rotations: each step is taken by one of their processes for a while, and reported. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type ReportRotationRequest,
  RotationStep,
  type TakeRotationRequest,
  type TakeRotationResponseSchema,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor, Called } from '../access/actor.ts';
import { findGateway, type GatewayRecord, mayServe } from '../access/gateways.ts';
import { findBackend } from '../access/resources.ts';
import type { Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { findVersion, type SealedVersion } from '../secrets/secret-rows.ts';
import type { SecretSeal } from '../secrets/secret-seal.ts';
import {
  findRotation,
  listRotations,
  type RotationRecord,
  type RotationStepName,
  writeRotation,
} from './rotation-rows.ts';
import { type Rotations, type RotationsOptions, rotatable } from './rotations.ts';
import { twinLogin } from './twin-login.ts';

/** A process that is at a step and says nothing for so long has died. */
const LEASE_MS = 30_000;
/** How long connections of the former login may stay. */
export const LEAVE_MS = 10 * 60_000;
const MOST_REASON = 200;

const STEPS: ReadonlyMap<RotationStepName, RotationStep> = new Map([
  ['proving', RotationStep.PROVE],
  ['retiring', RotationStep.RETIRE],
  ['undoing', RotationStep.UNDO],
]);

export interface RotationWorkOptions extends RotationsOptions {
  readonly rotations: Rotations;
  readonly seal: SecretSeal;
}

type Taken = MessageInitShape<typeof TakeRotationResponseSchema>;

interface Chosen {
  readonly current: { readonly user: string; readonly version: SealedVersion };
  readonly twin: { readonly user: string; readonly version: SealedVersion | undefined };
  readonly force: boolean;
}

export class RotationWork {
  readonly #options: RotationWorkOptions;

  constructor(options: RotationWorkOptions) {
    this.#options = options;
  }

  /**
   * @param gateway SPIFFE ID of the caller, authenticated
   * @throws Fault PERMISSION_DENIED, FAILED_PRECONDITION if another has the step or it has passed
   */
  async take(
    gateway: string,
    { id, step, worker }: Pick<TakeRotationRequest, 'id' | 'step' | 'worker'>,
    { requestId }: Called,
  ): Promise<Taken> {
    const { store, seal, rotations, clock } = this.#options;
    const actor: Actor = { kind: 'gateway', spiffeId: gateway, requestId };
    const chosen = await store.transaction(async (tx) => {
      const rotation = await this.#find(tx, gateway, { id, step });
      if (rotation === undefined) throw passed();
      const now = clock.now();
      if (rotation.worker !== '' && rotation.worker !== worker && rotation.leaseUntil > now)
        throw new Fault('FAILED_PRECONDITION', 'another process is at this step');
      const logins = await loginsOf(tx, rotation);
      if (rotation.worker !== worker)
        await rotations.tell(tx, rotation, { type: 'rotation.taken', actor });
      const leaseUntil = new Date(now.getTime() + LEASE_MS);
      await writeRotation(tx, { ...rotation, worker, leaseUntil });
      const isLate = now.getTime() - rotation.stepAt.getTime() >= LEAVE_MS;
      return { ...logins, force: rotation.step === 'undoing' || isLate };
    });
    const { current, twin, force } = chosen;
    const password = twin.version === undefined ? '' : await seal.open(twin.version);
    return {
      current: { user: current.user, password: await seal.open(current.version) },
      twin: { user: twin.user, password },
      force,
    };
  }

  /** @throws Fault PERMISSION_DENIED */
  async report(
    gateway: string,
    { id, step, worker, failure }: Omit<ReportRotationRequest, '$typeName' | '$unknown'>,
    { requestId }: Called,
  ): Promise<void> {
    const { store, rotations } = this.#options;
    const actor: Actor = { kind: 'gateway', spiffeId: gateway, requestId };
    const reason = oneLine(failure);
    await store.transaction(async (tx) => {
      const rotation = await this.#find(tx, gateway, { id, step });
      if (rotation === undefined || rotation.worker !== worker) return;
      if (reason !== '' && rotation.step === 'proving')
        await rotations.refuted(tx, rotation, { actor, reason });
      else if (reason !== '') await this.#wait(tx, rotation, reason);
      else if (rotation.step === 'proving') await rotations.proved(tx, rotation, actor);
      else if (rotation.step === 'retiring') await rotations.retired(tx, rotation, actor);
      else await rotations.undone(tx, rotation, actor);
    });
  }

  /** It is tried again; of what is undone, the first reason counts. */
  async #wait(tx: Transaction, rotation: RotationRecord, reason: string): Promise<void> {
    const kept = rotation.step === 'undoing' ? rotation.reason : reason;
    await writeRotation(tx, { ...rotation, reason: kept });
  }

  /** Undefined if the rotation is at another step. */
  async #find(
    tx: Transaction,
    gateway: string,
    { id, step }: { readonly id: string; readonly step: RotationStep },
  ): Promise<RotationRecord | undefined> {
    const record = await findGateway(tx, gateway);
    const rotation = await findRotation(tx, 'id', id);
    if (record === undefined || (rotation !== undefined && !mayServe(record, rotation.backend)))
      throw new Fault('PERMISSION_DENIED', 'this gateway does not serve the backend');
    return rotation !== undefined && STEPS.get(rotation.step) === step ? rotation : undefined;
  }
}

/** What waits for this gateway, among others. */
export async function rotationsFor(reader: Reader, gateway: GatewayRecord) {
  return (await listRotations(reader)).flatMap(({ id, backend, step: name }) => {
    const step = STEPS.get(name);
    return step !== undefined && mayServe(gateway, backend) ? [{ id, backend, step }] : [];
  });
}

async function loginsOf(tx: Transaction, rotation: RotationRecord): Promise<Omit<Chosen, 'force'>> {
  const { secret, postgres } = rotatable(await findBackend(tx, rotation.backend));
  const current = await findVersion(tx, secret, 'current');
  if (secret !== rotation.secret || current === undefined) throw passed();
  const user = current.login || postgres.loginUser;
  const other = user === postgres.loginUser ? twinLogin(postgres) : postgres.loginUser;
  if (other === undefined) throw passed();
  const version =
    rotation.step === 'undoing'
      ? undefined
      : await findVersion(tx, secret, rotation.step === 'proving' ? 'pending' : 'previous');
  return { current: { user, version: current }, twin: { user: other, version } };
}

function passed(): Fault {
  return new Fault('FAILED_PRECONDITION', 'the rotation is not at this step');
}

function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, ' ').slice(0, MOST_REASON);
}
