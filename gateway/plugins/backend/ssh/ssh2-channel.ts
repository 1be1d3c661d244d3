import type { Duplex, Readable, Writable } from 'node:stream';
import type { SshReader } from '../../../../identity/ssh/wire.ts';
import {
  credit,
  duplexStream,
  type Inbox,
  inputStream,
  type Outbox,
  outputStream,
} from './ssh2-channel-streams.ts';
import { MESSAGE, message, violation } from './ssh2-messages.ts';
import type { SshTransport } from './ssh2-transport.ts';

/** The largest piece of data either side may send. */
export const PACKET_BYTES = 32 * 1024;

const STDERR = 1;
const LARGEST_WINDOW = 2 ** 32 - 1;
const LONGEST_NAME = 128;

/** How the peer knows the channel, and what it takes. */
export interface ChannelPeer {
  readonly id: number;
  readonly window: number;
  readonly packet: number;
}

export interface ChannelOptions {
  readonly transport: Pick<SshTransport, 'send' | 'isBusy' | 'whenIdle'>;
  readonly peer: ChannelPeer;
  /** What the peer was told that it may send. */
  readonly window: number;
  /** Whether a request of the peer's is granted. */
  requested(name: string, reader: SshReader): boolean;
  /** Nothing more comes or goes; called once. */
  closed(): void;
}

/**
 * One channel, of either role: flow control both ways, and the two steps of its end.
 *
 * Source: RFC 4254 5.
 */
