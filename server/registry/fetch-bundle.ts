import { request } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
import { authorizeId } from '../../identity/authorizer.ts';
import { type Bundle, bundleFromJwks } from '../../identity/bundle.ts';
import { svidClientTls, tlsConnectOptions } from '../../identity/tls.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { FederationRelationship } from './federation-relationships.ts';

const TIMEOUT_MS = 10_000;
const MAXIMUM_BYTES = 1024 * 1024;
const MOST_REDIRECTS = 3;
const UTF8 = new TextDecoder('utf-8', { fatal: true });

export interface FetchBundleOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** PEM of the authorities that prove a https_web endpoint; those of the Web PKI unless told. */
  readonly webAuthorities?: string | undefined;
  /** The bundle that proves a https_spiffe endpoint, of the trust domain of its SPIFFE ID. */
  bundleOf(trustDomain: string): Promise<Bundle | undefined>;
}

/**
 * The newest bundle of a foreign trust domain, from its endpoint.
 * @throws Fault UNAVAILABLE if it cannot be had now, INVALID_ARGUMENT if it is malformed
 *
 * Source: SPIFFE Federation 5.2: redirects are followed to URLs of the same kind, and never kept.
 */
export async function fetchBundle(
  relationship: FederationRelationship,
  options: FetchBundleOptions,
): Promise<Bundle> {
  const tls = await tlsOf(relationship, options);
  return inTime(options, async (signal) => {
    let url = new URL(relationship.url);
    for (let hop = 0; hop <= MOST_REDIRECTS; hop += 1) {
      const answer = await get(url, tls, signal);
      if ('body' in answer) return bundleFromJwks(relationship.trustDomain, answer.body);
      url = redirectTarget(answer.location, url);
    }
    throw unavailable('too many redirects');
  });
}

/** Of all answers together: an endpoint that drips bytes would hold a socket's own timeout off. */
async function inTime<T>(
  { clock, signal }: FetchBundleOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const abort = () => stop.abort();
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  void clock.wait(TIMEOUT_MS, stop.signal).then(
    () => stop.abort(unavailable('the endpoint takes too long')),
    () => undefined,
  );
  try {
    return await work(stop.signal);
  } catch (error) {
    const { reason } = stop.signal;
    throw reason instanceof Fault ? reason : error;
  } finally {
    signal.removeEventListener('abort', abort);
    abort();
  }
}

async function tlsOf(
  { endpointId }: FederationRelationship,
  { clock, bundleOf, webAuthorities: ca }: FetchBundleOptions,
): Promise<ConnectionOptions> {
  if (endpointId === undefined)
    // The last said aloud: left out, a variable of the environment could turn it off.
    return { minVersion: 'TLSv1.2', ...(ca === undefined ? {} : { ca }), rejectUnauthorized: true };
  const bundle = await bundleOf(endpointId.trustDomain);
  if (bundle === undefined || bundle.x509Authorities.length === 0)
    throw unavailable(
      `no bundle of ${endpointId.trustDomain} to prove its endpoint with: set it once by hand`,
    );
  const authorize = authorizeId(endpointId);
  return tlsConnectOptions(svidClientTls({ bundle, authorize, clock }));
}

type Answer = { readonly body: string } | { readonly location: string };

function get(url: URL, tls: ConnectionOptions, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) =>
      reject(
        error instanceof Fault && error.code === 'UNAVAILABLE'
          ? error
          : unavailable('the endpoint does not answer or does not prove itself', error),
      );
    const headers = { accept: 'application/json' };
    const asked = request(url, { ...tls, headers, agent: false, signal }, (response) => {
      const { statusCode = 0, headers: answered } = response;
      if (statusCode >= 300 && statusCode < 400 && answered.location !== undefined) {
        response.destroy();
        resolve({ location: answered.location });
        return;
      }
      if (statusCode !== 200) {
        response.destroy();
        reject(unavailable(`the endpoint answers status ${statusCode}`));
        return;
      }
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        bytes += part.length;
        parts.push(part);
        if (bytes > MAXIMUM_BYTES) asked.destroy(unavailable('the bundle is longer than 1 MiB'));
      });
      response.on('error', failed);
      response.on('end', () => {
        try {
          resolve({ body: UTF8.decode(Buffer.concat(parts)) });
        } catch (error) {
          reject(new Fault('INVALID_ARGUMENT', 'bundle malformed: no UTF-8', { cause: error }));
        }
      });
    });
    asked.on('error', failed);
    asked.end();
  });
}

function redirectTarget(location: string, from: URL): URL {
  let url: URL;
  try {
    url = new URL(location, from);
  } catch {
    throw unavailable('the endpoint redirects to what is no URL');
  }
  if (url.protocol !== 'https:' || url.username !== '' || url.password !== '')
    throw unavailable('the endpoint redirects to a URL that is not allowed');
  return url;
}

function unavailable(why: string, cause?: unknown): Fault {
  return new Fault('UNAVAILABLE', `bundle not fetched: ${why}`, { cause });
}
