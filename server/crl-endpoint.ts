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

const PATH = /^\/crl\/([0-9a-f]{2,64})\.crl$/;

/**
 * Serves the revocation lists to anybody, as RFC 5280 4.2.1.13 has it: `/crl/<authority id>.crl`, and at `/`
 * what there is, as JSON. They are signed, so that they need no TLS.
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
  if (path === '/') {
    const body = `${JSON.stringify({ crls: lists.map(described) })}\n`;
    return { status: 200, body, type: 'application/json' };
  }
  const id = PATH.exec(path)?.[1];
  const found = lists.find(({ authorityId }) => authorityId === id);
  return found && { status: 200, body: found.der, type: 'application/pkix-crl' };
}

function described({ authorityId, number, thisUpdate, nextUpdate, revoked }: SignedCrl) {
  return {
    ...{ authority: authorityId, path: `/crl/${authorityId}.crl`, number: String(number), revoked },
    ...{ this_update: thisUpdate.toISOString(), next_update: nextUpdate.toISOString() },
  };
}
