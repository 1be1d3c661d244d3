import { isIP } from 'node:net';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { parseCsr } from '../../identity/x509/csr.ts';
import type {
  AttestAgentRequest,
  AttestAgentResponseSchema,
  RenewAgentResponseSchema,
} from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Called } from '../access/actor.ts';
import { isLocked } from '../access/locks.ts';
import type { RefusalCounter } from '../audit/refusal-counter.ts';
import type { Authority, SignedX509 } from '../authority/authority.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { SharedTransactions } from '../plugins/datastore/shared-transactions.ts';
import type { AttestedNode, NodeAttestor } from '../plugins/node-attestor/node-attestor.ts';
import { idMessage } from '../registry/spiffe-id-message.ts';
import { type AgentRecord, findAgent } from './agent-records.ts';
import type { Agents } from './agents.ts';
import { ChallengeExchange } from './challenge-exchange.ts';
import { permissionDenied } from './permission-denied.ts';

const TIMEOUT_MS = 30_000;
const MAXIMUM_EVIDENCE_BYTES = 64 * 1024;

export interface NodeAttestationOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly authority: Authority;
  readonly agents: Agents;
  readonly refusals: RefusalCounter;
  readonly attestors: ReadonlyMap<string, NodeAttestor>;
  readonly trustDomain: TrustDomain;
  readonly ttlSeconds: number;
}

type Response = MessageInitShape<typeof AttestAgentResponseSchema>;

/** What an agent asks for, read but not yet proved. */
interface Asked {
  readonly type: string;
  readonly evidence: Uint8Array;
  /** DER, checked. */
  readonly spki: Uint8Array;
}

/** Takes nodes in and renews their SVIDs. */
export class NodeAttestation {
  readonly #options: NodeAttestationOptions;

  constructor(options: NodeAttestationOptions) {
    this.#options = options;
  }

  /**
   * One attestation, from the agent's first message to its SVID.
   * @param requests untrusted, of a caller without identity
   * @param from `ip:port` of the caller, for the audit log
   * @throws Fault INVALID_ARGUMENT, FAILED_PRECONDITION for an unknown attestor, PERMISSION_DENIED,
   *   and what the attestor throws
   */
  async *attest(
    requests: AsyncIterable<AttestAgentRequest>,
    { from, signal, ...call }: Called & { readonly from: string; readonly signal: AbortSignal },
  ): AsyncGenerator<Response> {
    const { attestors } = this.#options;
    const done = new AbortController();
    const late = this.#late(done.signal);
    let type = '';
    try {
      const input = requests[Symbol.asyncIterator]();
      const asked = await askedFor(await Promise.race([input.next(), late]));
      const attestor = attestors.get(asked.type);
      if (attestor === undefined) {
        const shown = JSON.stringify(asked.type.slice(0, 64));
        throw new Fault('FAILED_PRECONDITION', `node attestor ${shown} is not configured`);
      }
      type = attestor.type;
      const exchange = new ChallengeExchange(signal);
      exchange.run(attestor.attest(asked.evidence, exchange));
      let step = await Promise.race([exchange.next(), late]);
      while ('challenge' in step) {
        yield { step: { case: 'challenge', value: step.challenge } };
        exchange.answer(challengeResponse(await Promise.race([input.next(), late])));
        step = await Promise.race([exchange.next(), late]);
      }
      yield await this.#admit(step.node, { type, spki: asked.spki, from, ...call });
    } catch (error) {
      this.#refused(error, type, from);
      throw error;
    } finally {
      done.abort();
    }
  }

  /**
   * A new SVID for an agent, which counts from its first use.
   * @param agent as its call was admitted
   * @param csr untrusted
   * @throws Fault INVALID_ARGUMENT, PERMISSION_DENIED
   */
  async renew(
    agent: AgentRecord,
    csr: Uint8Array,
    { id, ...call }: Called & { readonly id: AttestedNode['agentId'] },
  ): Promise<MessageInitShape<typeof RenewAgentResponseSchema>> {
    const { store, authority, agents } = this.#options;
    if (agent.canReattest)
      throw permissionDenied('agent must attest again', Reason.AGENT_MUST_REATTEST);
    const { spki } = await parseCsr(csr);
    const signed = await SharedTransactions.of(store).run(async (tx) => {
      await this.#refuseBarred(tx, agent.id);
      const svid = await authority.signX509(tx, {
        kind: 'agent',
        id,
        spki,
        notAfter: this.#end(),
        agentId: agent.id,
        actor: { kind: 'agent', spiffeId: agent.id, ...call },
      });
      await agents.renew(tx, agent.id, svid.serial, svid.notAfter);
      return svid;
    });
    return { svid: svidMessage(id, signed) };
  }

