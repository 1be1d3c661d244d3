/**
 * Decides whether an SSH certificate may be issued now, for whom and until when. As with SVIDs, all of
 * it is looked at in the very transaction that writes the ledger.
 */
import { SpiffeId, type TrustDomain } from '../../identity/spiffe-id.ts';
import { parsePublicKey, type SshKeyType, sshKeyType } from '../../identity/ssh/public-key.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { DenialLimiter } from '../../runtime/denial-limiter.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import { findGateway, type GatewayRecord, mayServe } from '../access/gateways.ts';
import { isRefusal, type Refusal } from '../access/refusal.ts';
import { type SshSessionGround, sshSessionGround } from '../access/ssh-session-ground.ts';
import type { AgentRecord } from '../attestation/agent-records.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, Reader, Transaction } from '../plugins/datastore/datastore.ts';
import type { EntryIndex } from '../registry/entry-index.ts';
import { memberId } from '../registry/spiffe-id-message.ts';
import {
  authorisedEntry,
  entryGround,
  type IssuingRules,
  mayEndAt,
  requireAgent,
} from './entitlement.ts';
import { gatewayHostNames, requireSshHost } from './host-names.ts';
import { loginRestrictions } from './login-restrictions.ts';
import type { SignedSsh, SshAuthority, SshAuthorityKeys } from './ssh-authority.ts';

const DAY_SECONDS = 24 * 60 * 60;
const MAXIMUM_KEY_BYTES = 16 * 1024;
/** A gateway's login on a target has to begin within it. */
const LOGIN_SECONDS = 60;
const GATEWAY_HOST_SECONDS = DAY_SECONDS;
const TARGET = { defaultSeconds: 90 * DAY_SECONDS, maximumSeconds: 365 * DAY_SECONDS } as const;

export interface SshIssuerOptions {
  readonly store: Pick<Datastore, 'transaction'>;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly authority: Pick<SshAuthority, 'sign' | 'authorities'>;
  readonly index: EntryIndex;
  readonly trustDomain: TrustDomain;
  /** Of workloads' certificates. */
  readonly userTtlSeconds: number;
  readonly rules: IssuingRules;
}

/** A public key to be certified: RFC 4253 6.6, untrusted. */
interface Keyed {
  readonly publicKey: Uint8Array;
}

/** What an agent asks for one of its workloads. */
export interface UserWish extends Keyed {
  readonly entryId: string;
}

/** What a gateway asks for one login on a target. */
export interface LoginWish extends Keyed {
  /** Untrusted. */
  readonly sessionId: string;
  /** `ip:port` that the gateway calls from. */
  readonly peerAddress: string;
}

/** What a gateway asks for its own host key. */
export interface HostWish extends Keyed {
  /** Untrusted; empty for the gateway itself. */
  readonly backend: string;
}

/** What an operator asks for a target's host key. */
export interface TargetWish extends Keyed {
  /** Untrusted. */
  readonly backend: string;
  /** 0 is the default. */
  readonly ttlSeconds: number;
}

/** A target's certificate, and what the target has to let in. */
export interface SignedTarget extends SignedSsh {
  /** By account, what its AuthorizedPrincipalsFile lists: `<backend>/<login>`. */
  readonly principals: ReadonlyMap<string, readonly string[]>;
}

export class SshIssuer {
  readonly #options: SshIssuerOptions;
  readonly #denials: DenialLimiter;

  constructor(options: SshIssuerOptions) {
    this.#options = options;
    this.#denials = new DenialLimiter(options.clock);
  }

  get authorities(): SshAuthorityKeys {
    return this.#options.authority.authorities.value;
  }

