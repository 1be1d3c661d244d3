/**
 * A job's identity, from its attestation to its end: kept in memory, renewed at half its life, looked
 * after every few seconds. It ends when the server says so, when no entry is left, or when it expires
 * because the server was away for too long.
 */
import type { KeyObject } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import { type Bundle, makeBundle } from '../../identity/bundle.ts';
import { bundleFromMessage } from '../../identity/bundle-message.ts';
import type { SpiffeId } from '../../identity/spiffe-id.ts';
import { verifySvid } from '../../identity/verify.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle as BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry as EntryService } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { BundleSchema } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcChannel, RpcError } from '../../runtime/grpc-client.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import { type AttestedJob, agentSvid, attestJob, serverTls } from './attest-job.ts';
import { type JobEntry, jobEntries, processSelectors } from './job-entries.ts';
import type { JobTokenSource } from './job-token.ts';

const LOOK_MS = 5000;
const MOST_ENTRIES = 50;
const OK = 0;

export interface JobIdentityOptions {
  /** `host:port` */
  readonly server: string;
  /** The roots that the server is known by at first. */
  readonly bundle: Bundle;
  readonly provider: string;
  readonly token: JobTokenSource;
  /** The one identity that is wanted; all that the job has if left out. */
  readonly spiffeId?: SpiffeId;
  readonly clock: Clock;
  /** Ends the attestation; afterwards the identity lives until it is disposed of. */
  readonly signal: AbortSignal;
}

export interface JobSvid {
  readonly entry: JobEntry;
  readonly svid: X509Svid;
  readonly obtainedAt: Date;
}

/** At least one SVID, the default one first. */
export interface JobState {
  readonly svids: readonly JobSvid[];
  readonly bundle: Bundle;
}

export class JobIdentity implements AsyncDisposable {
  readonly #options: JobIdentityOptions;
  readonly #stop = new AbortController();
  /** By entry: one key for as long as the command runs, so that a client never finds a pair that is none. */
  readonly #keys = new Map<string, KeyObject>();
  #agent: AttestedJob;
  #channel: RpcChannel;
  #bundle: Bundle;
  #bundleBytes: Uint8Array = new Uint8Array();
  #turn: Promise<unknown> = Promise.resolve();
  #state: Watched<JobState>;
  readonly #ended: Promise<Fault>;

  private constructor(options: JobIdentityOptions, agent: AttestedJob) {
    const { server, bundle, clock } = options;
    this.#options = options;
    this.#agent = agent;
    this.#bundle = bundle;
    this.#channel = RpcChannel.tls(server, serverTls({ bundle, clock, svid: agent.svid }));
    this.#state = new Watched<JobState>({ svids: [], bundle });
    this.#ended = this.#keep();
  }

  /**
   * Attests the job and obtains its SVIDs.
   * @throws Fault PERMISSION_DENIED if no entry is for it; what `attestJob` throws
   */
  static async open(options: JobIdentityOptions): Promise<JobIdentity> {
    const agent = await attestJob(options);
    const identity = new JobIdentity(options, agent);
    try {
      await identity.#inTurn(() => identity.#look(options.signal));
      return identity;
    } catch (error) {
      await identity[Symbol.asyncDispose]();
      throw error;
    }
  }

  get agentId(): SpiffeId {
    return this.#agent.svid.id;
  }

  get state(): WatchedSource<JobState> {
    return this.#state;
  }

  /** Resolves with the reason when the identity has ended, never otherwise. */
  get ended(): Promise<Fault> {
    return this.#ended;
  }

  /** A new JWT-SVID. @throws `RpcError` */
  newJwt(entry: JobEntry, audience: readonly string[], signal: AbortSignal): Promise<string> {
    return this.#inTurn(async () => {
      const request = { entryId: entry.id, audience: [...audience] };
      const { svid } = await this.#channel.client(SVID).newJWTSVID(request, { signal });
      if (svid === undefined || svid.token === '')
        throw new Fault('PROTOCOL_VIOLATION', 'the server sent no JWT-SVID');
      return svid.token;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#turn;
    await this.#channel[Symbol.asyncDispose]();
  }

