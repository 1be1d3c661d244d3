import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { ConnectRequest, Hello } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Transaction } from '../plugins/datastore/datastore.ts';
import type { Called } from './actor.ts';
import { type ConnectResponseInit, GatewayLink, type GatewayLinkOptions } from './gateway-link.ts';
import { findGateway, type GatewayRecord } from './gateways.ts';

const KEY_BYTES = 32;
const MAXIMUM_PORTS = 16;
const PROTOCOL = /^[a-z][a-z0-9-]{0,31}$/;

/** The streams of all gateways that are connected; the newest of each. */
export class GatewayLinks {
  readonly #options: GatewayLinkOptions;
  readonly #links = new Map<string, GatewayLink>();

  constructor(options: GatewayLinkOptions) {
    this.#options = options;
  }

  /**
   * Serves one stream from its hello to its end; ends the one before of the same gateway.
   * @param id SPIFFE ID of the caller, authenticated
   * @throws Fault PERMISSION_DENIED if it has no record, PROTOCOL_VIOLATION, FAILED_PRECONDITION if the
   * gateway knows of revocations that this server does not
   */
  async *serve(
    id: string,
    requests: AsyncIterable<ConnectRequest>,
    { signal, requestId }: Called & { readonly signal: AbortSignal },
  ): AsyncGenerator<ConnectResponseInit> {
    const incoming = requests[Symbol.asyncIterator]();
    const first = await incoming.next();
    if (first.done === true) return;
    const { message } = first.value;
    if (message.case !== 'hello') {
      throw new Fault('PROTOCOL_VIOLATION', 'the first message must be a hello');
    }
    const hello = message.value;
    const gateway = await this.#register({ id, requestId }, hello);
    this.#options.leases.renew({ gateway: id, ...hello });
    const link = new GatewayLink(this.#options, gateway, hello.revocationSeq);
    this.#links.get(id)?.end(new Fault('UNAVAILABLE', 'a newer stream of this gateway is open'));
    this.#links.set(id, link);
    try {
      yield* link.serve(incoming, signal);
    } finally {
      if (this.#links.get(id) === link) this.#links.delete(id);
    }
  }

  /**
   * The bytes of a session's record files, as its gateway sends them.
   * @throws Fault UNAVAILABLE if the gateway is not connected; see `RecordingReads.read`
   */
  readRecording(
    gateway: string,
    sessionId: string,
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array> {
    const link = this.#links.get(gateway);
    if (link === undefined) {
      throw new Fault('UNAVAILABLE', `the gateway that holds the record is not connected`);
    }
    return link.readRecording(sessionId, signal);
  }

  /**
   * Checks a hello, closes what a former process left, keeps the gateway's ports and the key that signs
   * its records.
   */
  #register(
    { id, requestId }: Called & Pick<GatewayRecord, 'id'>,
    hello: Hello,
  ): Promise<GatewayRecord> {
    const { store, clock, revocations, sessions } = this.#options;
    const { recordingKey, revocationSeq, sessionIds, uptimeMilliseconds } = hello;
    const ports = checkedPorts(hello);
    if (recordingKey.length !== KEY_BYTES) {
      throw new Fault('PROTOCOL_VIOLATION', `hello.recording_key must be of ${KEY_BYTES} bytes`);
    }
    if (revocationSeq > revocations.head.value) {
      // The store is older than what the gateway has seen, e.g. a backup: new revocations would bear
      // numbers that the gateway takes for old ones.
      throw new Fault(
        'FAILED_PRECONDITION',
        'the gateway knows of revocations that this server does not: restart the gateway',
      );
    }
    return store.transaction(async (tx) => {
      const gateway = await findGateway(tx, id);
      if (gateway === undefined) {
        throw new Fault('PERMISSION_DENIED', 'the caller has no record as a gateway');
      }
      const openedBefore = new Date(clock.now().getTime() - Number(uptimeMilliseconds));
      await sessions.closeFormer(tx, id, { openedBefore, listed: sessionIds });
      await tx.run('update gateways set ports = ? where id = ?', JSON.stringify(ports), id);
      await this.#keepKey(tx, { ...gateway, requestId }, recordingKey);
      return { ...gateway, recordingKey, ports };
    });
  }

  async #keepKey(
    tx: Transaction,
    { id, recordingKey: before, requestId }: GatewayRecord & Called,
    key: Uint8Array,
  ): Promise<void> {
    if (before !== undefined && Buffer.compare(before, key) === 0) return;
    await tx.run('update gateways set recording_key = ? where id = ?', key, id);
    await this.#options.audit.append(tx, {
      type: 'gateway.recording_key',
      outcome: Outcome.SUCCESS,
      actor: { kind: 'gateway', spiffeId: id, requestId },
      spiffeId: id,
      attributes: {
        public_key: Buffer.from(key).toString('hex'),
        previous: before === undefined ? '' : Buffer.from(before).toString('hex'),
      },
    });
  }
}

/** By protocol, in one order. @throws Fault PROTOCOL_VIOLATION */
function checkedPorts({ ports }: Hello): Record<string, number> {
  const told = Object.entries(ports).sort(([one], [other]) => (one < other ? -1 : 1));
  const isFit = ([protocol, port]: [string, number]) =>
    PROTOCOL.test(protocol) && port >= 1 && port <= 65_535;
  if (told.length <= MAXIMUM_PORTS && told.every(isFit)) return Object.fromEntries(told);
  const message = `hello.ports must be at most ${MAXIMUM_PORTS} protocols, each with a TCP port`;
  throw new Fault('PROTOCOL_VIOLATION', message);
}
