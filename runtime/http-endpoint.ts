import type { HostPort } from './config.ts';
import { type HttpAnswer, type HttpListener, listenHttp } from './http-listener.ts';
import type { MetricsRegistry } from './metrics.ts';

const PROMETHEUS = 'text/plain; version=0.0.4; charset=utf-8';

export interface HealthOptions {
  /** A loopback host; port 0 lets the system choose. */
  readonly listen: HostPort;
  /** True, or false or the reason why the process cannot do its work now; no secret. */
  ready(): boolean | string;
  readonly metrics: Pick<MetricsRegistry, 'render'>;
  /** Tells of bytes that are no HTTP request, or came too slowly. */
  onRefused?(): void;
}

export type HealthEndpoint = HttpListener;

/**
 * Serves a process's health over HTTP: `/` and `/ready` 200 or 503, `/live` 200, `/metrics`.
 * @throws Fault STATE_UNUSABLE if the port is taken
 */
export function serveHealth(options: HealthOptions): Promise<HealthEndpoint> {
  return listenHttp({
    listen: options.listen,
    what: 'health',
    answer: (path) => answer(path, options),
    onRefused: () => options.onRefused?.(),
  });
}

function answer(path: string, { ready, metrics }: HealthOptions): HttpAnswer | undefined {
  if (path === '/live') return { status: 200, body: 'live\n' };
  if (path === '/metrics') return { status: 200, body: metrics.render(), type: PROMETHEUS };
  if (path !== '/' && path !== '/ready') return undefined;
  const state = ready();
  if (state === true) return { status: 200, body: 'ready\n' };
  return { status: 503, body: `${state === false ? 'not ready' : state}\n` };
}
