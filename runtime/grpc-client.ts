import type { KeyObject } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import type { DescMethod, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import {
  type ChannelCredentials,
  type ChannelOptions,
  type ClientReadableStream,
  credentials,
  type CallOptions as GrpcCallOptions,
  Client as GrpcClient,
  Metadata,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { FAULTS, type FaultCode } from './fault.ts';
import {
  FAULT_CODE_TRAILER,
  pump,
  STATUS_DETAILS_TRAILER,
  serviceDefinition,
  statusName,
} from './grpc.ts';

const UNARY_TIMEOUT_MS = 10_000;
/** A peer that answers no ping is dead: noticed within their sum. */
const KEEPALIVE_MS = 5000;
const KEEPALIVE_TIMEOUT_MS = 4000;
const FIRST_RECONNECT_MS = 200;
const MAXIMUM_RECONNECT_MS = 5000;
/** What a server's certificate is checked by is its SPIFFE ID; TLS wants a name when there is none. */
const NAME_OF_ADDRESS = 'spire-server';

/** How a call failed: the status that came over the wire, or that gRPC made here. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  /** E.g. `NOT_FOUND`. */
  readonly status: string;
  /** The server's fault, if it is one of Writ's. */
  readonly faultCode: FaultCode | undefined;
  /** An encoded `google.rpc.Status`, untrusted. */
  readonly details: Uint8Array | undefined;

  constructor(
    status: string,
    message: string,
    options?: {
      cause?: unknown;
      faultCode?: FaultCode | undefined;
      details?: Uint8Array | undefined;
    },
  ) {
    super(message, options);
    this.status = status;
    this.faultCode = options?.faultCode;
    this.details = options?.details;
  }
}

export interface CallOptions {
  /** Cancels the call; it then fails with status CANCELLED. */
  readonly signal: AbortSignal;
  /** Until the whole call has ended. 10 s for a unary call unless told, none for a stream. */
  readonly timeoutMs?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

type Response<M extends DescMethod> = MessageShape<M['output']>;
type Request<M extends DescMethod> = MessageInitShape<M['input']>;

type ClientMethod<M extends DescMethod> = M['methodKind'] extends 'unary'
  ? (request: Request<M>, options: CallOptions) => Promise<Response<M>>
  : M['methodKind'] extends 'server_streaming'
    ? (request: Request<M>, options: CallOptions) => AsyncIterable<Response<M>>
    : M['methodKind'] extends 'bidi_streaming'
      ? (requests: AsyncIterable<Request<M>>, options: CallOptions) => AsyncIterable<Response<M>>
      : never;

/**
 * A service's methods. A stream's call starts when its iteration does, and is cancelled when that
 * is left early. All fail with `RpcError`; an error of the requests' iterable is thrown as it is.
 */
export type Client<S extends DescService> = {
  readonly [K in keyof S['method']]: ClientMethod<S['method'][K]>;
};

export interface TlsClientOptions {
  /** PEM certificates that the server's chain must end at. */
  readonly ca: readonly string[];
  /** PEM chain, leaf first; goes with `key`. */
  readonly cert?: string;
  readonly key?: KeyObject;
  /** Runs once the chain has been checked; `certificate` links to its issuers. */
  checkServerIdentity(host: string, certificate: tls.PeerCertificate): Error | undefined;
}

/** One connection to a server, made when the first call needs it and made again when it breaks. */
export class RpcChannel implements AsyncDisposable {
  readonly #grpc: GrpcClient;
  readonly #cancels = new Set<() => void>();
  readonly #clients = new Map<DescService, unknown>();
  #closed = false;

  private constructor(target: string, creds: ChannelCredentials, options: ChannelOptions) {
    this.#grpc = new GrpcClient(target, creds, {
      'grpc.enable_channelz': 0,
      'grpc.enable_http_proxy': 0,
      'grpc.enable_retries': 0,
      'grpc.initial_reconnect_backoff_ms': FIRST_RECONNECT_MS,
      'grpc.max_reconnect_backoff_ms': MAXIMUM_RECONNECT_MS,
      'grpc.service_config_disable_resolution': 1,
      'grpc.use_local_subchannel_pool': 1,
      ...options,
    });
  }

  static unix(path: string): RpcChannel {
    return new RpcChannel(`unix:${path}`, credentials.createInsecure(), {});
  }

  /**
   * Over TLS 1.3 alone.
   * @param address `host:port`
   * @param maximumReconnectMs the longest wait between two attempts to connect
   */
  static tls(
    address: string,
    options: TlsClientOptions,
    maximumReconnectMs = MAXIMUM_RECONNECT_MS,
  ): RpcChannel {
    const { ca, cert, key } = options;
    const context = tls.createSecureContext({
      ca: [...ca],
      ...(cert !== undefined && key !== undefined
        ? { cert, key: key.export({ type: 'pkcs8', format: 'pem' }) }
        : {}),
      minVersion: 'TLSv1.3',
    });
    const checked = credentials.createFromSecureContext(context, {
      checkServerIdentity: (host, certificate) => options.checkServerIdentity(host, certificate),
      // Left out, NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment would take any server.
      rejectUnauthorized: true,
    });
    return new RpcChannel(`dns:${address}`, checked, {
      ...tlsChannelOptions(address),
      'grpc.max_reconnect_backoff_ms': maximumReconnectMs,
    });
  }

  /** Accepts any server: only to fetch what is proven otherwise, such as a bundle by its pin. */
  static unverifiedTls(address: string): RpcChannel {
    const context = tls.createSecureContext({ minVersion: 'TLSv1.3' });
    const unchecked = credentials.createFromSecureContext(context, { rejectUnauthorized: false });
    return new RpcChannel(`dns:${address}`, unchecked, tlsChannelOptions(address));
  }

  client<S extends DescService>(service: S): Client<S> {
    const client = this.#clients.get(service) ?? this.#newClient(service);
    this.#clients.set(service, client);
    return client as Client<S>;
  }

  #newClient(service: DescService): unknown {
    const methods = Object.entries(serviceDefinition(service)).map(([name, definition]) => [
      name,
      this.#method(definition),
    ]);
    return Object.fromEntries(methods);
  }

  /** Cancels the calls that run and closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const cancel of this.#cancels) cancel();
    this.#grpc.close();
  }

  #method(definition: MethodDefinition<object, object>): unknown {
    if (!definition.responseStream) {
      return (request: object, options: CallOptions) => this.#unary(definition, request, options);
    }
    return definition.requestStream
      ? (requests: AsyncIterable<object>, options: CallOptions) =>
          this.#bidi(definition, requests, options)
      : (request: object, options: CallOptions) => this.#serverStream(definition, request, options);
  }

  #unary(
    { path, requestSerialize, responseDeserialize }: MethodDefinition<object, object>,
    request: object,
    { signal, timeoutMs = UNARY_TIMEOUT_MS, metadata }: CallOptions,
  ): Promise<object> {
    return new Promise((resolve, reject) => {
      this.#mustBegin(signal);
      const call = this.#grpc.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadataOf(metadata),
        deadlineAfter(timeoutMs),
        (error, response) => {
          unlink();
          if (error !== null) reject(rpcError(error));
          else if (response === undefined) reject(new RpcError('INTERNAL', 'no message received'));
          else resolve(response);
        },
      );
      const unlink = this.#link(call, signal);
    });
  }

  async *#serverStream(
    { path, requestSerialize, responseDeserialize }: MethodDefinition<object, object>,
    request: object,
    { signal, timeoutMs, metadata }: CallOptions,
  ): AsyncGenerator<object> {
    this.#mustBegin(signal);
    const call = this.#grpc.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadataOf(metadata),
      deadlineAfter(timeoutMs),
    );
    yield* this.#responses(call, signal);
  }

  async *#bidi(
    { path, requestSerialize, responseDeserialize }: MethodDefinition<object, object>,
    requests: AsyncIterable<object>,
    { signal, timeoutMs, metadata }: CallOptions,
  ): AsyncGenerator<object> {
    this.#mustBegin(signal);
    const call = this.#grpc.makeBidiStreamRequest(
      path,
      (bytes: Buffer) => bytes,
      responseDeserialize,
      metadataOf(metadata),
      deadlineAfter(timeoutMs),
    );
    const ended = new AbortController();
    let failure: { reason: unknown } | undefined;
    pump(requests, requestSerialize, call, ended.signal).then(
      () => call.end(),
      (reason: unknown) => {
        failure = { reason };
        call.cancel();
      },
    );
    try {
      yield* this.#responses(call, signal);
    } catch (error) {
      throw failure === undefined ? error : failure.reason;
    } finally {
      ended.abort();
    }
  }

  async *#responses(
    call: ClientReadableStream<object>,
    signal: AbortSignal,
  ): AsyncGenerator<object> {
    const unlink = this.#link(call, signal);
    // The status of a call that nobody iterates any more still arrives as an error event.
    call.on('error', () => undefined);
    try {
      for await (const response of call) yield response as object;
    } catch (error) {
      throw rpcError(error);
    } finally {
      unlink();
      call.cancel();
    }
  }

  #mustBegin(signal: AbortSignal): void {
    if (signal.aborted) throw new RpcError('CANCELLED', 'cancelled before it began');
    if (this.#closed) throw new RpcError('CANCELLED', 'the channel is closed');
  }

  /** Ties a call to its signal and the channel's end, until the function returned is called. */
  #link(call: { cancel(): void }, signal: AbortSignal): () => void {
    const cancel = () => call.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    this.#cancels.add(cancel);
    return () => {
      signal.removeEventListener('abort', cancel);
      this.#cancels.delete(cancel);
    };
  }
}

