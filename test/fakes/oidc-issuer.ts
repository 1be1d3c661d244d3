/**
 * An OpenID Connect issuer over https: metadata, keys, and the endpoint by which a GitHub job mints its
 * tokens. What it signs is made by jose.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose';
import { localhostCertificate, localhostKey } from '../fixtures/localhost-tls.ts';
import { temporaryDir } from '../fixtures/running-server.ts';

export interface MintOptions {
  /** RS256 unless told. */
  readonly alg?: string;
  readonly header?: object;
  /** Of the key to sign with; the newest unless told. */
  readonly keyId?: string;
}

interface IssuerKey {
  readonly jwk: JWK;
  readonly alg: string;
  readonly privateKey: CryptoKey;
}

export class OidcIssuer implements AsyncDisposable {
  /** PEM that proves its web server. */
  readonly caFile: string;
  /** Paths that were asked for. */
  readonly asked: string[] = [];
  /** What its tokens say beside `iss`, `aud`, times and `jti`. */
  claims: JWTPayload = {};
  /** Answers each path in its place, until it is undefined again. */
  override: ((response: ServerResponse) => void) | undefined;
  /** What a job shows to have a token minted, and what it is counted from. */
  readonly requestToken = randomBytes(16).toString('hex');
  now = () => new Date();
  readonly #server: Server;
  readonly #directory = temporaryDir();
  readonly #keys = new Map<string, IssuerKey>();

  private constructor() {
    this.caFile = join(this.#directory.path, 'ca.pem');
    writeFileSync(this.caFile, localhostCertificate);
    const key = localhostKey.export({ type: 'pkcs8', format: 'pem' });
    this.#server = createServer({ cert: localhostCertificate, key }, (request, response) => {
      void this.#answer(request, response);
    });
  }

  static async start(): Promise<OidcIssuer> {
    const issuer = new OidcIssuer();
    issuer.#server.listen(0, '127.0.0.1');
    await once(issuer.#server, 'listening');
    await issuer.addKey();
    return issuer;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `https://127.0.0.1:${address.port}`;
  }

  /** What GitHub sets for a job that may mint tokens. */
  get githubEnvironment(): { readonly [name: string]: string } {
    return {
      ACTIONS_ID_TOKEN_REQUEST_URL: `${this.url}/mint?api-version=2.0`,
      ACTIONS_ID_TOKEN_REQUEST_TOKEN: this.requestToken,
    };
  }

  /** A new key, which the next tokens of its algorithm are signed with. Resolves with its id. */
  async addKey(alg = 'RS256', isPublished = true): Promise<string> {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
    const kid = randomUUID();
    const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' };
    this.#keys.set(kid, { jwk: isPublished ? jwk : {}, alg, privateKey });
    return kid;
  }

  removeKey(keyId: string): void {
    this.#keys.delete(keyId);
  }

  /** @param claims beside and in place of the usual ones; undefined leaves one out */
  async mint(
    audience: string | string[],
    claims: object = {},
    options: MintOptions = {},
  ): Promise<string> {
    const seconds = Math.floor(this.now().getTime() / 1000);
    const { alg = 'RS256', header = {} } = options;
    const [keyId, key] = this.#keyFor(alg, options.keyId);
    const payload = {
      ...{ iss: this.url, aud: audience, jti: randomUUID() },
      ...{ iat: seconds, nbf: seconds, exp: seconds + 300 },
      ...this.claims,
      ...claims,
    };
    return await new SignJWT(payload)
      .setProtectedHeader({ alg, kid: keyId, typ: 'JWT', ...header })
      .sign(key.privateKey);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
    this.#directory[Symbol.dispose]();
  }

  #keyFor(alg: string, keyId: string | undefined): [string, IssuerKey] {
    const found = [...this.#keys].filter(([id, key]) =>
      keyId === undefined ? key.alg === alg : id === keyId,
    );
    const last = found.at(-1);
    if (last === undefined) throw new Error(`no key of ${keyId ?? alg}`);
    return last;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    this.asked.push(url.pathname);
    if (this.override !== undefined) {
      this.override(response);
      return;
    }
    const send = (status: number, body: object) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (url.pathname === '/.well-known/openid-configuration')
      send(200, { issuer: this.url, jwks_uri: `${this.url}/keys` });
    else if (url.pathname === '/keys')
      send(200, { keys: [...this.#keys.values()].flatMap(({ jwk }) => (jwk.kid ? [jwk] : [])) });
    else if (url.pathname !== '/mint') send(404, {});
    else if (request.headers.authorization !== `Bearer ${this.requestToken}`) send(401, {});
    else send(200, { value: await this.mint(url.searchParams.get('audience') ?? this.url) });
  }
}
