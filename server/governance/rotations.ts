/**
 * Gives a backend's login a new password: a gateway sets the one of the login's twin and logs in with it,
 * and only then is it used, and the former login's taken away. Each step is a row that outlives a crash of
 * either side, and can be done again from its beginning; until the proof, the login in use is not touched.
 */
import { randomBytes } from 'node:crypto';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { PostgresBackend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Enforce } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import { randomId } from '../access/random-id.ts';
import { findBackend, listResources } from '../access/resources.ts';
import type { Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { backendsNaming, secretOf } from '../secrets/backends-naming.ts';
import { findVersion } from '../secrets/secret-rows.ts';
import type { Secrets, SecretsOptions } from '../secrets/secrets.ts';
import {
  isBeingRotated,
  type RotationRecord,
  type RotationStepName,
  writeRotation,
} from './rotation-rows.ts';
import { twinLogin } from './twin-login.ts';

const PASSWORD_BYTES = 32;
const NOBODY = { worker: '', leaseUntil: new Date(0) };

export interface RotationsOptions extends Omit<SecretsOptions, 'seal'> {
  readonly secrets: Secrets;
}

/** What a rotation is of. */
interface Plan {
  readonly secret: string;
  /** The login that the new version is for. */
  readonly login: string;
}

export class Rotations {
  readonly #options: RotationsOptions;

  constructor(options: RotationsOptions) {
    this.#options = options;
  }

  /**
   * @throws Fault NOT_FOUND, FAILED_PRECONDITION if the login is no secret of the vault, not this backend's
   *   alone, not its database's to change, or being rotated
   */
  async begin(backend: string, actor: Actor): Promise<RotationRecord> {
    const { store, secrets, clock } = this.#options;
    const { secret, login } = await plan(store, backend);
    const value = randomBytes(PASSWORD_BYTES).toString('base64url');
    let begun: RotationRecord | undefined;
    await secrets.add({ name: secret, login, value, state: 'pending' }, async (tx, version) => {
      const now = await plan(tx, backend);
      if (now.secret !== secret || now.login !== login)
        throw new Fault('FAILED_PRECONDITION', 'the login has changed meanwhile: try again');
      const at = clock.now();
      begun = {
        ...{ backend, id: randomId('rot_'), secret, version, step: 'proving', reason: '' },
        ...{ ...NOBODY, startedAt: at, stepAt: at },
      };
      await writeRotation(tx, begun);
      await this.tell(tx, begun, { type: 'rotation.started', actor });
    });
    if (begun === undefined) throw new Error('nothing was begun');
    return begun;
  }

  /** The new login is proved: gateways take it from here on. */
  async proved(tx: Transaction, rotation: RotationRecord, actor: Actor): Promise<void> {
    const { secrets } = this.#options;
    await secrets.destroy(tx, rotation.secret, 'previous');
    await secrets.setState(tx, rotation.secret, 'current', 'previous');
    await secrets.setState(tx, rotation.secret, 'pending', 'current');
    await this.#move(tx, rotation, 'retiring', '');
    await this.tell(tx, rotation, { type: 'rotation.proved', actor });
  }

  /** The former login opens nothing any more. */
  async retired(tx: Transaction, rotation: RotationRecord, actor: Actor): Promise<void> {
    await this.#options.secrets.destroy(tx, rotation.secret, 'previous');
    await this.#move(tx, rotation, 'done', '');
    await this.tell(tx, rotation, { type: 'rotation.finished', actor });
  }

  /** The new login is not proved: the one in use goes on, and the password is nobody's. */
  async refuted(
    tx: Transaction,
    rotation: RotationRecord,
    { actor, reason }: { readonly actor: Actor; readonly reason: string },
  ): Promise<void> {
    await this.#options.secrets.destroy(tx, rotation.secret, 'pending');
    await this.#move(tx, rotation, 'undoing', reason);
    await this.tell(tx, { ...rotation, reason }, { type: 'rotation.failed', actor });
  }

  /** What was begun in the backend is taken back. */
  async undone(tx: Transaction, rotation: RotationRecord, actor: Actor): Promise<void> {
    await this.#move(tx, rotation, 'failed', rotation.reason);
    await this.tell(tx, rotation, { type: 'rotation.undone', actor });
  }

  /** The backend names the secret no more: there is nothing to go on with. */
  async abandoned(tx: Transaction, rotation: RotationRecord, actor: Actor): Promise<void> {
    const reason = "the backend's document names another login";
    await this.#options.secrets.destroy(tx, rotation.secret, 'pending');
    await this.#move(tx, rotation, 'failed', reason);
    await this.tell(tx, { ...rotation, reason }, { type: 'rotation.failed', actor });
  }

  /** Writes what has become of the rotation, and tells gateways. */
  async #move(
    tx: Transaction,
    rotation: RotationRecord,
    step: RotationStepName,
    reason: string,
  ): Promise<void> {
    const { clock, resources } = this.#options;
    await writeRotation(tx, { ...rotation, step, reason, ...NOBODY, stepAt: clock.now() });
    await resources.touch(tx);
  }

  async tell(
    tx: Transaction,
    { backend, secret, version, id, reason, step }: RotationRecord,
    { type, actor }: { readonly type: string; readonly actor: Actor },
  ): Promise<void> {
    const hasFailed = type === 'rotation.failed';
    await this.#options.audit.append(tx, {
      ...{ type, outcome: hasFailed ? Outcome.FAILURE : Outcome.SUCCESS, actor, backend },
      ...(hasFailed && { reason }),
      attributes: { rotation: id, secret, version: String(version), step },
    });
  }
}

