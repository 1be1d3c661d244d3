/**
 * Decides whether an SVID may be issued now, and until when: entry, identity record, locks and agent
 * are looked at in the very transaction that writes the ledger, so nothing that was taken away a
 * moment ago is signed once more.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import type { SpiffeId, TrustDomain } from '../../identity/spiffe-id.ts';
import { parseCsr, requestedSubject } from '../../identity/x509/csr.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import { gatewayNames } from '../access/gateways.ts';
import type { AgentRecord } from '../attestation/agent-records.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { SharedTransactions } from '../plugins/datastore/shared-transactions.ts';
import type { EntryIndex } from '../registry/entry-index.ts';
import type { Identities } from '../registry/identities.ts';
import { refuseGatewayNames } from '../registry/reserved-names.ts';
import { memberId, memberIdFromText } from '../registry/spiffe-id-message.ts';
import type { Credential } from '../registry/ttl-policy.ts';
import type { Authority, SignedJwt, SignedX509, X509Batch } from './authority.ts';
import {
  type Asked,
  authorisedEntry,
  entryGround,
  type IssuingRules,
  mayEndAt,
  readStandings,
  requireAgent,
  type Standings,
  type WorkloadWish,
} from './entitlement.ts';

/** SVIDs between two looks at what else there is to do: a few milliseconds. */
const CHUNK = 10;
const MAXIMUM_AUDIENCES = 32;
const MAXIMUM_AUDIENCE = 2048;

export interface IssuerOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly authority: Authority;
  readonly index: EntryIndex;
  readonly identities: Identities;
  readonly trustDomain: TrustDomain;
  readonly ttl: { readonly x509Seconds: number; readonly jwtSeconds: number };
  readonly rules: IssuingRules;
}

export interface IssuedX509 extends SignedX509 {
  readonly id: SpiffeId;
  readonly hint: string;
}

export interface IssuedJwt extends SignedJwt {
  readonly id: SpiffeId;
  readonly hint: string;
}

/** One SVID that an agent asks for. */
export interface X509Params {
  readonly entryId: string;
  /** PKCS#10 DER, untrusted. */
  readonly csr: Uint8Array;
}

interface X509Call {
  readonly tx: Transaction;
  readonly batch: X509Batch;
  readonly agent: AgentRecord;
  readonly actor: Actor;
  readonly standings: Standings;
}

/** What of `X509Params` stands before the store is asked. */
interface X509Wish {
  readonly entryId: string;
  /** DER, checked. */
  readonly spki: Uint8Array;
}

/** A wish, and for which entry. */
interface EntryWish extends X509Wish {
  readonly entry: Entry;
  readonly id: SpiffeId;
}

export class Issuer {
  readonly #options: IssuerOptions;
  /** For what signs one thing: calls that come together share a commit. */
  readonly #transactions: SharedTransactions;

  constructor(options: IssuerOptions) {
    this.#options = options;
    this.#transactions = SharedTransactions.of(options.store);
  }

