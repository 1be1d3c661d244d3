import { Duplex, Readable, Writable } from 'node:stream';

/** A reader that does not read gets no more than this at once; the rest waits in few pieces. */
const AHEAD_BYTES = 8192;
const PIECE_BYTES = 32 * 1024;

/** What stands before so many bytes of data in a message. */
export type MessageHead = (length: number) => Buffer;

/** What a channel does as its streams are used. */
export interface InputUse {
  /** The reader wants more, or has given up. */
  wanted(): void;
}

export interface OutputUse {
  /** Something waits in the outbox. */
  wrote(): void;
  /** Nothing more is written. */
  ended(): void;
  /** The stream was destroyed before its end. */
  abandoned(): void;
}

/** A stream of what the peer sends. It emits no error. */
export function inputStream(use: InputUse): { stream: Readable; inbox: Inbox } {
  const stream = new Readable({
    highWaterMark: AHEAD_BYTES,
    read: () => {
      inbox.feed();
      use.wanted();
    },
  });
  const inbox = new Inbox(stream);
  stream.on('error', ignore);
  stream.on('close', () => use.wanted());
  return { stream, inbox };
}

/** A stream for the peer. It emits no error. */
export function outputStream(
  head: MessageHead,
  use: OutputUse,
): { stream: Writable; outbox: Outbox } {
  const stream = new Writable({
    highWaterMark: PIECE_BYTES,
    ...writes(() => outbox, use),
    destroy: (error, done) => {
      if (!stream.writableFinished) use.abandoned();
      done(error);
    },
  });
  const outbox = new Outbox(stream, head);
  stream.on('error', ignore);
  return { stream, outbox };
}

/** Both in one, abandoned as soon as it is destroyed: an end that is told twice does no harm. */
export function duplexStream(
  head: MessageHead,
  use: InputUse & OutputUse,
): { stream: Duplex; inbox: Inbox; outbox: Outbox } {
  const stream = new Duplex({
    readableHighWaterMark: AHEAD_BYTES,
    writableHighWaterMark: PIECE_BYTES,
    read: () => {
      inbox.feed();
      use.wanted();
    },
    ...writes(() => outbox, use),
    destroy: (error, done) => {
      use.abandoned();
      done(error);
    },
  });
  const [inbox, outbox] = [new Inbox(stream), new Outbox(stream, head)];
  stream.on('error', ignore);
  return { stream, inbox, outbox };
}

function writes(outbox: () => Outbox, use: OutputUse) {
  return {
    write: (bytes: Buffer, _: BufferEncoding, done: () => void) => {
      outbox().put(bytes, done);
      use.wrote();
    },
    final: (done: () => void) => {
      use.ended();
      done();
    },
  };
}

/** Without a listener an error would end the process; the channel itself tells of its end. */
function ignore(): void {}

/**
 * What came from the peer and waits for its reader. A stopped reader costs as many bytes as the window
 * has, however small the packets are that they come in.
 */
export class Inbox {
  readonly #stream: Readable;
  readonly #pieces: Buffer[] = [];
  #last: { readonly bytes: Buffer; used: number } | undefined;
  #waiting = 0;
  #isEnded = false;

  constructor(stream: Readable) {
    this.#stream = stream;
  }

  /** Bytes that are not read yet. */
  get length(): number {
    return this.#stream.destroyed ? 0 : this.#stream.readableLength + this.#waiting;
  }

  push(bytes: Buffer): void {
    if (this.#stream.destroyed || this.#isEnded || bytes.length === 0) return;
    if (this.#waiting === 0 && this.#stream.readableLength < AHEAD_BYTES) this.#stream.push(bytes);
    else this.#keep(bytes);
  }

  /** Nothing more comes; what waits is still delivered. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    if (this.#waiting === 0) this.#stream.push(null);
  }

  /** The reader asks for more. */
  feed(): void {
    if (this.#waiting === 0) return;
    const piece = this.#pieces.shift() ?? this.#takeLast();
    this.#waiting -= piece.length;
    this.#stream.push(piece);
    if (this.#waiting === 0 && this.#isEnded) this.#stream.push(null);
  }

  #keep(bytes: Buffer): void {
    this.#waiting += bytes.length;
    for (let rest = bytes; rest.length > 0; ) {
      this.#last ??= { bytes: Buffer.allocUnsafeSlow(PIECE_BYTES), used: 0 };
      const copied = rest.copy(this.#last.bytes, this.#last.used);
      this.#last.used += copied;
      rest = rest.subarray(copied);
      if (this.#last.used === PIECE_BYTES) this.#pieces.push(this.#takeLast());
    }
  }

  #takeLast(): Buffer {
    const last = this.#last;
    this.#last = undefined;
    return last === undefined ? Buffer.alloc(0) : last.bytes.subarray(0, last.used);
  }
}

/**
 * How many bytes a peer may send on, now that all but `unread` of what it sent was read.
 * @param window what is left of `whole`
 */
export function credit(window: number, unread: number, whole: number): number {
  const read = whole - window - unread;
  return read >= whole / 2 || window < whole / 32 ? Math.max(read, 0) : 0;
}

/** What waits to be sent to the peer of one stream: one piece at a time, as a stream hands them out. */
export class Outbox {
  readonly stream: Writable;
  readonly #head: MessageHead;
  #rest: Buffer | undefined;
  #done: (() => void) | undefined;
  #isDiscarding = false;

  constructor(stream: Writable, head: MessageHead) {
    this.stream = stream;
    this.#head = head;
  }

  get isWaiting(): boolean {
    return this.#rest !== undefined;
  }

  /** Whether all that was written is sent. */
  get isEmpty(): boolean {
    return this.stream.writableLength === 0;
  }

  put(bytes: Buffer, done: () => void): void {
    if (this.#isDiscarding) {
      done();
      return;
    }
    this.#rest = bytes;
    this.#done = done;
  }

  /** Sends nothing more. */
  discard(): void {
    this.#isDiscarding = true;
    this.#sent();
  }

  /** Sends the next bytes, at most so many. */
  send(most: number, transport: { send(head: Uint8Array, body: Uint8Array): void }): number {
    const rest = this.#rest;
    if (rest === undefined) return 0;
    const part = rest.subarray(0, most);
    transport.send(this.#head(part.length), part);
    if (part.length < rest.length) {
      this.#rest = rest.subarray(part.length);
      return part.length;
    }
    this.#sent();
    return part.length;
  }

  #sent(): void {
    const done = this.#done;
    this.#rest = undefined;
    this.#done = undefined;
    done?.();
  }
}
