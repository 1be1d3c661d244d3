/**
 * A small server that speaks the HTTP API of HashiCorp Vault and OpenBao as it is documented: namespaces,
 * tokens with policies, AppRole and JWT logins, key-value engines of version 2, a database engine that
 * makes real accounts, leases. Neither of them can be had here; test/interop/vault.test.ts has the client
 * hvac judge this one.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { Socket } from 'node:net';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { type AuthMount, logInAt } from './vault-auth.ts';
import { type DatabaseOptions, FakeDatabase } from './vault-database.ts';
import { invalid, noRoute, VaultRefusal } from './vault-errors.ts';
import { FakeKv } from './vault-kv.ts';
import { FakeLeases } from './vault-leases.ts';
import { type FakeToken, FakeTokens } from './vault-tokens.ts';

export interface FakeVaultOptions {
  readonly clock?: Clock;
  /** PEM; plain HTTP without it. */
  readonly tls?: { readonly cert: string; readonly key: string };
}

/** What answers in place of the server, once for each request while it is set. */
export type Fault = (request: IncomingMessage, response: ServerResponse) => void;

/** Everything under one `X-Vault-Namespace`. */
export class FakeNamespace {
  readonly tokens: FakeTokens;
  readonly leases: FakeLeases;
  readonly #clock: Clock;
  readonly #auth = new Map<string, AuthMount>();
  readonly #kv = new Map<string, FakeKv>();
  readonly #databases = new Map<string, FakeDatabase>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.leases = new FakeLeases(clock);
    this.tokens = new FakeTokens(clock, ({ text }) => this.leases.endOf(text));
  }

  enableAuth(mount: string, method: AuthMount): void {
    this.#auth.set(mount, method);
  }

  enableKv(mount: string): FakeKv {
    const engine = new FakeKv(this.#clock);
    this.#kv.set(mount, engine);
    return engine;
  }

  enableDatabase(mount: string, options: DatabaseOptions): FakeDatabase {
    const engine = new FakeDatabase(options, this.#clock, this.leases);
    this.#databases.set(mount, engine);
    return engine;
  }

  /** Does what time asks for: a real server does it by itself. */
  async expire(): Promise<void> {
    await this.tokens.expire();
    await this.leases.expire();
    for (const engine of this.#databases.values()) await engine.expire();
  }

  async answer(asked: Asked): Promise<object | undefined> {
    const { path, body } = asked;
    const login = /^auth\/(.+)\/login$/.exec(path)?.[1];
    const method = login === undefined ? undefined : this.#auth.get(login);
    if (method !== undefined) {
      return { auth: this.tokens.describe(await logInAt(method, body, this.tokens)) };
    }
    const token = this.tokens.authorise(asked.token, path);
    if (path.startsWith('auth/token/')) return this.#ofToken(path, token, body);
    if (path.startsWith('sys/leases/')) return this.#ofLease(path, body);
    return this.#ofEngine(asked, token);
  }

  async #ofToken(path: string, token: FakeToken, body: Asked['body']): Promise<object | undefined> {
    if (path === 'auth/token/lookup-self') return { data: this.tokens.lookup(token) };
    if (path === 'auth/token/renew-self') {
      const renewed = this.tokens.renew(token, secondsOf(body.increment));
      return { auth: this.tokens.describe(renewed) };
    }
    if (path === 'auth/token/revoke-self') {
      await this.tokens.revoke(token);
      return undefined;
    }
    throw noRoute(path);
  }

  async #ofLease(path: string, body: Asked['body']): Promise<object | undefined> {
    if (path === 'sys/leases/lookup') return this.leases.lookup(body.lease_id);
    if (path === 'sys/leases/renew') {
      return await this.leases.renew(body.lease_id, secondsOf(body.increment));
    }
    if (path !== 'sys/leases/revoke') throw noRoute(path);
    await this.leases.revoke(body.lease_id);
    return undefined;
  }

  async #ofEngine(asked: Asked, token: FakeToken): Promise<object | undefined> {
    const { path } = asked;
    for (const [mount, engine] of this.#kv) {
      if (!path.startsWith(`${mount}/`)) continue;
      const data = engine.answer({ ...asked, path: path.slice(mount.length + 1) });
      return data === undefined ? undefined : { data };
    }
    for (const [mount, engine] of this.#databases) {
      if (!path.startsWith(`${mount}/`)) continue;
      return await engine.answer(mount, path.slice(mount.length + 1), token.text);
    }
    throw noRoute(path);
  }
}

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly token: string | undefined;
  readonly body: Readonly<Record<string, unknown>>;
}