  /** One outcome for each of `params`, in their order, all of one transaction. */
  async newX509(
    agent: AgentRecord,
    params: readonly X509Params[],
    actor: Actor,
  ): Promise<(IssuedX509 | Fault)[]> {
    const { store, authority } = this.#options;
    const wishes = await eachOutcome(params, readWish);
    return store.transaction(async (tx) => {
      await requireAgent(tx, agent);
      const found = await eachOutcome(wishes, (wish) => this.#entryWish(agent, wish));
      const ids = found.flatMap((one) => (one instanceof Fault ? [] : [one.id.toString()]));
      const standings = await readStandings(tx, ids);
      const batch = authority.x509Batch();
      const call = { tx, batch, agent, actor, standings };
      const outcomes = await eachOutcome(found, (one) => this.#signEntryX509(call, one));
      await batch.record(tx);
      return outcomes;
    });
  }

  /** @throws Fault NOT_FOUND, INVALID_ARGUMENT, PERMISSION_DENIED */
  async newJwt(
    agent: AgentRecord,
    asked: { readonly entryId: string; readonly audience: readonly string[] },
    actor: Actor,
  ): Promise<IssuedJwt> {
    const { authority, ttl } = this.#options;
    checkAudience(asked.audience);
    return this.#transactions.run(async (tx) => {
      await requireAgent(tx, agent);
      const entry = this.#authorised(agent, asked.entryId);
      const id = memberId(entry.spiffeId, this.#options.trustDomain, 'spiffe_id');
      const ttlSeconds = entry.jwtSvidTtl || ttl.jwtSeconds;
      const notAfter = await this.#mayEndAt(tx, {
        id,
        ttlSeconds,
        agentId: agent.id,
        entryEnd: entry.expiresAt,
        workload: this.#wish('jwt_svid', actor, asked.audience),
      });
      const signed = await authority.signJwt(tx, {
        ...entryGround(entry, agent, actor),
        id,
        notAfter,
        audience: asked.audience,
      });
      return { ...signed, id, hint: entry.hint };
    });
  }

  /**
   * For an operator: key, SPIFFE ID, DNS names and subject come from the CSR.
   * @param csr PKCS#10 DER, untrusted
   * @param ttlSeconds 0 is the default
   * @throws Fault INVALID_ARGUMENT, PERMISSION_DENIED, FAILED_PRECONDITION
   */
  async mintX509(csr: Uint8Array, ttlSeconds: number, actor: Actor): Promise<IssuedX509> {
    const { authority, trustDomain, ttl } = this.#options;
    const request = await parseCsr(csr);
    const { spki, uriSans, dnsSans } = request;
    const subject = requestedSubject(request);
    const [uri, ...more] = uriSans;
    if (uri === undefined || more.length > 0) throw invalid('CSR must have exactly one URI SAN');
    const id = mintable(memberIdFromText(uri, trustDomain, 'CSR URI SAN'));
    refuseOverlap(dnsSans);
    return this.#transactions.run(async (tx) => {
      await this.#options.identities.ensure(tx, id, actor);
      // A client that does not look at SANs takes the common name for the host's.
      await refuseGatewayNames(tx, [...dnsSans, ...(subject?.commonNames ?? [])]);
      const notAfter = await this.#mayEndAt(tx, {
        id,
        ttlSeconds: asTtl(ttlSeconds, ttl.x509Seconds),
        workload: this.#wish('x509_svid', actor),
      });
      const signed = await authority.signX509(tx, {
        kind: 'x509',
        ...{ id, spki, notAfter, actor, dnsNames: dnsSans, subject },
      });
      return { ...signed, id, hint: '' };
    });
  }

  /** As `mintX509`, for a token. */
  async mintJwt(
    asked: {
      readonly id: SpiffeId;
      readonly audience: readonly string[];
      readonly ttlSeconds: number;
    },
    actor: Actor,
  ): Promise<IssuedJwt> {
    const { authority, ttl } = this.#options;
    const { audience } = asked;
    const id = mintable(asked.id);
    checkAudience(audience);
    return this.#transactions.run(async (tx) => {
      await this.#options.identities.ensure(tx, id, actor);
      const ttlSeconds = asTtl(asked.ttlSeconds, ttl.jwtSeconds);
      const workload = this.#wish('jwt_svid', actor, audience);
      const notAfter = await this.#mayEndAt(tx, { id, ttlSeconds, workload });
      const signed = await authority.signJwt(tx, { id, audience, notAfter, actor });
      return { ...signed, id, hint: '' };
    });
  }

  #entryWish(agent: AgentRecord, { entryId, spki }: X509Wish): EntryWish {
    const entry = this.#authorised(agent, entryId);
    const id = memberId(entry.spiffeId, this.#options.trustDomain, 'spiffe_id');
    return { entryId, spki, entry, id };
  }

  async #signEntryX509(
    { tx, batch, agent, actor, standings }: X509Call,
    { spki, entry, id }: EntryWish,
  ): Promise<IssuedX509> {
    const { clock, ttl } = this.#options;
    const asked = {
      id,
      ttlSeconds: entry.x509SvidTtl || ttl.x509Seconds,
      agentId: agent.id,
      entryEnd: entry.expiresAt,
      workload: this.#wish('x509_svid', actor),
    };
    const notAfter = await mayEndAt(tx, asked, clock.now(), standings);
    const signed = await batch.sign({
      kind: 'x509',
      ...entryGround(entry, agent, actor),
      ...(await namesOf(tx, id, entry)),
      ...{ id, spki, notAfter },
    });
    return { ...signed, id, hint: entry.hint };
  }

  #authorised(agent: AgentRecord, entryId: string): Entry {
    const { index, clock } = this.#options;
    return authorisedEntry(index, agent, { entryId, now: clock.now() });
  }

  #wish(credential: Credential, actor: Actor, audience: readonly string[] = []): WorkloadWish {
    return { credential, actor, audience, rules: this.#options.rules };
  }

  #mayEndAt(tx: Transaction, asked: Asked): Promise<Date> {
    return mayEndAt(tx, asked, this.#options.clock.now());
  }
}

