/**
 * Checks a session's record as it is read: every frame in its place, every segment's hash and signature,
 * the chain from one segment to the next, and the end that the server was told. What the gateway sends
 * is untrusted; the key that it registered is not.
 */
import { createHash, createPublicKey, type Hash, verify } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type RecordedEvent,
  type RecordedFrame,
  RecordedFrameSchema,
  type SegmentHead,
  type SegmentSeal,
} from '../../proto/gen/writ/gateway/v1/recording_pb.ts';

/** What the server knows of a record without reading it. */
export interface RecordingFacts {
  readonly sessionId: string;
  /** The gateway's raw Ed25519 public key. */
  readonly recordingKey: Uint8Array | undefined;
  /** The last seal's hash as the gateway told it when the session closed. */
  readonly lastHash: Uint8Array | undefined;
}

/** How the check ended; `open` is a record that is not sealed yet and without fault so far. */
export interface RecordingVerdict {
  readonly state: 'verified' | 'open' | 'broken';
  readonly detail: string;
}

/**
 * Yields the events of a record and returns the verdict; the events before a break are yielded, none
 * after it. What stands before its seal has been read is unproven until the verdict.
 * @param frames the record's frames in order; untrusted
 */
export async function* verifyRecording(
  frames: AsyncIterable<Uint8Array>,
  facts: RecordingFacts,
): AsyncGenerator<RecordedEvent, RecordingVerdict> {
  const chain = new SegmentChain(facts);
  for await (const bytes of frames) {
    const taken = chain.take(bytes);
    if (typeof taken === 'string') return { state: 'broken', detail: taken };
    if (taken !== undefined) yield taken;
  }
  return chain.end();
}

const SIGNED_PREFIX = Buffer.from('writ-recording-v1');
const BEFORE_THE_FIRST = new Uint8Array(32);

/** Where in the chain of segments the reading stands. A string that a method returns is the break. */
class SegmentChain {
  readonly #facts: RecordingFacts;
  /** Over the frames of the segment that is open. */
  #hash: Hash | undefined;
  #segments = 0;
  #events = 0n;
  #lastSeal: Uint8Array = BEFORE_THE_FIRST;

  constructor(facts: RecordingFacts) {
    this.#facts = facts;
  }

  take(bytes: Uint8Array): RecordedEvent | string | undefined {
    const frame = parse(bytes)?.frame;
    switch (frame?.case) {
      case 'head':
        return this.#open(frame.value, bytes);
      case 'event':
        return this.#event(frame.value, bytes);
      case 'seal':
        return this.#seal(frame.value, bytes);
      default:
        return this.#broken('a frame cannot be read');
    }
  }

  end(): RecordingVerdict {
    const { lastHash } = this.#facts;
    const sealed = this.#hash === undefined && this.#segments > 0;
    if (lastHash !== undefined && !(sealed && same(this.#lastSeal, lastHash))) {
      return { state: 'broken', detail: 'the record does not end where the session ended' };
    }
    if (!sealed) return { state: 'open', detail: 'the last segment is not sealed' };
    return { state: 'verified', detail: `${this.#segments} segments, ${this.#events} events` };
  }

  #open(head: SegmentHead, bytes: Uint8Array): string | undefined {
    const { sessionId, recordingKey } = this.#facts;
    if (this.#hash !== undefined) return this.#broken('a segment begins before the last is sealed');
    if (head.sessionId !== sessionId) return this.#broken('the segment is of another session');
    if (head.segment !== this.#segments) return this.#broken('segments are missing or moved');
    if (!same(head.previousHash, this.#lastSeal)) {
      return this.#broken('it does not follow from the segment before');
    }
    if (recordingKey === undefined || !same(head.keyId, sha256(recordingKey))) {
      return this.#broken("it is signed with another key than the gateway's");
    }
    this.#hash = createHash('sha256');
    this.#add(bytes);
    return undefined;
  }

  #event(event: RecordedEvent, bytes: Uint8Array): RecordedEvent | string {
    if (this.#hash === undefined) return this.#broken('an event stands outside a segment');
    if (event.index !== this.#events) return this.#broken('events are missing or moved');
    this.#events += 1n;
    this.#add(bytes);
    return event;
  }

  #seal(seal: SegmentSeal, bytes: Uint8Array): string | undefined {
    const hash = this.#hash?.digest();
    if (hash === undefined) return this.#broken('a seal stands outside a segment');
    if (!same(bytes, sealBytes(seal))) return this.#broken('its seal says more than a seal');
    if (!same(seal.hash, hash)) return this.#broken('its content is not what was sealed');
    if (!this.#isSigned(seal)) return this.#broken('its signature does not verify');
    this.#hash = undefined;
    this.#lastSeal = hash;
    this.#segments += 1;
    return undefined;
  }

  #isSigned({ hash, signature }: SegmentSeal): boolean {
    const { recordingKey } = this.#facts;
    if (recordingKey === undefined) return false;
    const x = Buffer.from(recordingKey).toString('base64url');
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
    return verify(null, Buffer.concat([SIGNED_PREFIX, hash]), key, signature);
  }

  #add(bytes: Uint8Array): void {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    this.#hash?.update(length).update(bytes);
  }

  #broken(what: string): string {
    return `segment ${this.#segments}, before event ${this.#events}: ${what}`;
  }
}

function parse(bytes: Uint8Array): RecordedFrame | undefined {
  try {
    return fromBinary(RecordedFrameSchema, bytes);
  } catch {
    return undefined;
  }
}

/** A seal is not part of what it seals, so that its bytes must be these and no others. */
function sealBytes({ hash, signature }: SegmentSeal): Uint8Array {
  const frame = { case: 'seal', value: { hash, signature } } as const;
  return toBinary(RecordedFrameSchema, create(RecordedFrameSchema, { frame }));
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}