export class FakeVault implements AsyncDisposable {
  /** The one without a name. */
  readonly root: FakeNamespace;
  /** `METHOD path` of all requests, in the order of their arrival. */
  readonly requests: string[] = [];
  isSealed = false;
  fault: Fault | undefined;
  readonly #clock: Clock;
  readonly #namespaces = new Map<string, FakeNamespace>();
  readonly #server: ReturnType<typeof createHttp>;
  readonly #sockets = new Set<Socket>();
  readonly #isTls: boolean;
  readonly #waiting = new Set<() => void>();
  #turn: Promise<unknown> = Promise.resolve();

  private constructor({ clock = systemClock, tls }: FakeVaultOptions) {
    this.#clock = clock;
    this.root = this.namespace('');
    this.#isTls = tls !== undefined;
    const serve = (request: IncomingMessage, response: ServerResponse) =>
      void this.#serve(request, response);
    this.#server = tls === undefined ? createHttp(serve) : createHttps(tls, serve);
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(options: FakeVaultOptions = {}): Promise<FakeVault> {
    const vault = new FakeVault(options);
    vault.#server.listen(0, '127.0.0.1');
    await once(vault.#server, 'listening');
    return vault;
  }

  get address(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const scheme = this.#isTls ? 'https' : 'http';
    return `${scheme}://${this.#isTls ? 'localhost' : '127.0.0.1'}:${address.port}`;
  }

  namespace(name: string): FakeNamespace {
    const known = this.#namespaces.get(name);
    if (known !== undefined) return known;
    const made = new FakeNamespace(this.#clock);
    this.#namespaces.set(name, made);
    return made;
  }

  countOf(request: string): number {
    return this.requests.filter((one) => one === request).length;
  }

  /** Resolves when a request has come that often; those before count. */
  async seen(request: string, times = 1): Promise<void> {
    while (this.countOf(request) < times) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
    await this.#turn;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://vault');
    const path = url.pathname.split('/').map(decodeURIComponent).join('/').replace('/v1/', '');
    const body = await readBody(request).catch(() => undefined);
    if (this.fault !== undefined) this.fault(request, response);
    else {
      // One after the other, so that what expires does so in order.
      const turn = this.#turn.then(() => this.#answer(request, { path, url, body }));
      this.#turn = turn.catch(() => undefined);
      const { status, json } = await turn;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(json === undefined ? undefined : JSON.stringify(json));
    }
    this.requests.push(`${request.method} ${path}`);
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  async #answer(
    { method = 'GET', headers }: IncomingMessage,
    { path, url, body }: { path: string; url: URL; body: Asked['body'] | undefined },
  ): Promise<{ status: number; json?: object }> {
    try {
      if (this.isSealed) throw new VaultRefusal(503, ['Vault is sealed']);
      if (path === 'sys/health') return { status: 200, json: { initialized: true, sealed: false } };
      if (body === undefined) throw invalid('error parsing JSON');
      const namespace = this.#namespaces.get(one(headers['x-vault-namespace']) ?? '');
      if (namespace === undefined) throw noRoute(path);
      await namespace.expire();
      const token = one(headers['x-vault-token']);
      const asked = { method: url.searchParams.has('list') ? 'LIST' : method, path, token, body };
      const answer = await namespace.answer({ ...asked, query: url.searchParams });
      return answer === undefined ? { status: 204 } : { status: 200, json: whole(answer) };
    } catch (error) {
      if (!(error instanceof VaultRefusal)) throw error;
      return { status: error.status, json: error.body ?? { errors: error.errors } };
    }
  }
}

/** The fields that every answer has. */
function whole(answer: object): object {
  return {
    request_id: randomUUID(),
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data: null,
    wrap_info: null,
    warnings: null,
    auth: null,
    ...answer,
  };
}

async function readBody(request: IncomingMessage): Promise<Asked['body']> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part);
  const text = Buffer.concat(parts).toString('utf8');
  return text === '' ? {} : JSON.parse(text);
}

function one(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}

/** `30`, `"30"` or `"30s"`. */
function secondsOf(value: unknown): number {
  const seconds = Number.parseInt(String(value ?? 0), 10);
  return Number.isNaN(seconds) ? 0 : seconds;
}