/** Names in a gateway's SVID come from its record, and nobody else's SVID may have them. */
async function namesOf(
  tx: Transaction,
  id: SpiffeId,
  { dnsNames }: Entry,
): Promise<{ readonly dnsNames: readonly string[]; readonly ipAddresses: readonly string[] }> {
  if (id.path.startsWith('/writ/gateway/')) {
    const names = await gatewayNames(tx, id);
    if (names === undefined) throw new Fault('PERMISSION_DENIED', 'this is no gateway');
    return names;
  }
  await refuseGatewayNames(tx, dnsNames);
  return { dnsNames, ipAddresses: [] };
}

/** A failure of one item is its outcome; a failure of ours, or of the store, is the whole call's. */
const OF_THE_ITEM: ReadonlySet<string> = new Set([
  'FAILED_PRECONDITION',
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'PERMISSION_DENIED',
]);

/** `step` of each item that has not failed already, a few between two turns of the event loop. */
async function eachOutcome<T, R>(
  items: readonly (T | Fault)[],
  step: (item: T) => R | Promise<R>,
): Promise<(R | Fault)[]> {
  const outcomes: (R | Fault)[] = [];
  for (const item of items) {
    if (outcomes.length % CHUNK === CHUNK - 1) await breathe();
    outcomes.push(item instanceof Fault ? item : await itemOutcome(item, step));
  }
  return outcomes;
}

async function itemOutcome<T, R>(item: T, step: (item: T) => R | Promise<R>): Promise<R | Fault> {
  try {
    return await step(item);
  } catch (error) {
    if (error instanceof Fault && OF_THE_ITEM.has(error.code)) return error;
    throw error;
  }
}

async function readWish({ entryId, csr }: X509Params): Promise<X509Wish> {
  if (entryId === '') throw invalid('missing entry ID');
  if (csr.length === 0) throw invalid('missing CSR');
  return { entryId, spki: (await parseCsr(csr)).spki };
}

/** As SPIRE: a name beside a wildcard that covers it is a mistake in one of the two. */
function refuseOverlap(dnsNames: readonly string[]): void {
  const all = new Set(dnsNames);
  const covered = dnsNames.find(
    (name) => !name.startsWith('*.') && all.has(name.replace(/^[^.]*/, '*')),
  );
  if (covered !== undefined)
    throw invalid(`CSR DNS name ${JSON.stringify(covered)} is covered by a wildcard beside it`);
}

function mintable(id: SpiffeId): SpiffeId {
  if (id.isReserved) throw invalid(`${id.path} is reserved`);
  return id;
}

function asTtl(asked: number, byDefault: number): number {
  if (asked < 0) throw invalid('ttl is negative');
  return asked === 0 ? byDefault : asked;
}

function checkAudience(audience: readonly string[]): void {
  if (audience.length === 0) throw invalid('at least one audience is required');
  if (audience.length > MAXIMUM_AUDIENCES)
    throw invalid(`more than ${MAXIMUM_AUDIENCES} audiences`);
  if (audience.some((one) => one === '' || one.length > MAXIMUM_AUDIENCE))
    throw invalid(`an audience is empty or longer than ${MAXIMUM_AUDIENCE}`);
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
