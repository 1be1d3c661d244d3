import { SshReader } from '../../../../identity/ssh/wire.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { type ChannelOptions, type ChannelPeer, PACKET_BYTES, SshChannel } from './ssh2-channel.ts';
import {
  MESSAGE,
  message,
  NO_MORE_SESSIONS,
  OPEN_FAILURE,
  printable,
  violation,
} from './ssh2-messages.ts';
import type { SshTransport } from './ssh2-transport.ts';

/** A channel that the peer asks for. */
export interface OpenRequest {
  /** Untrusted. */
  readonly type: string;
  readonly peer: ChannelPeer;
  /** What the type has of its own. */
  readonly reader: SshReader;
}

export interface ChannelTableOptions {
  readonly transport: Pick<
    SshTransport,
    'send' | 'isBusy' | 'whenIdle' | 'isOver' | 'unimplemented'
  >;
  /** Channels that the peer may have at once. */
  readonly maximum: number;
  /** The peer asks for a channel: answered by `confirm` or `refuse`, now or later. */
  asked(request: OpenRequest): void;
}

type ChannelHandlers = Pick<ChannelOptions, 'requested' | 'closed'>;

/** A channel that we asked for. */
interface Opening {
  readonly handlers: ChannelHandlers;
  readonly window: number;
  opened(channel: SshChannel | Fault): void;
}

/** What a peer may send, on all channels together, before we say that it was read. */
const ALL_WINDOWS_BYTES = 4 * 2 ** 20;
/** So much of it a channel gets in any case. */
const LEAST_WINDOW_BYTES = 2 * PACKET_BYTES;
/** Less would be a flood of small packets. */
const SMALLEST_PACKET = 256;
const LONGEST_TYPE = 128;
const LONGEST_REASON = 4096;

/**
 * The channels of one connection, in either role.
 *
 * Source: RFC 4254 4 and 5.
 */
export class ChannelTable {
  readonly #options: ChannelTableOptions;
  readonly #channels = new Map<number, SshChannel>();
  readonly #openings = new Map<number, Opening>();
  #nextId = 0;
  /** Asked for by the peer, and not answered. */
  #asked = 0;
  #mayAskForSessions = true;

  constructor(options: ChannelTableOptions) {
    this.#options = options;
  }

  /** How many are open or being asked for. */
  get size(): number {
    return this.#channels.size + this.#asked;
  }

  /**
   * A message of the connection protocol.
   * @throws Fault PROTOCOL_VIOLATION or SSH_INVALID
   */
  receive(payload: Buffer): void {
    const number = payload[0] ?? 0;
    const reader = new SshReader(payload.subarray(1), 'SSH message');
    switch (number) {
      case MESSAGE.GLOBAL_REQUEST:
        this.#receiveGlobalRequest(reader);
        break;
      case MESSAGE.REQUEST_SUCCESS:
      case MESSAGE.REQUEST_FAILURE:
        throw violation('an answer to no request');
      case MESSAGE.CHANNEL_OPEN:
        this.#receiveOpen(reader);
        break;
      case MESSAGE.CHANNEL_OPEN_CONFIRMATION:
        this.#receiveConfirmation(reader);
        break;
      case MESSAGE.CHANNEL_OPEN_FAILURE:
        this.#receiveFailure(reader);
        break;
      default:
        if (number > MESSAGE.CHANNEL_FAILURE) this.#options.transport.unimplemented();
        else this.#find(reader.u32()).receive(number, reader);
    }
  }

