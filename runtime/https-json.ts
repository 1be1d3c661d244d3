/** Small JSON documents of other servers: always TLS, never redirected. */
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { Fault } from './fault.ts';

const TIMEOUT_MS = 10_000;
const MAXIMUM_BYTES = 1024 * 1024;
const UTF8 = new TextDecoder('utf-8', { fatal: true });

export interface HttpsJsonRequest {
  /** https alone. */
  readonly url: URL;
  /** PEM of the authorities that prove the server; those of the Web PKI if left out. */
  readonly caFile?: string | undefined;
  /** Sent as the body of a POST; without it the request is a GET. */
  readonly body?: object;
  readonly bearer?: string;
  /** Ends it before the ten seconds are over. */
  readonly signal?: AbortSignal;
}

export interface HttpsJsonAnswer {
  readonly status: number;
  /** Untrusted, at most 1 MiB; undefined if the body is no JSON. */
  readonly json: unknown;
}

/** @throws Fault UNAVAILABLE if no answer can be had within 10 s; it names the host and never the body */
export async function httpsJson(asked: HttpsJsonRequest): Promise<HttpsJsonAnswer> {
  const { url, caFile } = asked;
  if (url.protocol !== 'https:') throw new Error(`${url.host} is not asked over ${url.protocol}`);
  try {
    const ca = caFile === undefined ? undefined : await readFile(caFile);
    return await exchange(asked, ca);
  } catch (cause) {
    throw new Fault('UNAVAILABLE', `no answer from ${url.host}`, { cause: reasonOf(cause) });
  }
}

function exchange(
  { url, body, bearer, signal }: HttpsJsonRequest,
  ca: Buffer | undefined,
): Promise<HttpsJsonAnswer> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = {
    accept: 'application/json',
    ...(text === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
    ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
  };
  const options = {
    ...{ method: text === undefined ? 'GET' : 'POST', headers, agent: false },
    // Of the whole exchange: a server that drips bytes would hold a socket's own timeout off.
    signal: AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])]),
    minVersion: 'TLSv1.2' as const,
    // Said aloud: left out, a variable of the environment could turn it off.
    rejectUnauthorized: true,
    ...(ca === undefined ? {} : { ca }),
  };
  return new Promise((resolve, reject) => {
    const sent = request(url, options, (response) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > MAXIMUM_BYTES) sent.destroy(new Error('the answer is longer than 1 MiB'));
        else parts.push(part);
      });
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, json: parsed(Buffer.concat(parts)) }),
      );
    });
    sent.on('error', reject);
    sent.end(text);
  });
}

function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(UTF8.decode(bytes));
  } catch {
    return undefined;
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