  /** One call after the other: with an SVID that has been replaced we would look like a copy. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #keep(): Promise<Fault> {
    const { clock } = this.#options;
    const { signal } = this.#stop;
    for (;;) {
      try {
        await clock.wait(LOOK_MS, signal);
        await this.#inTurn(() => this.#look(signal));
      } catch (error) {
        // Whoever disposed of it waits for no end.
        if (signal.aborted) return await new Promise<never>(() => undefined);
        const end = this.#endAfter(error);
        if (end !== undefined) return end;
      }
    }
  }

  #endAfter(error: unknown): Fault | undefined {
    const now = this.#options.clock.now();
    if (error instanceof Fault && error.code !== 'UNAVAILABLE') return error;
    if (
      error instanceof RpcError &&
      ['PERMISSION_DENIED', 'UNAUTHENTICATED'].includes(error.status)
    )
      return new Fault('PERMISSION_DENIED', `the server ended it: ${error.message}`);
    const usable = this.#state.value.svids.filter(({ svid }) => svid.notAfter > now);
    if (usable.length > 0 && this.#agent.svid.notAfter > now) return undefined;
    return new Fault('UNAVAILABLE', 'it expired, and the server cannot be reached', {
      cause: error,
    });
  }

  /** @throws Fault if the job has no identity any more; `RpcError` */
  async #look(signal: AbortSignal): Promise<void> {
    if (isHalfOver(this.#agent, this.#options.clock.now())) await this.#renewAgent(signal);
    const message = await this.#channel.client(BundleService).getBundle({}, { signal });
    const bytes = toBinary(BundleSchema, message);
    const isNewBundle = Buffer.compare(bytes, this.#bundleBytes) !== 0;
    if (isNewBundle) this.#bundle = bundleFromMessage(message, this.#bundle.trustDomain);
    this.#bundleBytes = bytes;
    const before = this.#state.value.svids;
    const svids = await this.#issue(await this.#entries(signal), signal);
    const isSame =
      svids.length === before.length && svids.every(({ svid }, at) => svid === before[at]?.svid);
    if (isNewBundle || !isSame) this.#state.set({ svids, bundle: this.#bundle });
  }

  async #entries(signal: AbortSignal): Promise<readonly JobEntry[]> {
    const { spiffeId: wanted } = this.#options;
    const answer = await this.#channel.client(EntryService).getAuthorizedEntries({}, { signal });
    const held = new Set([...this.#agent.selectors, ...processSelectors()]);
    const { trustDomain } = this.#bundle;
    const entries = jobEntries(answer.entries, held, {
      trustDomain,
      ...(wanted === undefined ? {} : { wanted }),
    });
    if (entries.length === 0) {
      const whose = wanted === undefined ? 'no entry' : `no entry of ${wanted}`;
      const hint = 'under that or under a node alias, with selectors of the token or of this user';
      throw new Fault('PERMISSION_DENIED', `${whose} is for ${this.agentId}: make one ${hint}`);
    }
    if (entries.length > MOST_ENTRIES)
      throw new Fault('RESOURCE_EXHAUSTED', `more than ${MOST_ENTRIES} entries: name --spiffe-id`);
    return entries;
  }

  async #issue(entries: readonly JobEntry[], signal: AbortSignal): Promise<JobSvid[]> {
    const now = this.#options.clock.now();
    const held = new Map(this.#state.value.svids.map((one) => [one.entry.id, one]));
    const due = entries.filter((entry) => {
      const one = held.get(entry.id);
      return (
        one === undefined ||
        String(one.svid.id) !== String(entry.spiffeId) ||
        isHalfOver(one, now) ||
        !isSound(one.svid, this.#bundle, now)
      );
    });
    for (const one of await this.#request(due, signal)) held.set(one.entry.id, one);
    const svids = entries.flatMap((entry) => {
      const one = held.get(entry.id);
      return one === undefined || one.svid.notAfter <= now ? [] : [{ ...one, entry }];
    });
    if (svids.length === 0)
      throw new Fault('PERMISSION_DENIED', 'the server issues no X509-SVID for this job');
    return svids;
  }

  async #request(due: readonly JobEntry[], signal: AbortSignal): Promise<JobSvid[]> {
    if (due.length === 0) return [];
    const keys = await Promise.all(due.map((entry) => this.#keyOf(entry)));
    const params = due.map(({ id: entryId, spiffeId: uri }, at) => {
      const key = keys[at];
      if (key === undefined) throw new Error('a key for each');
      return { entryId, csr: createCsr(key, { uri }) };
    });
    const { results } = await this.#channel.client(SVID).batchNewX509SVID({ params }, { signal });
    return results.flatMap(({ status, svid }, at) => {
      const [entry, key] = [due[at], keys[at]];
      if ((status?.code ?? OK) !== OK || entry === undefined || key === undefined) return [];
      return [this.#checked(entry, x509Svid(svid?.certChain ?? [], key, entry.hint))];
    });
  }

  #checked(entry: JobEntry, svid: X509Svid): JobSvid {
    const bundle = this.#bundle;
    const now = this.#options.clock.now();
    verifySvid(svid.chain, () => bundle, now);
    if (String(svid.id) === String(entry.spiffeId)) return { entry, svid, obtainedAt: now };
    throw new Fault('PROTOCOL_VIOLATION', `the server answered with an SVID of ${svid.id}`);
  }

  async #keyOf({ id }: JobEntry): Promise<KeyObject> {
    const key = this.#keys.get(id) ?? (await generateKey('ec-p256'));
    this.#keys.set(id, key);
    return key;
  }

  async #renewAgent(signal: AbortSignal): Promise<void> {
    const { server, clock } = this.#options;
    const bundle = this.#bundle;
    this.#agent = this.#agent.canReattest
      ? await attestJob({ ...this.#options, bundle, signal })
      : { ...this.#agent, svid: await this.#renewedSvid(signal), obtainedAt: clock.now() };
    await this.#channel[Symbol.asyncDispose]();
    this.#channel = RpcChannel.tls(server, serverTls({ bundle, clock, svid: this.#agent.svid }));
  }

  async #renewedSvid(signal: AbortSignal): Promise<X509Svid> {
    const key = await generateKey('ec-p256');
    const request = { params: { csr: createCsr(key) } };
    const { svid } = await this.#channel.client(Agent).renewAgent(request, { signal });
    return agentSvid(x509Svid(svid?.certChain ?? [], key), this.#bundle);
  }
}

function isHalfOver(
  { svid, obtainedAt }: { readonly svid: X509Svid; readonly obtainedAt: Date },
  now: Date,
): boolean {
  return now.getTime() >= (obtainedAt.getTime() + svid.notAfter.getTime()) / 2;
}

/** Whether an authority vouches for it that is not about to be withdrawn. */
function isSound(
  { chain }: X509Svid,
  { trustDomain, x509Authorities }: Bundle,
  now: Date,
): boolean {
  const x509 = x509Authorities.filter(({ tainted }) => !tainted);
  const good = makeBundle({ trustDomain, x509 });
  try {
    verifySvid(chain, () => good, now);
    return true;
  } catch {
    return false;
  }
}