  async #admit(
    node: AttestedNode,
    asked: Called & { readonly type: string; readonly spki: Uint8Array; readonly from: string },
  ): Promise<Response> {
    const { store, authority, agents, trustDomain } = this.#options;
    const { agentId: id, canReattest } = node;
    const { type, spki, from, ...call } = asked;
    if (id.trustDomain !== trustDomain || !id.path.startsWith(`/spire/agent/${type}/`))
      throw new Error(`attestor ${type} named the agent ${id}`);
    const signed = await SharedTransactions.of(store).run(async (tx) => {
      const known = await findAgent(tx, id);
      if (known?.isBanned === true)
        throw permissionDenied('failed to attest: agent is banned', Reason.AGENT_BANNED);
      if (known !== undefined && node.firstUseOnly === true)
        throw new Fault('ATTESTATION_DENIED', 'attestation data has already been used', {
          cause: `${id} is attested already; evict it to let it attest anew`,
        });
      await this.#refuseBarred(tx, id.toString());
      const svid = await authority.signX509(tx, {
        kind: 'agent',
        id,
        spki,
        notAfter: this.#end(),
        agentId: id.toString(),
        actor: { kind: 'agent', spiffeId: id.toString(), address: from, ...call },
      });
      const { serial, notAfter } = svid;
      const selectors = node.selectors.map((value) => ({ type, value }));
      await agents.admit(tx, { id, type, selectors, canReattest, serial, notAfter, ...call });
      return svid;
    });
    const result = { svid: svidMessage(id, signed), reattestable: canReattest };
    return { step: { case: 'result', value: result } };
  }

  async #refuseBarred(tx: Transaction, agentId: string): Promise<void> {
    if ((await isLocked(tx, { agentId }, this.#options.clock.now())) !== undefined)
      throw new Fault('PERMISSION_DENIED', 'this agent is locked');
  }

  #end(): Date {
    const { clock, ttlSeconds } = this.#options;
    return new Date(clock.now().getTime() + ttlSeconds * 1000);
  }

  /** Rejects when the exchange takes too long: a caller without identity must not hold a stream. */
  #late(done: AbortSignal): Promise<never> {
    const late = this.#options.clock.wait(TIMEOUT_MS, done).then(() => {
      throw new Fault('UNAVAILABLE', 'attestation took too long');
    });
    late.catch(() => undefined);
    return late;
  }

  #refused(error: unknown, type: string, from: string): void {
    const { refusals, log } = this.#options;
    const fault = Fault.from(error);
    const detail = typeof fault.cause === 'string' ? fault.cause : fault.message;
    const address = withoutPort(from);
    log.warn(
      { peer_addr: from, node_attestor_type: type, code: fault.code },
      'attestation refused',
    );
    refusals.count(`attest|${address}|${type}|${fault.code}`, {
      type: 'agent.attestation_refused',
      outcome: Outcome.DENIED,
      actor: { kind: 'unknown', address },
      reason: detail,
      attributes: { node_attestor: type, code: fault.code },
    });
  }
}

/** SPIRE's message for an SVID. */
export function svidMessage(id: AttestedNode['agentId'], { chain, notAfter }: SignedX509) {
  return {
    id: idMessage(id),
    certChain: [...chain],
    expiresAt: BigInt(Math.floor(notAfter.getTime() / 1000)),
  };
}

async function askedFor({ value, done }: IteratorResult<AttestAgentRequest>): Promise<Asked> {
  if (done === true || value.step.case !== 'params')
    throw invalid('the first message has no params');
  const { data, params } = value.step.value;
  if (data === undefined || data.type === '') throw invalid('missing attestation data type');
  if (data.payload.length === 0) throw invalid('missing attestation data payload');
  if (data.payload.length > MAXIMUM_EVIDENCE_BYTES)
    throw invalid(`attestation data is longer than ${MAXIMUM_EVIDENCE_BYTES} bytes`);
  if (params === undefined || params.csr.length === 0) throw invalid('missing CSR');
  const { spki } = await parseCsr(params.csr);
  return { type: data.type, evidence: data.payload, spki };
}

function challengeResponse({ value, done }: IteratorResult<AttestAgentRequest>): Uint8Array {
  if (done === true || value.step.case !== 'challengeResponse')
    throw invalid('the challenge was not answered');
  if (value.step.value.length > MAXIMUM_EVIDENCE_BYTES)
    throw invalid(`challenge response is longer than ${MAXIMUM_EVIDENCE_BYTES} bytes`);
  return value.step.value;
}

/** The host of `ip:port`; anything else as it is. */
export function withoutPort(address: string): string {
  const host = address.slice(0, Math.max(0, address.lastIndexOf(':'))).replace(/^\[(.*)\]$/, '$1');
  return isIP(host) === 0 ? address : host;
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
