/**
 * The server side of gRPC, over connections that somebody else has accepted and identified.
 *
 * The guard runs when a call's headers are in, before a byte of its messages is read, so that who
 * may not call costs no memory. A connection is tied to its calls through the address that grpc-js
 * reports for it, which is a name of ours (AsyncLocalStorage is lost before the handler runs).
 */
import type net from 'node:net';
import type { Writable } from 'node:stream';
import type { DescMethod, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import {
  type Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { encodeInTurns } from './encode-in-turns.ts';
import { Fault } from './fault.ts';
import {
  type Encoded,
  faultStatus,
  pump,
  requestsOf,
  serviceDefinition,
  statusName,
  textMetadata,
} from './grpc.ts';
import type { Logger } from './log.ts';
import { newRequestId } from './request-id.ts';

const DEFAULT_MAXIMUM_RECEIVE_BYTES = 4 * 1024 * 1024;
const MAXIMUM_CONCURRENT_STREAMS = 256;
const DEFAULT_TIMEOUT_MS = 10_000;
/** The client's fixed preface and the header of its SETTINGS frame. Source: RFC 9113, 3.4. */
const PREFACE_BYTES = 24 + 9;
const KEEPALIVE_MS = 15_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
const CLOSING_MS = 1000;
/** How every call ends: made once, as its stack says nothing and costs more than the rest of the end. */
const GONE = new Fault('UNAVAILABLE', 'the caller has gone');

/** One call of a method by an admitted caller. */
export interface Call<C> {
  readonly caller: C;
  /** The server's own name for the call. */
  readonly requestId: string;
  /** Path on the wire, e.g. `/spire.api.server.agent.v1.Agent/AttestAgent`. */
  readonly method: string;
  /** Text metadata, untrusted, at most 16 KiB; keys in lower case. */
  readonly metadata: ReadonlyMap<string, readonly string[]>;
  /** Aborts when the caller goes, its deadline passes or the server stops. */
  readonly signal: AbortSignal;
  /** How long the caller was willing to wait when the call came in; undefined if it did not say. */
  readonly timeoutMs?: number;
}

type Request<M extends DescMethod> = MessageShape<M['input']>;
type Response<M extends DescMethod> = MessageInitShape<M['output']>;

/** A method's implementation; what it throws becomes the call's status. */
export type Handler<M extends DescMethod, C> = M['methodKind'] extends 'unary'
  ? (request: Request<M>, call: Call<C>) => Promise<Response<M>>
  : M['methodKind'] extends 'server_streaming'
    ? (
        request: Request<M>,
        call: Call<C>,
      ) => AsyncIterable<Response<M>> | AsyncIterable<Encoded<M['output']>>
    : M['methodKind'] extends 'client_streaming'
      ? (requests: AsyncIterable<Request<M>>, call: Call<C>) => Promise<Response<M>>
      : (requests: AsyncIterable<Request<M>>, call: Call<C>) => AsyncIterable<Response<M>>;

export type Implementation<S extends DescService, C> = {
  readonly [K in keyof S['method']]: Handler<S['method'][K], C>;
};

export interface Attempt<P> {
  readonly peer: P;
  /** As the call's, if it is admitted. */
  readonly requestId: string;
  readonly method: string;
  readonly metadata: ReadonlyMap<string, readonly string[]>;
}

export interface RpcServerOptions<P, C> {
  /** Names the caller, before every call. @throws Fault to refuse it */
  guard(attempt: Attempt<P>): Promise<C> | C;
  readonly log: Logger;
  /** Of one message; 4 MiB unless told. */
  readonly maxReceiveBytes?: number;
  /** For a connection to speak HTTP/2; 10 s unless told. */
  readonly prefaceTimeoutMs?: number;
  /** From a call's headers to its first message; 10 s unless told. */
  readonly firstMessageTimeoutMs?: number;
  /** Tells each call that ended, refused ones too; `code` is a status name such as `OK`. */
  onCall?(outcome: { method: string; code: string; milliseconds: number }): void;
  /** Tells of a connection that ended before it had made a call: garbage, a scan, silence. */
  onSilentEnd?(peer: P): void;
}

interface Connection<P> {
  readonly socket: net.Socket;
  readonly peer: P;
  hasCalled: boolean;
}

/** A call between its headers and its end. */
interface Running<C> {
  readonly call: Call<C>;
  readonly controller: AbortController;
}

type AnyHandler<C> = (request: unknown, call: Call<C>) => unknown;

/** Serves gRPC services on injected connections. `P` is what a connection is, `C` who calls. */
export class RpcServer<P, C> implements AsyncDisposable {
  readonly #options: RpcServerOptions<P, C>;
  readonly #server: Server;
  readonly #injector: ReturnType<Server['createConnectionInjector']>;
  readonly #connections = new Map<string, Connection<P>>();
  /** Keyed by the metadata object, which grpc-js hands from the interceptor to the handler. */
  readonly #running = new Map<Metadata, Running<C>>();
  #connectionCount = 0;
  #stopping = false;

  constructor(options: RpcServerOptions<P, C>) {
    this.#options = options;
    this.#server = new Server({
      'grpc.enable_channelz': 0,
      'grpc.keepalive_time_ms': KEEPALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.max_concurrent_streams': MAXIMUM_CONCURRENT_STREAMS,
      'grpc.max_receive_message_length': options.maxReceiveBytes ?? DEFAULT_MAXIMUM_RECEIVE_BYTES,
      interceptors: [(method, call) => this.#intercept(method.path, call)],
    });
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
  }

  /** How many connections are held. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Offers a service; methods without an implementation answer UNIMPLEMENTED. */
  add<S extends DescService>(service: S, implementation: Partial<Implementation<S, C>>): void {
    const handlers = implementation as Record<string, AnyHandler<C> | undefined>;
    const definitions = serviceDefinition(service);
    const calls = Object.entries(definitions).map(([name, definition]) => {
      const handler = handlers[name]?.bind(implementation) ?? unimplemented(definition.path);
      return [name, this.#adapt(definition, handler)] as const;
    });
    // Messages are encoded before grpc-js sees them: it would hide why one cannot be.
    const encoded = Object.entries(definitions).map(([name, definition]) => [
      name,
      { ...definition, responseSerialize: (bytes: Buffer) => bytes },
    ]);
    this.#server.addService(Object.fromEntries(encoded), Object.fromEntries(calls));
  }

  /** Takes over one accepted connection; it is destroyed when it does not come to speak HTTP/2. */
  inject(socket: net.Socket, peer: P): void {
    socket.on('error', () => undefined);
    if (this.#stopping || socket.destroyed) {
      socket.destroy();
      return;
    }
    this.#connectionCount += 1;
    const name = `connection-${this.#connectionCount}`;
    Object.defineProperty(socket, 'remoteAddress', { value: name });
    Object.defineProperty(socket, 'remotePort', { value: undefined });
    const connection: Connection<P> = { socket, peer, hasCalled: false };
    this.#connections.set(name, connection);
    const timer = setTimeout(() => {
      if (socket.bytesRead < PREFACE_BYTES) socket.destroy();
    }, this.#options.prefaceTimeoutMs ?? DEFAULT_TIMEOUT_MS).unref();
    socket.once('close', () => {
      clearTimeout(timer);
      this.#connections.delete(name);
      if (connection.hasCalled || this.#stopping) return;
      this.#options.log.info('connection ended without a call');
      this.#options.onSilentEnd?.(peer);
    });
    this.#injector.injectConnection(socket);
  }

  /** Destroys the connections whose peer matches; their calls abort. */
  disconnect(predicate: (peer: P) => boolean): void {
    for (const { socket, peer } of this.#connections.values()) {
      if (predicate(peer)) socket.destroy();
    }
  }

  /** Takes no more calls, aborts those that run, and closes the connections within a second. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    for (const { controller } of this.#running.values()) controller.abort(stopped());
    const sockets = [...this.#connections.values()].map(({ socket }) => socket);
    const closed = sockets.map(
      (socket) => new Promise<void>((resolve) => socket.once('close', () => resolve())),
    );
    const timer = setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, CLOSING_MS);
    this.#injector.destroy();
    await Promise.all(closed);
    clearTimeout(timer);
    this.#server.forceShutdown();
  }

  #intercept(method: string, next: ServerInterceptingCallInterface): ServerInterceptingCall {
    const started = performance.now();
    const controller = new AbortController();
    let key: Metadata | undefined;
    let code: number | undefined;
    const refuse = (reason: unknown) => {
      const answer = faultStatus(this.#report(method, reason));
      code = answer.code;
      next.sendStatus(answer);
    };
    // A call that never says what it wants must not be held for ever.
    const timer = setTimeout(
      () => refuse(new Fault('INVALID_ARGUMENT', 'no message came')),
      this.#options.firstMessageTimeoutMs ?? DEFAULT_TIMEOUT_MS,
    ).unref();
    return new ServerInterceptingCall(next, {
      start: (listen) =>
        listen({
          onReceiveMessage: (message, deliver) => {
            clearTimeout(timer);
            deliver(message);
          },
          onReceiveMetadata: (metadata, deliver) => {
            key = metadata;
            this.#admit(method, metadata, next, controller).then((running) => {
              if (controller.signal.aborted) return;
              this.#running.set(metadata, running);
              deliver(metadata);
            }, refuse);
          },
          // grpc-js calls this at the end of every call, however it ended.
          onCancel: () => {
            clearTimeout(timer);
            if (key !== undefined) this.#running.delete(key);
            controller.abort(GONE);
            const milliseconds = performance.now() - started;
            const name = statusName(code ?? codeOfLost(next));
            this.#options.onCall?.({ method, code: name, milliseconds });
          },
        }),
      sendStatus: (sent, send) => {
        code = sent.code ?? status.UNKNOWN;
        send(sent);
      },
    });
  }

  async #admit(
    method: string,
    received: Metadata,
    next: ServerInterceptingCallInterface,
    controller: AbortController,
  ): Promise<Running<C>> {
    if (this.#stopping) throw stopped();
    const connection = this.#connections.get(next.getPeer());
    if (connection === undefined) throw new Fault('UNAVAILABLE', 'the connection is closing');
    connection.hasCalled = true;
    const { peer } = connection;
    const metadata = textMetadata(received);
    const requestId = newRequestId();
    const caller = await this.#options.guard({ peer, requestId, method, metadata });
    if (this.#stopping) throw stopped();
    const { signal } = controller;
    const call = { caller, requestId, method, metadata, signal, ...timeoutOf(next) };
    return { call, controller };
  }

  /** A grpc-js handler that runs ours for an admitted call. */
  #adapt(definition: MethodDefinition<object, object>, handler: AnyHandler<C>): UntypedHandleCall {
    const encode = definition.responseSerialize;
    if (definition.responseStream) {
      return (
        stream: ServerWritableStream<object, Buffer> | ServerDuplexStream<object, Buffer>,
      ) => {
        const call = this.#callOf(stream.metadata);
        const request = 'request' in stream ? stream.request : requestsOf(stream, call.signal);
        void this.#stream(() => handler(request, call), encode, stream, call);
      };
    }
    return (
      received: ServerUnaryCall<object, Buffer> | ServerReadableStream<object, Buffer>,
      done: sendUnaryData<Buffer>,
    ) => {
      const call = this.#callOf(received.metadata);
      const request = 'request' in received ? received.request : requestsOf(received, call.signal);
      void this.#answer(() => handler(request, call), encode, done, call);
    };
  }

  async #answer(
    run: () => unknown,
    encode: (message: object) => Buffer,
    done: sendUnaryData<Buffer>,
    { method, signal }: Call<C>,
  ): Promise<void> {
    try {
      done(null, await encodeInTurns((await run()) as object, encode));
    } catch (error) {
      done(faultStatus(this.#report(method, error, signal)));
    }
  }

  async #stream(
    run: () => unknown,
    encode: (message: object) => Buffer,
    stream: Writable,
    { method, signal }: Call<C>,
  ): Promise<void> {
    try {
      await pump(run() as AsyncIterable<object>, encode, stream, signal);
      signal.throwIfAborted();
      stream.end();
    } catch (error) {
      stream.emit('error', faultStatus(this.#report(method, error, signal)));
    }
  }

  /** The fault for the peer, logged with its cause. What an aborted call throws tells nothing. */
  #report(method: string, reason: unknown, signal?: AbortSignal): Fault {
    if (signal?.aborted === true) return Fault.from(signal.reason);
    const fault = Fault.from(reason);
    const { log } = this.#options;
    if (fault.code === 'INTERNAL') log.error({ method, err: fault }, 'A call failed on a defect');
    else log.info({ method, code: fault.code, err: fault }, 'A call was refused');
    return fault;
  }

  #callOf(metadata: Metadata): Call<C> {
    const running = this.#running.get(metadata);
    if (running === undefined) throw new Error('a call reached its handler unadmitted');
    return running.call;
  }
}

function timeoutOf(call: ServerInterceptingCallInterface): Pick<Call<unknown>, 'timeoutMs'> {
  const timeoutMs = Number(call.getDeadline()) - Date.now();
  return Number.isFinite(timeoutMs) ? { timeoutMs } : {};
}

/** Ended by grpc-js itself, without a status of ours. */
function codeOfLost(call: ServerInterceptingCallInterface): number {
  const late = Number(call.getDeadline()) <= Date.now();
  return late ? status.DEADLINE_EXCEEDED : status.CANCELLED;
}

function unimplemented(path: string): () => never {
  return () => {
    throw new Fault('UNIMPLEMENTED', `this server does not offer ${path}`);
  };
}

function stopped(): Fault {
  return new Fault('UNAVAILABLE', 'the server is stopping');
}