function tlsChannelOptions(address: string): ChannelOptions {
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
  return {
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    ...(net.isIP(host) === 0 ? {} : { 'grpc.ssl_target_name_override': NAME_OF_ADDRESS }),
  };
}

function metadataOf(texts: Readonly<Record<string, string>> | undefined): Metadata {
  const metadata = new Metadata();
  for (const [name, text] of Object.entries(texts ?? {})) metadata.set(name, text);
  return metadata;
}

function deadlineAfter(timeoutMs: number | undefined): GrpcCallOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

function rpcError(reason: unknown): RpcError {
  if (!isServiceError(reason)) return new RpcError('UNKNOWN', 'call failed', { cause: reason });
  const faultCode = reason.metadata.get(FAULT_CODE_TRAILER)[0];
  const details = reason.metadata.get(STATUS_DETAILS_TRAILER)[0];
  return new RpcError(statusName(reason.code), reason.details, {
    cause: reason,
    faultCode: isFaultCode(faultCode) ? faultCode : undefined,
    details: details instanceof Uint8Array ? details : undefined,
  });
}

function isServiceError(reason: unknown): reason is ServiceError {
  return reason instanceof Error && 'code' in reason && 'metadata' in reason;
}

function isFaultCode(value: unknown): value is FaultCode {
  return typeof value === 'string' && Object.hasOwn(FAULTS, value);
}
