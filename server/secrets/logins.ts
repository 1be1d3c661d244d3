/** Gives a gateway what it logs in to a backend with; the one way by which a value leaves the vault. */
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { DenialLimiter } from '../../runtime/denial-limiter.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor, Called } from '../access/actor.ts';
import { findGateway, mayServe } from '../access/gateways.ts';
import { findBackend } from '../access/resources.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { secretOf } from './backends-naming.ts';
import { findVersion, type SealedVersion } from './secret-rows.ts';
import type { SecretSeal } from './secret-seal.ts';

export interface LoginsOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly seal: SecretSeal;
}

export interface LoginWish {
  readonly backend: string;
  /** The version before the current one. */
  readonly previous: boolean;
}

export interface FetchedLogin {
  readonly user: string;
  readonly password: string;
  readonly version: bigint;
}

type Found = { readonly user: string; readonly version: SealedVersion } | string;

export class Logins {
  readonly #options: LoginsOptions;
  readonly #denials: DenialLimiter;

  constructor(options: LoginsOptions) {
    this.#options = options;
    this.#denials = new DenialLimiter(options.clock);
  }

  /**
   * @param gateway SPIFFE ID of the caller, authenticated
   * @throws Fault PERMISSION_DENIED for a backend that it does not serve or that names no secret,
   *   NOT_FOUND if there is no such version, STATE_UNUSABLE if it cannot be opened
   */
  async fetch(gateway: string, wish: LoginWish, { requestId }: Called = {}): Promise<FetchedLogin> {
    const { store, seal, audit } = this.#options;
    const actor: Actor = { kind: 'gateway', spiffeId: gateway, requestId };
    const found = await store.transaction(async (tx) => {
      const answer = await this.#find(tx, gateway, wish);
      if (typeof answer === 'string') await this.#denied(tx, { gateway, wish, actor, why: answer });
      return answer;
    });
    if (typeof found === 'string') throw new Fault('PERMISSION_DENIED', found);
    const { user, version } = found;
    const password = await seal.open(version);
    await store.transaction((tx) =>
      audit.append(tx, {
        ...{ type: 'secret.fetched', outcome: Outcome.SUCCESS, actor, backend: wish.backend },
        attributes: { secret: version.name, version: String(version.version), login: user },
      }),
    );
    return { user, password, version: BigInt(version.version) };
  }

  async #find(tx: Transaction, gateway: string, wish: LoginWish): Promise<Found> {
    const record = await findGateway(tx, gateway);
    if (record === undefined || !mayServe(record, wish.backend))
      return 'this gateway does not serve a backend of that name';
    const backend = await findBackend(tx, wish.backend);
    const name = backend === undefined ? undefined : secretOf(backend);
    if (backend?.type.case !== 'postgres' || name === undefined)
      return 'no backend of that name logs in with a secret of the vault';
    const version = await findVersion(tx, name, wish.previous ? 'previous' : 'current');
    if (version === undefined)
      throw new Fault('NOT_FOUND', `secret ${name} has no such version: writ secret put ${name}`);
    return { user: version.login || backend.type.value.loginUser, version };
  }

  async #denied(
    tx: Transaction,
    init: { gateway: string; wish: LoginWish; actor: Actor; why: string },
  ): Promise<void> {
    const { gateway, wish, actor, why } = init;
    if (!this.#denials.admit(gateway, wish.backend, why)) return;
    await this.#options.audit.append(tx, {
      ...{ type: 'secret.refused', outcome: Outcome.DENIED, actor },
      ...{ backend: wish.backend, reason: why },
    });
  }
}
