/** The vault of what gateways log in to backends with. Values come in here and leave by `Logins` alone. */
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import type { Resources } from '../access/resources.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { isBeingRotated } from '../governance/rotation-rows.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { backendsNaming } from './backends-naming.ts';
import {
  lastVersion,
  type SealedVersion,
  type SecretState,
  secretVersions,
} from './secret-rows.ts';
import type { SecretSeal } from './secret-seal.ts';

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const MOST_BYTES = 4096;

export interface SecretsOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  /** Gateways follow its revision. */
  readonly resources: Pick<Resources, 'touch'>;
  readonly seal: SecretSeal;
}

/** A version to be written. */
export interface NewVersion {
  readonly name: string;
  readonly login: string;
  readonly value: string;
  readonly state: SecretState;
}

export class Secrets {
  readonly #options: SecretsOptions;

  constructor(options: SecretsOptions) {
    this.#options = options;
  }

  /**
   * Makes a value the current version; the one before is kept as the previous one, an older is destroyed.
   * @param value untrusted
   * @returns the version's number
   * @throws Fault INVALID_ARGUMENT, FAILED_PRECONDITION while its backend's login is being rotated
   */
  async put(name: string, value: Uint8Array, actor: Actor): Promise<number> {
    if (!NAME.test(name))
      throw new Fault('INVALID_ARGUMENT', 'name: 1 to 63 of a-z 0-9 -, not beginning with -');
    const init = { name, login: '', value: checkedValue(value), state: 'current' as const };
    return await this.add(init, async (tx, version) => {
      await requireSettled(tx, name);
      const before = await secretVersions(tx, name);
      await this.destroy(tx, name, 'previous');
      await this.setState(tx, name, 'current', 'previous');
      const type = before.length === 0 ? 'secret.created' : 'secret.updated';
      await this.#tell(tx, { type, name, version, actor });
    });
  }

  /**
   * Writes a version, in one transaction with what `prepare` does before it.
   * @returns the version's number
   */
  async add(
    init: NewVersion,
    prepare: (tx: Transaction, version: number) => Promise<void>,
  ): Promise<number> {
    const { store, seal, resources } = this.#options;
    for (;;) {
      // Sealed before the transaction, which all others wait for: a KMS may take its time.
      const version = (await lastVersion(store, init.name)) + 1;
      const place = { name: init.name, version, login: init.login };
      const sealed = await seal.seal(place, init.value);
      const isWritten = await store.transaction(async (tx) => {
        if ((await lastVersion(tx, init.name)) + 1 !== version) return false;
        await prepare(tx, version);
        await this.#insert(tx, { ...place, ...sealed, state: init.state });
        await resources.touch(tx);
        return true;
      });
      if (isWritten) return version;
    }
  }

  /** @throws Fault NOT_FOUND; FAILED_PRECONDITION while its backend's login is being rotated */
  retire(name: string, actor: Actor): Promise<void> {
    const { store, resources } = this.#options;
    return store.transaction(async (tx) => {
      const [version] = await this.#settled(tx, name);
      await this.destroy(tx, name, 'previous');
      await this.#tell(tx, { type: 'secret.retired', name, version: version?.version, actor });
      await resources.touch(tx);
    });
  }

  /** @throws Fault NOT_FOUND; FAILED_PRECONDITION while a backend names it */
  delete(name: string, actor: Actor): Promise<void> {
    const { store, resources } = this.#options;
    return store.transaction(async (tx) => {
      const [version] = await this.#settled(tx, name);
      const [backend] = await backendsNaming(tx, name);
      if (backend !== undefined)
        throw new Fault('FAILED_PRECONDITION', `backend ${backend} names this secret`);
      await tx.run('delete from secret_versions where name = ?', name);
      await this.#tell(tx, { type: 'secret.deleted', name, version: version?.version, actor });
      await resources.touch(tx);
    });
  }

  /** Moves the version that is in one state to another. */
  async setState(tx: Transaction, name: string, from: SecretState, to: SecretState): Promise<void> {
    await tx.run(
      'update secret_versions set state = ? where name = ? and state = ?',
      ...[to, name, from],
    );
  }

  /** Destroys the version that is in a state, if there is one. */
  async destroy(tx: Transaction, name: string, state: SecretState): Promise<void> {
    await tx.run('delete from secret_versions where name = ? and state = ?', name, state);
  }

  /** The newest first; none of them is about to be used. */
  async #settled(tx: Transaction, name: string): Promise<SealedVersion[]> {
    const versions = await secretVersions(tx, name);
    if (versions.length === 0) throw new Fault('NOT_FOUND', 'no secret of that name');
    await requireSettled(tx, name);
    return versions;
  }

  async #insert(tx: Transaction, init: Omit<SealedVersion, 'createdAt'>): Promise<void> {
    const { name, version, state, login, sealed, wrappedKey, keyId } = init;
    const nowMs = this.#options.clock.now().getTime();
    await tx.run(
      `insert into secrets (name, last_version, updated_at_ms) values (?, ?, ?)
       on conflict (name) do update set
         last_version = excluded.last_version, updated_at_ms = excluded.updated_at_ms`,
      ...[name, version, nowMs],
    );
    await tx.run(
      `insert into secret_versions
         (name, version, state, login, sealed, wrapped_key, key_id, created_at_ms)
       values (?, ?, ?, ?, ?, ?, ?, ?)`,
      ...[name, version, state, login, sealed, wrappedKey, keyId, nowMs],
    );
  }

  #tell(tx: Transaction, { type, name, version, actor }: Told): Promise<void> {
    return this.#options.audit.append(tx, {
      ...{ type, outcome: Outcome.SUCCESS, actor },
      attributes: { secret: name, ...(version !== undefined && { version: String(version) }) },
    });
  }
}

interface Told {
  readonly type: string;
  readonly name: string;
  readonly version: number | undefined;
  readonly actor: Actor;
}

/** @throws Fault FAILED_PRECONDITION while two of its versions are about to change places */
async function requireSettled(tx: Transaction, name: string): Promise<void> {
  if (await isBeingRotated(tx, name))
    throw new Fault('FAILED_PRECONDITION', 'the login with this secret is being rotated');
}

/** @throws Fault INVALID_ARGUMENT, which tells nothing of the value */
function checkedValue(value: Uint8Array): string {
  const message = `value: 1 to ${MOST_BYTES} bytes of UTF-8 in one line`;
  if (value.length === 0 || value.length > MOST_BYTES) throw new Fault('INVALID_ARGUMENT', message);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value);
  } catch {
    throw new Fault('INVALID_ARGUMENT', message);
  }
  if (/\p{Cc}/u.test(text)) throw new Fault('INVALID_ARGUMENT', message);
  return text;
}
