import { sshInvalid } from './wire.ts';

/** No message is longer, as in OpenSSH's agent. */
export const MAXIMUM_AGENT_MESSAGE_BYTES = 262_144;

const LENGTH_BYTES = 4;

/**
 * Takes messages out of a byte stream that comes in pieces of any size. Memory is held for what has
 * arrived, not for what a length promises, nor for thousands of messages in one piece.
 */
export class AgentFrames {
  #bytes = Buffer.alloc(1024);
  #from = 0;
  #to = 0;

  /** How many bytes are here of messages that have not been taken. */
  get held(): number {
    return this.#to - this.#from;
  }

  /** @param bytes untrusted; take what they complete before more is added */
  add(bytes: Uint8Array): void {
    this.#bytes.copyWithin(0, this.#from, this.#to);
    this.#to -= this.#from;
    this.#from = 0;
    const length = this.#to + bytes.length;
    if (length > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * this.#bytes.length));
      this.#bytes.copy(larger, 0, 0, this.#to);
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#to);
    this.#to = length;
  }

  /**
   * The next message, in memory of its own; undefined until more bytes are added.
   * @throws Fault SSH_INVALID for an empty message, or one longer than 256 KiB: close the connection
   */
  take(): Buffer | undefined {
    if (this.held < LENGTH_BYTES) return undefined;
    const start = this.#from + LENGTH_BYTES;
    const end = start + boundedLength(this.#bytes.readUInt32BE(this.#from));
    if (end > this.#to) return undefined;
    this.#from = end;
    return Buffer.from(this.#bytes.subarray(start, end));
  }
}

function boundedLength(length: number): number {
  if (length === 0) throw sshInvalid('SSH agent request: empty');
  if (length > MAXIMUM_AGENT_MESSAGE_BYTES) {
    throw sshInvalid(`SSH agent request: longer than ${MAXIMUM_AGENT_MESSAGE_BYTES} bytes`);
  }
  return length;
}
