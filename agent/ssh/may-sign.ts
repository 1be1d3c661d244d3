/**
 * What the agent signs: a login with the certificate it gave out, on the very SSH connection that its
 * client has shown to it, to a host that our host authorities have certified. Nothing else: no SSHSIG,
 * no login that a forwarded agent is asked for, no login elsewhere.
 *
 * Source: OpenSSH, PROTOCOL.agent 1 (session-bind), PROTOCOL 3.1 (hostbound).
 */
import type { SessionBind, SignRequest } from '../../identity/ssh/agent-protocol.ts';
import { isSshCertificate, parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { parsePublicKey } from '../../identity/ssh/public-key.ts';
import { verifySsh } from '../../identity/ssh/signature.ts';
import { parseUserAuthData } from '../../identity/ssh/user-auth.ts';
import { verifySshCertificate } from '../../identity/ssh/verify-certificate.ts';
import { Fault } from '../../runtime/fault.ts';
import type { SignedKey } from './certificate-cache.ts';

/** The SSH connection for which a connection to the agent is used, proved by its host key. */
export type SessionBinding = Omit<SessionBind, 'type' | 'signature'>;

/**
 * The host's key has signed the session's ID, which nobody can choose: the connection is to that host.
 * Whether that host is one of ours, requireLogin asks.
 * @throws Fault SSH_INVALID, PERMISSION_DENIED
 */
export function verifySessionBind(request: SessionBind): SessionBinding {
  const { hostKey, sessionId, signature, forwarding } = request;
  const key = isSshCertificate(hostKey)
    ? parseSshCertificate(hostKey).key
    : parsePublicKey(hostKey);
  if (!verifySsh(key, sessionId, signature)) {
    throw refused('the host has not signed the session ID');
  }
  return { hostKey, sessionId, forwarding };
}

/** What a connection to the agent has shown, and the time. */
export interface LoginGround {
  readonly binding: SessionBinding | undefined;
  readonly now: Date;
}

/** @throws Fault SSH_INVALID, PERMISSION_DENIED: not to be signed */
export function requireLogin(
  { publicKey, data }: SignRequest,
  { certificate, hostAuthorities }: SignedKey,
  { binding, now }: LoginGround,
): void {
  const login = parseUserAuthData(data);
  const isOurs =
    certificate.blob.equals(publicKey) &&
    login.publicKey.equals(publicKey) &&
    login.algorithm === certificate.algorithm;
  if (!isOurs) throw refused('not a login with the certificate that was given out');
  if (!(now < certificate.validBefore)) throw refused('the certificate has ended');
  if (binding === undefined)
    throw refused('not bound to an SSH connection (OpenSSH does so since 8.9)');
  if (binding.forwarding) throw refused('the agent is forwarded');
  if (!binding.sessionId.equals(login.sessionId)) throw refused('a login on another connection');
  if (login.hostKey !== undefined && !login.hostKey.equals(binding.hostKey)) {
    throw refused('a login to another host');
  }
  verifySshCertificate(binding.hostKey, { type: 'host', authorities: hostAuthorities, now });
}

function refused(message: string): Fault {
  return new Fault('PERMISSION_DENIED', message);
}
