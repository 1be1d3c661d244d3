import type net from 'node:net';
import type tls from 'node:tls';

/** Beyond what `verifySvid` takes, so that it is the one that refuses. */
const LONGEST_WALK = 16;

/**
 * The certificates of `getPeerCertificate(true)` as DER, leaf first; none if the peer showed none.
 * That call must come before any `getPeerX509Certificate`, which loses the intermediates.
 */
export function peerChain(leaf: tls.PeerCertificate): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let at: Partial<tls.DetailedPeerCertificate> | undefined = leaf;
  while (at?.raw !== undefined && chain.length < LONGEST_WALK) {
    chain.push(at.raw);
    // A root is its own issuer.
    at = at.issuerCertificate === at ? undefined : at.issuerCertificate;
  }
  return chain;
}

/** Names one connection of a listener while it lasts. */
export function endpointsOf(socket: net.Socket): string {
  return [socket.remoteAddress, socket.remotePort, socket.localAddress].join(' ');
}

/** The IP of the other end, IPv4 as IPv4 also where the listener is IPv6; undefined if it has gone. */
export function addressOf({ remoteAddress }: net.Socket): string | undefined {
  return remoteAddress?.replace(/^::ffff:(?=\d+\.)/, '');
}
