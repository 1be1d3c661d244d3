/**
 * Requests to a HashiCorp Vault or OpenBao server: TLS proved by the configured authorities alone, no
 * redirect, every answer bounded in bytes and time.
 *
 * Nothing of an answer goes into an error but its status and, of its own words, those of a closed list:
 * what a server says may hold what it was asked to keep.
 *
 * Source: Vault HTTP API, "Overview".
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { VaultServer } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';

const TIMEOUT_MS = 10_000;
const MOST_BYTES = 256 * 1024;
const UTF8 = new TextDecoder('utf-8', { fatal: true });
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

export interface VaultRequest {
  readonly method: 'GET' | 'POST';
  /** Below /v1/, e.g. `secret/data/db/shop`; each segment is encoded here. */
  readonly path: string;
  readonly token?: string;
  readonly body?: Readonly<Record<string, unknown>>;
  readonly signal: AbortSignal;
}

/** An answer that is no success. */
export class VaultError extends Error {
  override readonly name = 'VaultError';
  readonly status: number;

  constructor(path: string, status: number, reason: string | undefined) {
    super(`${path}: status ${status}${reason === undefined ? '' : `, ${reason}`}`);
    this.status = status;
  }
}

/** What a server may say in its own words. */
const KNOWN_REASONS = [
  'invalid token',
  'bad token',
  'missing client token',
  'invalid role or secret ID',
  'invalid role ID',
  'invalid secret id',
  'failed to validate SecretID',
  'lease not found',
  'lease is not renewable',
  'invalid lease',
  'unknown role',
  'unknown static role',
  'no handler for route',
  'unsupported path',
  'namespace not found',
  'Vault is sealed',
  'rate limit quota exceeded',
  'error validating token',
  'invalid audience',
  // Said beside the more exact ones.
  'permission denied',
] as const;

const REASONS_OF_STATUS: Readonly<Record<number, string>> = {
  307: 'a standby that names another server: set the address of the active one',
  404: 'nothing is there',
  429: 'too many requests, or a standby',
  503: 'sealed or in maintenance',
};

/** One server, by one gateway's settings for it. */
export class VaultHttp {
  readonly #server: VaultServer;

  constructor(server: VaultServer) {
    this.#server = server;
  }

  /** The server, for messages. */
  get name(): string {
    return this.#server.address;
  }

  /**
   * @returns the answer's JSON (untrusted); undefined if the server did as told and has nothing to say
   * @throws VaultError for an answer that is no success, Error for none within 10 s
   */
  async ask(asked: VaultRequest): Promise<unknown> {
    const { status, text } = await this.#exchange(asked);
    const json = parsed(text);
    if (status === 204 || status === 202) return undefined;
    if (status === 200 && json !== undefined) return json;
    throw new VaultError(asked.path, status, reasonOf(json) ?? REASONS_OF_STATUS[status]);
  }

  async #exchange(asked: VaultRequest): Promise<{ status: number; text: string | undefined }> {
    const url = new URL(`/v1/${encoded(asked.path)}`, this.#server.address);
    const limit = new AbortController();
    const abort = () => limit.abort(asked.signal.reason);
    asked.signal.addEventListener('abort', abort);
    if (asked.signal.aborted) abort();
    const late = new Error('no whole answer within 10 s');
    const timer = setTimeout(() => limit.abort(late), TIMEOUT_MS);
    try {
      const sent = await this.#open(url, asked, limit.signal);
      return await answerTo(sent, asked.body);
    } catch (error) {
      asked.signal.throwIfAborted();
      if (limit.signal.aborted) throw late;
      throw new Error(`no answer: ${messageOf(error)}`);
    } finally {
      clearTimeout(timer);
      asked.signal.removeEventListener('abort', abort);
    }
  }

  async #open(
    url: URL,
    { method, token, body }: VaultRequest,
    signal: AbortSignal,
  ): Promise<ClientRequest> {
    const { namespace, caFile } = this.#server;
    const headers = {
      accept: 'application/json',
      // An agent in between may ask for it: no request that a web page forged has it.
      'x-vault-request': 'true',
      ...(namespace === '' ? {} : { 'x-vault-namespace': namespace }),
      ...(token === undefined ? {} : { 'x-vault-token': token }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    };
    const options = { method, headers, agent: false as const, signal };
    if (url.protocol === 'http:') {
      if (!LOOPBACK.test(url.hostname)) throw new Error('plain http is for this host alone');
      return httpRequest(url, options);
    }
    return httpsRequest(url, {
      ...options,
      ca: await readAuthorities(caFile),
      minVersion: 'TLSv1.2',
      // Said aloud: left out, a variable of the environment could turn it off.
      rejectUnauthorized: true,
    });
  }
}

/** Node would trust the public authorities in place of none. */
async function readAuthorities(file: string): Promise<string> {
  const ca = await readFile(file, 'utf8');
  new X509Certificate(ca);
  return ca;
}

function answerTo(
  sent: ClientRequest,
  body: VaultRequest['body'],
): Promise<{ status: number; text: string | undefined }> {
  return new Promise((resolve, reject) => {
    sent.on('error', reject);
    sent.on('response', (response: IncomingMessage) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > MOST_BYTES) sent.destroy(new Error('the answer is longer than 256 KiB'));
        else parts.push(part);
      });
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: decoded(Buffer.concat(parts)) }),
      );
    });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function encoded(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

function decoded(bytes: Buffer): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

function parsed(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function reasonOf(json: unknown): string | undefined {
  const errors =
    typeof json === 'object' && json !== null && 'errors' in json ? json.errors : undefined;
  if (!Array.isArray(errors)) return undefined;
  const said = errors.filter((one) => typeof one === 'string').join('; ');
  return KNOWN_REASONS.find((reason) => said.includes(reason));
}

/** Of Node's own errors: host, port and what went wrong with the connection or the certificate. */
function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown error';
}
