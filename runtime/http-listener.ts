import { once } from 'node:events';
import http from 'node:http';
import { formatHostPort, type HostPort } from './config.ts';
import { Fault } from './fault.ts';

const TIMEOUT_MS = 5000;
const MAXIMUM_HEADER_BYTES = 8 * 1024;
const MAXIMUM_CONNECTIONS = 64;

const TEXT = 'text/plain; charset=utf-8';

export interface HttpAnswer {
  readonly status: number;
  readonly body: string | Uint8Array;
  /** Plain text unless told. */
  readonly type?: string;
  /** More of them, in lower case. */
  readonly headers?: Readonly<Record<string, string>>;
}

export interface HttpListenerOptions {
  /** Port 0 lets the system choose. */
  readonly listen: HostPort;
  /** What is served, for the error. */
  readonly what: string;
  /** Answers GET and HEAD; undefined: there is nothing at this path. */
  answer(path: string): HttpAnswer | undefined;
  /** Tells of bytes that are no HTTP request, or came too slowly. */
  onRefused?(): void;
}

export interface HttpListener extends AsyncDisposable {
  /** `host:port` that it listens on. */
  readonly address: string;
}

/**
 * Serves what is ready at hand, to anybody: requests are read without their bodies, and connections are
 * few and have little time.
 * @throws Fault STATE_UNUSABLE if the port is taken
 */
export async function listenHttp(options: HttpListenerOptions): Promise<HttpListener> {
  const { host, port } = options.listen;
  const server = http.createServer(
    {
      maxHeaderSize: MAXIMUM_HEADER_BYTES,
      headersTimeout: TIMEOUT_MS,
      requestTimeout: TIMEOUT_MS,
      keepAliveTimeout: TIMEOUT_MS,
      connectionsCheckingInterval: 1000,
    },
    (request, response) => respond(request, response, options),
  );
  server.on('clientError', (_error, socket) => {
    options.onRefused?.();
    const answer = 'HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n';
    if (socket.writable) socket.end(answer, () => socket.destroy());
    else socket.destroy();
  });
  server.maxConnections = MAXIMUM_CONNECTIONS;
  server.setTimeout(TIMEOUT_MS);
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? error.code : 'unknown error';
    const message = `cannot serve ${options.what} on ${formatHostPort(options.listen)}: ${reason}`;
    throw new Fault('STATE_UNUSABLE', message, { cause: error });
  }
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('not a TCP port');
  return {
    address: formatHostPort({ host: bound.address, port: bound.port }),
    async [Symbol.asyncDispose]() {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function respond(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  options: HttpListenerOptions,
): void {
  const { status, body, type = TEXT, headers: more } = answerTo(request, options);
  const headers = { ...more, 'content-type': type, 'content-length': Buffer.byteLength(body) };
  response.writeHead(status, status === 405 ? { ...headers, allow: 'GET, HEAD' } : headers);
  response.end(request.method === 'HEAD' ? undefined : body);
}

function answerTo(
  { url = '', method }: http.IncomingMessage,
  { answer }: HttpListenerOptions,
): HttpAnswer {
  const found = answer(url.split('?', 1)[0] ?? '');
  if (found === undefined) return { status: 404, body: 'not found\n' };
  const isRead = method === 'GET' || method === 'HEAD';
  return isRead ? found : { status: 405, body: 'method not allowed\n' };
}