  /**
   * A workload's certificate: it says who the workload is and allows nothing by itself.
   * @throws Fault SSH_INVALID, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION
   */
  async newUserCertificate(
    agent: AgentRecord,
    { entryId, publicKey }: UserWish,
    actor: Actor,
  ): Promise<SignedSsh> {
    const { store, clock, authority, index, trustDomain, userTtlSeconds, rules } = this.#options;
    checkKey(publicKey);
    return store.transaction(async (tx) => {
      const now = clock.now();
      await requireAgent(tx, agent);
      const entry = authorisedEntry(index, agent, { entryId, now });
      const id = memberId(entry.spiffeId, trustDomain, 'spiffe_id');
      if (id.isReserved)
        throw new Fault('PERMISSION_DENIED', 'this identity is not that of a workload');
      const workload = { credential: 'ssh_certificate', actor, rules } as const;
      const asked = { id, ttlSeconds: userTtlSeconds, agentId: agent.id, workload };
      const notAfter = await mayEndAt(tx, { ...asked, entryEnd: entry.expiresAt }, now);
      const { attributes, agentId } = entryGround(entry, agent, actor);
      const spiffeId = id.toString();
      return authority.sign(tx, {
        kind: 'ssh-user',
        ...{ publicKey, notAfter, spiffeId, keyId: spiffeId, principals: [spiffeId] },
        ...{ entryId: entry.id, agentId, event: { actor, attributes } },
      });
    });
  }

  /**
   * A gateway's certificate for one login on the target of a session, whose right is decided again
   * (threats S2). A refusal is an event.
   * @throws Fault SSH_INVALID, INVALID_ARGUMENT, FAILED_PRECONDITION; PERMISSION_DENIED, whose message
   * is for the client
   */
  async newGatewayCertificate(
    gateway: Pick<GatewayRecord, 'id'>,
    wish: LoginWish,
    actor: Actor,
  ): Promise<SignedSsh> {
    const { store, clock } = this.#options;
    if (checkKey(wish.publicKey) !== 'ssh-ed25519')
      throw new Fault('INVALID_ARGUMENT', 'public_key: make an Ed25519 key for each login');
    const outcome = await store.transaction(async (tx) => {
      const asked = { gateway: gateway.id, sessionId: wish.sessionId };
      const ground = await sshSessionGround(tx, asked, clock.now());
      return isRefusal(ground)
        ? this.#deny(tx, { ...asked, actor }, ground)
        : this.#signLogin(tx, { ...asked, ...wish, actor }, ground);
    });
    if (isRefusal(outcome))
      throw new Fault('PERMISSION_DENIED', outcome.says, { cause: outcome.cause });
    return outcome;
  }

  /**
   * Certifies the host key that a gateway shows: under its own names, or to a client that reaches a
   * backend through it under the backend's.
   * @throws Fault SSH_INVALID, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION
   */
  async newHostCertificate(
    { id }: Pick<GatewayRecord, 'id'>,
    { publicKey, backend }: HostWish,
    actor: Actor,
  ): Promise<SignedSsh> {
    const { store, authority } = this.#options;
    checkKey(publicKey);
    return store.transaction(async (tx) => {
      const gateway = await requireGateway(tx, id);
      if (backend !== '' && !mayServe(gateway, backend))
        throw new Fault('PERMISSION_DENIED', 'this gateway does not serve that backend');
      if (backend !== '') await requireSshHost(tx, backend);
      return authority.sign(tx, {
        kind: 'ssh-host',
        publicKey,
        keyId: backend === '' ? id : `${id} backend=${backend}`,
        principals: backend === '' ? await gatewayHostNames(tx, gateway) : [backend],
        notAfter: await this.#gatewayEnd(tx, id, GATEWAY_HOST_SECONDS),
        spiffeId: id,
        event: { actor, backend },
      });
    });
  }

