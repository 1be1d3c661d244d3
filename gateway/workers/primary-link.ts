import { fromBinary } from '@bufbuild/protobuf';
import { SnapshotSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Samples } from '../../runtime/metrics.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import { EMPTY_SNAPSHOT, type GatewaySnapshot, readSnapshot } from '../access/snapshot.ts';
import type { AdmittedSession, OnEnd, SessionAdmission } from '../session/admit-session.ts';
import type { SessionRequest } from '../session/session-desk.ts';
import {
  faultOf,
  sessionOf,
  type ToPrimary,
  type ToWorker,
  type WireSession,
  wireRequest,
} from './messages.ts';
import type { Peers } from './peers.ts';

type Start = Extract<ToWorker, { readonly kind: 'start' }>;

export interface PrimaryLinkOptions {
  send(message: ToPrimary): void;
  /** What this process has measured so far; asked each second. */
  samples(): Samples;
  onLevel(level: string): void;
}

interface Asked {
  readonly onEnd: OnEnd;
  /** Undefined once it is answered. */
  answer: ((outcome: WireSession | Fault) => void) | undefined;
}

/** A worker's side of its primary: all that the gateway has once is over there. */
export class PrimaryLink implements SessionAdmission {
  readonly #options: PrimaryLinkOptions;
  /** Resolves with what the worker is to be. */
  readonly started: Promise<Start>;
  #start: (what: Start) => void = () => undefined;
  readonly #snapshot = new Watched(EMPTY_SNAPSHOT);
  readonly #stopping = new AbortController();
  /** Sessions by ticket, from their asking to their end. */
  readonly #sessions = new Map<number, Asked>();
  readonly #telling = new Map<number, () => void>();
  readonly #handlers = new Map<string, (message: unknown) => Promise<void>>();
  #lastTicket = 0;
  #lastTelling = 0;
  #heard = 0;

  constructor(options: PrimaryLinkOptions) {
    this.#options = options;
    this.started = new Promise((resolve) => {
      this.#start = resolve;
    });
  }

  get snapshot(): WatchedSource<GatewaySnapshot> {
    return this.#snapshot;
  }

  /** Aborts when the gateway stops. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Rises with every message. */
  get heard(): number {
    return this.#heard;
  }

  receive(message: ToWorker): void {
    this.#heard += 1;
    switch (message.kind) {
      case 'start':
        this.#start(message);
        break;
      case 'snapshot':
        this.#snapshot.set(readSnapshot(fromBinary(SnapshotSchema, message.snapshot)));
        break;
      case 'admitted':
        this.#answer(message.ticket, message.session);
        break;
      case 'refused':
        this.#answer(message.ticket, faultOf(message.fault));
        break;
      case 'end':
        this.#sessions.get(message.ticket)?.onEnd(faultOf(message.fault), message.cause);
        break;
      case 'told':
        void this.#deal(message);
        break;
      case 'dealtWith':
        this.#telling.get(message.id)?.();
        break;
      case 'ping':
        this.#options.onLevel(message.level);
        this.#options.send({ kind: 'pong', samples: this.#options.samples() });
        break;
      case 'stop':
        this.#stopping.abort();
        break;
    }
  }

  async admit(request: SessionRequest, onEnd: OnEnd): Promise<AdmittedSession> {
    this.#lastTicket += 1;
    const ticket = this.#lastTicket;
    const { send } = this.#options;
    const outcome = await new Promise<WireSession | Fault>((answer) => {
      this.#sessions.set(ticket, { onEnd, answer });
      send({ kind: 'admit', ticket, request: wireRequest(request) });
    });
    if (outcome instanceof Fault) {
      this.#sessions.delete(ticket);
      throw outcome;
    }
    return {
      ...sessionOf(outcome),
      close: (how) => {
        if (this.#sessions.delete(ticket)) send({ kind: 'close', ticket, how });
      },
    };
  }

  /** The same protocol in the gateway's other workers. */
  peersOf(protocol: string, { index, count }: Pick<Peers, 'index' | 'count'>): Peers {
    return {
      index,
      count,
      tell: (to, message) => this.#tell({ protocol, to, message }),
      onTold: (handle) => {
        this.#handlers.set(protocol, handle);
      },
    };
  }

  #answer(ticket: number, outcome: WireSession | Fault): void {
    const asked = this.#sessions.get(ticket);
    asked?.answer?.(outcome);
    if (asked !== undefined) asked.answer = undefined;
  }

  async #tell(what: { protocol: string; to: number; message: unknown }): Promise<void> {
    this.#lastTelling += 1;
    const id = this.#lastTelling;
    await new Promise<void>((resolve) => {
      this.#telling.set(id, resolve);
      this.#options.send({ kind: 'tell', id, ...what });
    });
    this.#telling.delete(id);
  }

  async #deal({ id, protocol, message }: Extract<ToWorker, { kind: 'told' }>): Promise<void> {
    try {
      await this.#handlers.get(protocol)?.(message);
    } catch {
      // Who asked learns nothing of how it went.
    }
    this.#options.send({ kind: 'dealtWith', id });
  }
}