export class SshChannel {
  readonly #options: ChannelOptions;
  readonly #use = {
    wanted: () => this.#adjustWindow(),
    wrote: () => this.#send(),
    ended: () => this.#ended(),
    abandoned: () => this.close(),
  };
  readonly #outboxes: Outbox[] = [];
  readonly #replies: ((isGranted: boolean) => void)[] = [];
  #inbox: Inbox | undefined;
  #errorInbox: Inbox | undefined;
  #outbox: Outbox | undefined;
  #receiveWindow: number;
  #sendWindow: number;
  #isEofReceived = false;
  #isEofSent = false;
  #isCloseSent = false;
  #isClosed = false;
  #isHeld = false;
  #isSending = false;
  #isWaiting = false;
  /** Sent when all else is. */
  #lastWord: (() => void) | undefined;

  constructor(options: ChannelOptions) {
    this.#options = options;
    this.#receiveWindow = options.window;
    this.#sendWindow = options.peer.window;
  }

  get window(): number {
    return this.#options.window;
  }

  /** The peer's data. */
  input(): Readable {
    const { stream, inbox } = inputStream(this.#use);
    this.#inbox = this.#endAtOnce(inbox);
    return stream;
  }

  /** The peer's second kind of data. */
  errorInput(): Readable {
    const { stream, inbox } = inputStream(this.#use);
    this.#errorInbox = this.#endAtOnce(inbox);
    return stream;
  }

  /** Data for the peer; once all outputs have ended it is told so. */
  output(): Writable {
    const made = outputStream((length) => this.#dataHead(length), this.#use);
    this.#outbox = made.outbox;
    return this.#addOutput(made);
  }

  /** The peer takes no more of `output`: what waits there is thrown away, and what comes later. */
  discardOutput(): void {
    this.#outbox?.discard();
    this.#send();
  }

  /** The second kind of data. */
  errorOutput(): Writable {
    return this.#addOutput(outputStream((length) => this.#errorHead(length), this.#use));
  }

  /** Both directions as one stream, whose end closes the channel. */
  duplex(): Duplex {
    const { stream, inbox, outbox } = duplexStream((length) => this.#dataHead(length), this.#use);
    this.#inbox = this.#endAtOnce(inbox);
    this.#addOutput({ stream, outbox });
    return stream;
  }

  /** Sends a request; resolves with whether it is granted. */
  request(name: string, body?: Uint8Array): Promise<boolean> {
    if (this.#isCloseSent || this.#isClosed) return Promise.resolve(false);
    this.#sendRequest(name, true, body);
    return new Promise((resolve) => this.#replies.push(resolve));
  }

  /** Sends a request that has no answer. */
  tell(name: string, body?: Uint8Array): void {
    if (this.#isCloseSent || this.#isClosed) return;
    this.#sendRequest(name, false, body);
  }

  /** Sends no data until the request at hand is answered. */
  hold(): void {
    this.#isHeld = true;
  }

  /** Closes once all that was written is sent, after a last request. */
  finish(lastWord: () => void): void {
    this.#lastWord ??= lastWord;
    this.#send();
    for (const { stream } of this.#outboxes) stream.end();
  }

  close(): void {
    if (this.#isCloseSent || this.#isClosed) return;
    this.#isCloseSent = true;
    this.#options.transport.send(this.#bare(MESSAGE.CHANNEL_CLOSE));
    this.#endStreams();
  }

  /** The connection is gone, or both sides have closed. */
  drop(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#endStreams();
    for (const reply of this.#replies.splice(0)) reply(false);
    this.#options.closed();
  }

  /**
   * A message for this channel.
   * @throws Fault PROTOCOL_VIOLATION or SSH_INVALID
   */
  receive(number: number, reader: SshReader): void {
    switch (number) {
      case MESSAGE.CHANNEL_DATA:
        this.#receiveData(this.#inbox, reader);
        break;
      case MESSAGE.CHANNEL_EXTENDED_DATA:
        this.#receiveData(reader.u32() === STDERR ? this.#errorInbox : undefined, reader);
        break;
      case MESSAGE.CHANNEL_WINDOW_ADJUST:
        this.#receiveWindowAdjust(reader);
        break;
      case MESSAGE.CHANNEL_EOF:
        this.#receiveEof(reader);
        break;
      case MESSAGE.CHANNEL_CLOSE:
        this.#receiveClose(reader);
        break;
      case MESSAGE.CHANNEL_REQUEST:
        this.#receiveRequest(reader);
        break;
      default:
        this.#receiveReply(number === MESSAGE.CHANNEL_SUCCESS, reader);
    }
  }

  #receiveData(inbox: Inbox | undefined, reader: SshReader): void {
    const data = reader.string();
    reader.end();
    if (this.#isEofReceived) throw violation('data after the end of a channel');
    if (data.length > PACKET_BYTES || data.length > this.#receiveWindow) {
      throw violation("data beyond a channel's window");
    }
    this.#receiveWindow -= data.length;
    if (!this.#isCloseSent) inbox?.push(data);
    this.#adjustWindow();
  }

  #receiveWindowAdjust(reader: SshReader): void {
    this.#sendWindow += reader.u32();
    reader.end();
    if (this.#sendWindow > LARGEST_WINDOW) throw violation('channel window too large');
    this.#send();
  }

  #receiveEof(reader: SshReader): void {
    reader.end();
    if (this.#isEofReceived) throw violation('a channel ended twice');
    this.#isEofReceived = true;
    this.#inbox?.end();
    this.#errorInbox?.end();
  }

  #receiveClose(reader: SshReader): void {
    reader.end();
    this.close();
    this.drop();
  }

  #receiveRequest(reader: SshReader): void {
    const name = reader.text(LONGEST_NAME);
    const wantsReply = reader.boolean();
    const isGranted = this.#options.requested(name, reader);
    if (wantsReply && !this.#isCloseSent) {
      this.#options.transport.send(
        this.#bare(isGranted ? MESSAGE.CHANNEL_SUCCESS : MESSAGE.CHANNEL_FAILURE),
      );
    }
    this.#isHeld = false;
    this.#send();
  }

  #receiveReply(isGranted: boolean, reader: SshReader): void {
    reader.end();
    const reply = this.#replies.shift();
    if (reply === undefined) throw violation('an answer to no request');
    reply(isGranted);
  }

  #adjustWindow(): void {
    if (this.#isCloseSent || this.#isClosed || this.#isEofReceived) return;
    const unread = (this.#inbox?.length ?? 0) + (this.#errorInbox?.length ?? 0);
    const bytes = credit(this.#receiveWindow, unread, this.window);
    if (bytes === 0) return;
    this.#receiveWindow += bytes;
    const { transport, peer } = this.#options;
    transport.send(message(MESSAGE.CHANNEL_WINDOW_ADJUST).u32(peer.id).u32(bytes).finish());
  }

  /** Sends what waits, as far as the peer's window and the transport allow: each stream in turn. */
  #send(): void {
    if (this.#isSending) return;
    this.#isSending = true;
    for (let turn = 0; this.#mayProceed(); turn += 1) {
      const waiting = this.#outboxes.filter(({ isWaiting }) => isWaiting);
      const outbox = waiting[turn % waiting.length];
      if (outbox === undefined || !this.#maySend()) break;
      const most = Math.min(this.#sendWindow, this.#options.peer.packet, PACKET_BYTES);
      this.#sendWindow -= outbox.send(most, this.#options.transport);
    }
    this.#isSending = false;
    if (this.#mayProceed() && this.#outboxes.every(({ isEmpty }) => isEmpty)) this.#sayLast();
  }

  #mayProceed(): boolean {
    return !this.#isHeld && !this.#isCloseSent && !this.#isClosed;
  }

  #maySend(): boolean {
    if (this.#sendWindow === 0) return false;
    if (!this.#options.transport.isBusy) return true;
    if (this.#isWaiting) return false;
    this.#isWaiting = true;
    this.#options.transport.whenIdle(() => {
      this.#isWaiting = false;
      this.#send();
    });
    return false;
  }

  #sayLast(): void {
    if (this.#lastWord === undefined) return;
    this.#sendEof();
    this.#lastWord();
    this.close();
  }

  #sendEof(): void {
    if (this.#isEofSent || this.#isCloseSent || this.#isClosed) return;
    this.#isEofSent = true;
    this.#options.transport.send(this.#bare(MESSAGE.CHANNEL_EOF));
  }

  #sendRequest(name: string, wantsReply: boolean, body?: Uint8Array): void {
    const { transport, peer } = this.#options;
    const head = message(MESSAGE.CHANNEL_REQUEST).u32(peer.id).string(name).boolean(wantsReply);
    transport.send(head.finish(), body);
  }

  #endStreams(): void {
    this.#inbox?.end();
    this.#errorInbox?.end();
    for (const { stream } of this.#outboxes) stream.destroy();
  }

  /** A stream that is made after the end has one too. */
  #endAtOnce(inbox: Inbox): Inbox {
    if (this.#isEofReceived || this.#isCloseSent || this.#isClosed) inbox.end();
    return inbox;
  }

  #addOutput({ stream, outbox }: { stream: Writable; outbox: Outbox }): Writable {
    this.#outboxes.push(outbox);
    if (this.#isCloseSent || this.#isClosed) stream.destroy();
    return stream;
  }

  #ended(): void {
    const isLast = this.#outboxes.every(({ stream }) => stream.writableEnded);
    if (isLast && this.#lastWord === undefined) this.#sendEof();
  }

  #dataHead(length: number): Buffer {
    return message(MESSAGE.CHANNEL_DATA).u32(this.#options.peer.id).u32(length).finish();
  }

  #errorHead(length: number): Buffer {
    const head = message(MESSAGE.CHANNEL_EXTENDED_DATA).u32(this.#options.peer.id);
    return head.u32(STDERR).u32(length).finish();
  }

  #bare(number: number): Buffer {
    return message(number).u32(this.#options.peer.id).finish();
  }
}