  /** Opens a channel that the peer asked for. */
  confirm({ peer }: OpenRequest, handlers: ChannelHandlers): SshChannel | undefined {
    this.#asked -= 1;
    if (this.#options.transport.isOver) return undefined;
    const id = this.#newId();
    const window = this.#newWindow();
    const channel = this.#add(id, { peer, window, handlers });
    const { transport } = this.#options;
    const head = message(MESSAGE.CHANNEL_OPEN_CONFIRMATION).u32(peer.id).u32(id);
    transport.send(head.u32(window).u32(PACKET_BYTES).finish());
    return channel;
  }

  /** Refuses one that it asked for. */
  refuse(request: OpenRequest, code: number, text: string): void {
    this.#asked -= 1;
    this.#sendFailure(request.peer.id, code, text);
  }

  /**
   * Asks the peer for a session.
   * @throws Fault UNAVAILABLE
   */
  open(handlers: ChannelHandlers): Promise<SshChannel> {
    const { transport } = this.#options;
    if (transport.isOver) return Promise.reject(gone());
    const id = this.#newId();
    const window = this.#newWindow();
    const head = message(MESSAGE.CHANNEL_OPEN).string('session').u32(id);
    transport.send(head.u32(window).u32(PACKET_BYTES).finish());
    return new Promise((resolve, reject) => {
      const opened = (result: SshChannel | Fault) =>
        result instanceof Fault ? reject(result) : resolve(result);
      this.#openings.set(id, { handlers, window, opened });
    });
  }

  /** The connection is gone. */
  drop(): void {
    for (const { opened } of [...this.#openings.values()]) opened(gone());
    this.#openings.clear();
    for (const channel of [...this.#channels.values()]) channel.drop();
  }

  #receiveOpen(reader: SshReader): void {
    const type = reader.text(LONGEST_TYPE);
    const peer = { id: reader.u32(), window: reader.u32(), packet: reader.u32() };
    if (type === 'session' && !this.#mayAskForSessions) {
      throw violation('a session after the client said that it opens no more');
    } else if (peer.packet < SMALLEST_PACKET) {
      this.#sendFailure(peer.id, OPEN_FAILURE.CONNECT_FAILED, 'packet size too small');
    } else if (this.size >= this.#options.maximum) {
      this.#sendFailure(peer.id, OPEN_FAILURE.RESOURCE_SHORTAGE, 'too many channels');
    } else {
      this.#asked += 1;
      this.#options.asked({ type, peer, reader });
    }
  }

  #receiveConfirmation(reader: SshReader): void {
    const id = reader.u32();
    const opening = this.#openings.get(id);
    if (opening === undefined) throw violation('a channel that nobody asked for');
    const peer = { id: reader.u32(), window: reader.u32(), packet: reader.u32() };
    if (peer.packet < SMALLEST_PACKET) throw violation('packet size too small');
    this.#openings.delete(id);
    opening.opened(this.#add(id, { peer, ...opening }));
  }

  #receiveFailure(reader: SshReader): void {
    const id = reader.u32();
    const opening = this.#openings.get(id);
    if (opening === undefined) throw violation('a channel that nobody asked for');
    reader.u32();
    const text = printable(reader.string(LONGEST_REASON).toString('utf8'));
    this.#openings.delete(id);
    opening.opened(new Fault('UNAVAILABLE', `the peer opens no channel: ${text}`));
  }

  /** No forwarding, no host key updates: all that is granted is to be granted less. */
  #receiveGlobalRequest(reader: SshReader): void {
    const isGranted = reader.text(LONGEST_TYPE) === NO_MORE_SESSIONS;
    if (isGranted) this.#mayAskForSessions = false;
    if (!reader.boolean()) return;
    const answer = isGranted ? MESSAGE.REQUEST_SUCCESS : MESSAGE.REQUEST_FAILURE;
    this.#options.transport.send(message(answer).finish());
  }

  #add(
    id: number,
    { peer, window, handlers }: Omit<Opening, 'opened'> & { readonly peer: ChannelPeer },
  ): SshChannel {
    const channel = new SshChannel({
      transport: this.#options.transport,
      ...{ peer, window },
      requested: handlers.requested,
      closed: () => {
        this.#channels.delete(id);
        handlers.closed();
      },
    });
    this.#channels.set(id, channel);
    return channel;
  }

  /** Half of what the others leave: where a reader has stopped, the memory is held for long. */
  #newWindow(): number {
    const others = [...this.#channels.values(), ...this.#openings.values()];
    const given = others.reduce((sum, { window }) => sum + window, 0);
    return Math.max(Math.floor((ALL_WINDOWS_BYTES - given) / 2), LEAST_WINDOW_BYTES);
  }

  #find(id: number): SshChannel {
    const channel = this.#channels.get(id);
    if (channel === undefined) throw violation('a message for no channel');
    return channel;
  }

  #newId(): number {
    const id = this.#nextId;
    this.#nextId = (this.#nextId + 1) >>> 0;
    return this.#channels.has(id) || this.#openings.has(id) ? this.#newId() : id;
  }

  #sendFailure(id: number, code: number, text: string): void {
    const head = message(MESSAGE.CHANNEL_OPEN_FAILURE).u32(id).u32(code);
    this.#options.transport.send(head.string(printable(text)).string('').finish());
  }
}

function gone(): Fault {
  return new Fault('UNAVAILABLE', 'the connection is closed');
}
