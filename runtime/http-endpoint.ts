import { once } from 'node:events';
import http from 'node:http';
import { formatHostPort, type HostPort } from './config.ts';
import { Fault } from './fault.ts';
import type { MetricsRegistry } from './metrics.ts';

const TIMEOUT_MS = 5000;
const MAXIMUM_HEADER_BYTES = 8 * 1024;
const MAXIMUM_CONNECTIONS = 64;

const TEXT = 'text/plain; charset=utf-8';
const PROMETHEUS = 'text/plain; version=0.0.4; charset=utf-8';

export interface HealthOptions {
  /** A loopback host; port 0 lets the system choose. */
  readonly listen: HostPort;
  /** True, or false or the reason why the process cannot do its work now; no secret. */
  ready(): boolean | string;
  readonly metrics: MetricsRegistry;
  /** Tells of bytes that are no HTTP request, or came too slowly. */
  onRefused?(): void;
}

export interface HealthEndpoint extends AsyncDisposable {
  /** `host:port` that it listens on. */
  readonly address: string;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

/**
 * Serves a process's health over HTTP: `/` and `/ready` 200 or 503, `/live` 200, `/metrics`.
 * @throws Fault STATE_UNUSABLE if the port is taken
 */
export async function serveHealth(options: HealthOptions): Promise<HealthEndpoint> {
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
    const message = `cannot serve health on ${formatHostPort(options.listen)}: ${reason}`;
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
  options: HealthOptions,
): void {
  const { status, body, type = TEXT } = answer(request, options);
  const headers = { 'content-type': type, 'content-length': Buffer.byteLength(body) };
  response.writeHead(status, status === 405 ? { ...headers, allow: 'GET, HEAD' } : headers);
  response.end(request.method === 'HEAD' ? undefined : body);
}

function answer(request: http.IncomingMessage, { ready, metrics }: HealthOptions): Answer {
  const path = request.url?.split('?', 1)[0];
  const known = ['/', '/ready', '/live', '/metrics'].includes(path ?? '');
  if (!known) return { status: 404, body: 'not found\n' };
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { status: 405, body: 'method not allowed\n' };
  }
  if (path === '/live') return { status: 200, body: 'live\n' };
  if (path === '/metrics') return { status: 200, body: metrics.render(), type: PROMETHEUS };
  const state = ready();
  if (state === true) return { status: 200, body: 'ready\n' };
  return { status: 503, body: `${state === false ? 'not ready' : state}\n` };
}
