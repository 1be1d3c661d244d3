/**
 * A Kubernetes API server that speaks TokenReview, pods and nodes as documented, strictly: a caller
 * without its credential, or with a request that the real one would not take, is refused.
 *
 * Source: Kubernetes API reference, authentication.k8s.io/v1 and core/v1.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { join } from 'node:path';
import { localhostCertificate, localhostKey } from '../fixtures/localhost-tls.ts';
import { temporaryDir } from '../fixtures/running-server.ts';

export interface FakePod {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly name: string;
  readonly uid: string;
  readonly nodeName: string;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface FakeNode {
  readonly name: string;
  readonly uid: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** What a token stands for. */
interface IssuedToken {
  readonly pod: FakePod;
  readonly audiences: readonly string[];
  readonly isBound: boolean;
}

type Answer = { readonly status: number; readonly body: object };

export class KubeApiServer implements AsyncDisposable {
  readonly caFile: string;
  /** Holds the credential of whoever may ask. */
  readonly tokenFile: string;
  readonly pods = new Map<string, FakePod>();
  readonly nodes = new Map<string, FakeNode>();
  readonly #tokens = new Map<string, IssuedToken>();
  readonly #credential = randomBytes(16).toString('hex');
  readonly #directory = temporaryDir();
  readonly #server: Server;

  private constructor() {
    this.caFile = join(this.#directory.path, 'ca.pem');
    this.tokenFile = join(this.#directory.path, 'token');
    writeFileSync(this.caFile, localhostCertificate);
    writeFileSync(this.tokenFile, `${this.#credential}\n`);
    const key = localhostKey.export({ type: 'pkcs8', format: 'pem' });
    this.#server = createServer({ cert: localhostCertificate, key }, (request, response) => {
      void this.#respond(request, response);
    });
  }

  /** As an authenticator that knows nothing of them: it answers with none. */
  ignoresAudiences = false;

  static async start(): Promise<KubeApiServer> {
    const server = new KubeApiServer();
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `https://127.0.0.1:${address.port}`;
  }

  /** A projected service account token of a pod. */
  token(pod: FakePod, options: { audiences?: readonly string[]; isBound?: boolean } = {}): string {
    const token = randomBytes(16).toString('base64url');
    const { audiences = ['spire-server'], isBound = true } = options;
    this.#tokens.set(token, { pod, audiences, isBound });
    return token;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
    this.#directory[Symbol.dispose]();
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    const { status, body } = this.#answer(request, Buffer.concat(parts).toString('utf8'));
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  #answer(request: IncomingMessage, text: string): Answer {
    if (request.headers.authorization !== `Bearer ${this.#credential}`)
      return failure(401, 'Unauthorized');
    const path = request.url ?? '';
    if (path === '/apis/authentication.k8s.io/v1/tokenreviews') return this.#review(request, text);
    if (request.method !== 'GET') return failure(405, 'MethodNotAllowed');
    const [, namespace, name] = /^\/api\/v1\/namespaces\/([^/]+)\/pods\/([^/]+)$/.exec(path) ?? [];
    const pod = namespace && name && this.pods.get(`${namespace}/${name}`);
    if (pod) return { status: 200, body: podObject(pod) };
    const node = this.nodes.get(/^\/api\/v1\/nodes\/([^/]+)$/.exec(path)?.[1] ?? '');
    return node === undefined ? failure(404, 'NotFound') : { status: 200, body: nodeObject(node) };
  }

  #review(request: IncomingMessage, text: string): Answer {
    if (request.method !== 'POST') return failure(405, 'MethodNotAllowed');
    if (request.headers['content-type'] !== 'application/json')
      return failure(415, 'UnsupportedMediaType');
    const review = JSON.parse(text) as Record<string, unknown>;
    const { apiVersion, kind, spec } = review;
    if (apiVersion !== 'authentication.k8s.io/v1' || kind !== 'TokenReview')
      return failure(400, 'BadRequest');
    const { token, audiences = [] } = spec as { token?: string; audiences?: string[] };
    if (!token) return failure(422, 'Invalid');
    return { status: 201, body: { apiVersion, kind, spec, status: this.#judge(token, audiences) } };
  }

  #judge(token: string, wanted: readonly string[]): object {
    const issued = this.#tokens.get(token);
    if (issued === undefined) return { user: {}, error: 'invalid bearer token' };
    const audiences = wanted.filter((one) => issued.audiences.includes(one));
    if (audiences.length === 0 && !this.ignoresAudiences)
      return { user: {}, error: 'token audiences are invalid' };
    const { namespace, serviceAccount, name, uid } = issued.pod;
    const extra = issued.isBound
      ? {
          'authentication.kubernetes.io/pod-name': [name],
          'authentication.kubernetes.io/pod-uid': [uid],
        }
      : {};
    const username = `system:serviceaccount:${namespace}:${serviceAccount}`;
    return { authenticated: true, user: { username, uid: 'sa-uid', extra }, audiences };
  }
}

function podObject({ namespace, serviceAccount, name, uid, nodeName, labels }: FakePod): object {
  return {
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: { namespace, name, uid, labels },
    spec: { serviceAccountName: serviceAccount, nodeName, containers: [] },
    status: { phase: 'Running', hostIP: '10.0.0.7', podIP: '10.1.0.3' },
  };
}

function nodeObject({ name, uid, labels }: FakeNode): object {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, uid, labels }, spec: {}, status: {} };
}

function failure(code: number, reason: string): Answer {
  const body = { apiVersion: 'v1', kind: 'Status', status: 'Failure', reason, code };
  return { status: code, body };
}
