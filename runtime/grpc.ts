/** What gRPC's two sides share: definitions from descriptors, statuses from faults, streams. */
import { once } from 'node:events';
import type { Duplex, Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { DescMessage, DescService, MessageInitShape } from '@bufbuild/protobuf';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  logVerbosity,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type StatusObject,
  setLogVerbosity,
  status,
} from '@grpc/grpc-js';
import { FAULTS, Fault } from './fault.ts';

// Its own lines on stderr are no JSON, and tell of nothing that a call's status does not.
setLogVerbosity(logVerbosity.NONE);

/** Trailer that carries the fault's own code, which is finer than a gRPC status. */
export const FAULT_CODE_TRAILER = 'writ-fault-code';

/** Trailer that carries an encoded `google.rpc.Status`. */
export const STATUS_DETAILS_TRAILER = 'grpc-status-details-bin';

/** Percent-encoded it must fit, with the rest of the trailers, into 8 KiB, the least that peers take. */
const MAXIMUM_MESSAGE_BYTES = 2048;

const MAXIMUM_METADATA_BYTES = 16 * 1024;

/** The grpc-js definition of a generated service: paths, stream flags, codecs. */
export function serviceDefinition(service: DescService): ServiceDefinition {
  const entries = service.methods.map((method): [string, MethodDefinition<object, object>] => [
    method.localName,
    {
      path: `/${service.typeName}/${method.name}`,
      requestStream:
        method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
      responseStream:
        method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
      ...codec('request', method.input),
      ...codec('response', method.output),
    } as MethodDefinition<object, object>,
  ]);
  return Object.fromEntries(entries);
}

function codec(prefix: 'request' | 'response', schema: DescMessage): Record<string, unknown> {
  return {
    [`${prefix}Serialize`]: (message: object) =>
      message instanceof Encoded ? message.bytes : encode(schema, message),
    [`${prefix}Deserialize`]: (bytes: Buffer) => fromBinary(schema, bytes),
  };
}

function encode(schema: DescMessage, message: object): Buffer {
  const bytes = toBinary(schema, create(schema, message as Record<string, unknown>));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A message in the form of the wire, for what is sent to many. */
export class Encoded<S extends DescMessage> {
  readonly schema: S;
  readonly bytes: Buffer;

  constructor(schema: S, message: MessageInitShape<S>) {
    this.schema = schema;
    this.bytes = encode(schema, message);
  }
}

/** The status that tells a peer of a fault; its cause stays here. */
export function faultStatus(fault: Fault): StatusObject {
  const metadata = new Metadata();
  metadata.set(FAULT_CODE_TRAILER, fault.code);
  if (fault.details !== undefined) {
    metadata.set(STATUS_DETAILS_TRAILER, Buffer.from(fault.details));
  }
  return {
    code: status[FAULTS[fault.code].grpc],
    details: boundedText(fault.message),
    metadata,
  };
}

/** grpc-js throws on a lone surrogate, which a message that quotes untrusted text may hold. */
function boundedText(text: string): string {
  return Buffer.from(text).subarray(0, MAXIMUM_MESSAGE_BYTES).toString();
}

/** The name of a status code, `UNKNOWN` for a number that gRPC does not define. */
export function statusName(code: number): string {
  return status[code] ?? 'UNKNOWN';
}

/**
 * Writes each of `messages` to `sink`, waiting while it is full, until they end or `signal` aborts;
 * then it lets go of `messages`, without waiting for one that is on its way.
 */
export async function pump<T>(
  messages: AsyncIterable<T>,
  encode: (message: T) => Buffer,
  sink: Writable,
  signal: AbortSignal,
): Promise<void> {
  const iterator = messages[Symbol.asyncIterator]();
  let done = false;
  try {
    while (!signal.aborted) {
      const next = await untilAborted(iterator.next(), signal);
      done = next?.done === true;
      if (next === undefined || next.done === true) return;
      if (!sink.write(encode(next.value))) await drained(sink, signal);
    }
  } finally {
    // The iterator may be waiting inside next() for good, so its return() is not waited for.
    if (!done) iterator.return?.().catch(() => undefined);
  }
}

/** What `promise` gives, or undefined as soon as `signal` aborts. Leaves no listener behind. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const stop = () => resolve(undefined);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    const unlink = () => signal.removeEventListener('abort', stop);
    promise.then(resolve, reject).finally(unlink);
  });
}

async function drained(sink: Writable, signal: AbortSignal): Promise<void> {
  // Rejects when the signal aborts or the sink fails; the loop and the call's end see to both.
  await once(sink, 'drain', { signal }).catch(() => undefined);
}

/** What a client sends. Leaving the loop early leaves the call's other direction alone. */
export async function* requestsOf(
  stream: Pick<Duplex, 'iterator'>,
  signal: AbortSignal,
): AsyncGenerator<unknown> {
  try {
    yield* stream.iterator({ destroyOnReturn: false });
    // When the client cancels, HTTP/2 tells of an end first and of the reset just after.
    await setImmediate();
    signal.throwIfAborted();
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/**
 * The text of a call's metadata, keys in lower case.
 * @throws Fault RESOURCE_EXHAUSTED above 16 KiB
 */
export function textMetadata(received: Metadata): ReadonlyMap<string, readonly string[]> {
  const texts = new Map<string, readonly string[]>();
  let bytes = 0;
  for (const [name, values] of Object.entries(received.toJSON())) {
    for (const value of values) bytes += name.length + value.length;
    texts.set(
      name,
      values.filter((value) => typeof value === 'string'),
    );
  }
  if (bytes > MAXIMUM_METADATA_BYTES) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `metadata is longer than ${MAXIMUM_METADATA_BYTES} bytes`,
    );
  }
  return texts;
}