  /**
   * Certifies the host key of a backend's target.
   * @throws Fault SSH_INVALID, INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION
   */
  async newTargetCertificate(
    { backend, publicKey, ttlSeconds }: TargetWish,
    actor: Actor,
  ): Promise<SignedTarget> {
    const { store, clock, authority } = this.#options;
    checkKey(publicKey);
    if (ttlSeconds > TARGET.maximumSeconds)
      throw new Fault('INVALID_ARGUMENT', 'ttl_seconds: write at most a year');
    const lifeMs = (ttlSeconds === 0 ? TARGET.defaultSeconds : ttlSeconds) * 1000;
    return store.transaction(async (tx) => {
      const { logins } = await requireSshHost(tx, backend);
      const signed = await authority.sign(tx, {
        kind: 'ssh-host',
        ...{ publicKey, keyId: `backend=${backend}`, principals: [backend] },
        notAfter: new Date(clock.now().getTime() + lifeMs),
        spiffeId: '',
        event: { actor, backend },
      });
      return { ...signed, principals: principalsByAccount(backend, logins) };
    });
  }

  async #signLogin(tx: Transaction, asked: AskedLogin, ground: SshSessionGround) {
    const { spiffeId, serial, backend, login, principal, rights, entryId, agentId, grant } = ground;
    const { gateway, sessionId, publicKey, peerAddress, actor } = asked;
    const record = await requireGateway(tx, gateway);
    const restrictions = loginRestrictions(rights, record, peerAddress);
    const gatewayEnd = await this.#gatewayEnd(tx, gateway, LOGIN_SECONDS);
    const source = restrictions.criticalOptions['source-address'] ?? '';
    return this.#options.authority.sign(tx, {
      kind: 'ssh-gateway',
      keyId: `${spiffeId} session=${sessionId} serial=${serial}`,
      ...{ publicKey, principals: [principal], spiffeId, entryId, agentId, ...restrictions },
      notAfter: gatewayEnd < ground.endsAt ? gatewayEnd : ground.endsAt,
      event: {
        ...{ actor, sessionId, backend, grant },
        attributes: { login, client_serial: serial, source_address: source },
      },
    });
  }

  async #deny(
    tx: Transaction,
    { gateway, sessionId, actor }: Pick<AskedLogin, 'gateway' | 'sessionId' | 'actor'>,
    why: Refusal,
  ): Promise<Refusal> {
    // What no session has is the caller's invention, and as many as it likes.
    const session = why.cause === 'session.unknown' ? '' : sessionId;
    if (this.#denials.admit(gateway, session, why.cause)) {
      await this.#options.audit.append(tx, {
        type: 'session.denied',
        outcome: Outcome.DENIED,
        ...{ actor, sessionId, reason: why.says, attributes: { cause: why.cause } },
      });
    }
    return why;
  }

  /** What a gateway gets ends with its own identity. @throws Fault PERMISSION_DENIED */
  #gatewayEnd(reader: Reader, gateway: string, ttlSeconds: number): Promise<Date> {
    const asked = { id: SpiffeId.parse(gateway), ttlSeconds };
    return mayEndAt(reader, asked, this.#options.clock.now());
  }
}

interface AskedLogin extends LoginWish {
  /** SPIFFE ID, authenticated. */
  readonly gateway: string;
  readonly actor: Actor;
}

/** @throws Fault INVALID_ARGUMENT, SSH_INVALID unless it is a plain key that we certify */
function checkKey(publicKey: Uint8Array): SshKeyType {
  if (publicKey.length > MAXIMUM_KEY_BYTES)
    throw new Fault('INVALID_ARGUMENT', `public_key: longer than ${MAXIMUM_KEY_BYTES} bytes`);
  return sshKeyType(parsePublicKey(publicKey));
}

/** The record may be gone since the call was admitted. */
async function requireGateway(reader: Reader, id: string): Promise<GatewayRecord> {
  const record = await findGateway(reader, id);
  if (record === undefined) throw new Fault('PERMISSION_DENIED', 'this is no gateway');
  return record;
}

function principalsByAccount(
  backend: string,
  logins: Readonly<Record<string, string>>,
): Map<string, string[]> {
  const principals = new Map<string, string[]>();
  for (const [login, account] of Object.entries(logins).sort()) {
    const others = principals.get(account) ?? [];
    principals.set(account, [...others, `${backend}/${login}`]);
  }
  return principals;
}