/** Of a backend, with its own login. @throws Fault */
export function rotatable(backend: Awaited<ReturnType<typeof findBackend>>): {
  readonly secret: string;
  readonly postgres: PostgresBackend;
} {
  const secret = backend === undefined ? undefined : secretOf(backend);
  if (backend?.type.case !== 'postgres' || secret === undefined)
    throw new Fault('FAILED_PRECONDITION', 'the login of this backend is no secret of the vault');
  return { secret, postgres: backend.type.value };
}

async function plan(reader: Reader, name: string): Promise<Plan> {
  const backend = await findBackend(reader, name);
  if (backend === undefined) throw new Fault('NOT_FOUND', 'no backend of that name');
  const { secret, postgres } = rotatable(backend);
  if (postgres.enforce === Enforce.GATEWAY)
    throw refused('its login is no account that writ backend setup made');
  const [other] = (await backendsNaming(reader, secret)).filter((one) => one !== name);
  if (other !== undefined) throw refused(`backend ${other} names the same secret`);
  if (await isBeingRotated(reader, secret)) throw refused('its login is being rotated');
  const current = await findVersion(reader, secret, 'current');
  if (current === undefined) throw refused(`the vault has no secret ${secret}`);
  const twin = twinLogin(postgres);
  if (twin === undefined) throw refused('the name of its login is too long for a twin');
  const sharing = await sameAccount(reader, name, [postgres.loginUser, twin]);
  if (sharing !== undefined) throw refused(`backend ${sharing} logs in with the same account`);
  const { loginUser } = postgres;
  return { secret, login: (current.login || loginUser) === loginUser ? twin : loginUser };
}

/** Another backend of the same server whose login is one of these: its password would go. */
async function sameAccount(
  reader: Reader,
  name: string,
  logins: readonly string[],
): Promise<string | undefined> {
  const backends = (await listResources(reader, 'Backend')).flatMap(({ body }) =>
    body.case === 'backend' ? [body.value] : [],
  );
  const own = backends.find((backend) => backend.name === name);
  return backends.find(({ name: other, type }) => {
    if (other === name || type.case !== 'postgres' || own?.type.case !== 'postgres') return false;
    const { host, port, loginUser } = type.value;
    const isThere = host === own.type.value.host && port === own.type.value.port;
    return isThere && logins.includes(loginUser);
  })?.name;
}

function refused(why: string): Fault {
  return new Fault('FAILED_PRECONDITION', `the backend cannot be rotated: ${why}`);
}
