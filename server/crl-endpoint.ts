import type { HostPort } from '../runtime/config.ts';
import { type HttpAnswer, type HttpListener, listenHttp } from '../runtime/http-listener.ts';
import type { SignedCrl } from './authority/crl-writer.ts';
import type { Crls } from './authority/crls.ts';

export interface CrlEndpointOptions {
  readonly listen: HostPort;
  readonly crls: Pick<Crls, 'lists'>;
  /** Tells of bytes that are no HTTP request, or came too slowly. */
  onRefused?(): void;
}

const INDEX = '/crl';
const PATH = /^\/crl\/([0-9a-f]{2,64})\.crl$/;
/** A list changes with each revocation; what was fetched a moment ago will do. */
const CACHING = { 'cache-control': 'public, max-age=10' };

/**
 * Serves the revocation lists to anybody, as RFC 5280 4.2.1.13 has it: `/crl/<authority id>.crl`, and at
 * `/crl` what there is, as JSON. They are signed, so that they need no TLS.
 * @throws Fault STATE_UNUSABLE if the port is taken
 */
export function serveCrls({ listen, crls, onRefused }: CrlEndpointOptions): Promise<HttpListener> {
  return listenHttp({
    ...{ listen, what: 'revocation lists' },
    answer: (path) => answer(path, crls.lists),
    onRefused: () => onRefused?.(),
  });
}

function answer(path: string, lists: readonly SignedCrl[]): HttpAnswer | undefined {
  if (path === INDEX) {
    const body = `${JSON.stringify({ crls: lists.map(described) })}\n`;
    return { status: 200, body, type: 'application/json', headers: CACHING };
  }
  const id = PATH.exec(path)?.[1];
  const found = lists.find(({ authorityId }) => authorityId === id);
  if (found === undefined) return undefined;
  const headers = { ...CACHING, 'last-modified': found.thisUpdate.toUTCString() };
  return { status: 200, body: found.der, type: 'application/pkix-crl', headers };
}

function described({ authorityId, number, thisUpdate, nextUpdate, revoked }: SignedCrl) {
  return {
    ...{ authority: authorityId, path: `/crl/${authorityId}.crl`, number: String(number), revoked },
    ...{ this_update: thisUpdate.toISOString(), next_update: nextUpdate.toISOString() },
  };
}
