import { SpiffeId } from '../../identity/spiffe-id.ts';
import type { SshRights } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { instant, text } from '../plugins/datastore/row.ts';
import { admissionEnd, decideAccess } from './decide-access.ts';
import { isRefusal, type Refusal, refusal } from './refusal.ts';
import { findGrant } from './resources.ts';

/** On what a gateway's certificate for one login is issued. */
export interface SshSessionGround {
  readonly spiffeId: string;
  /** Of the client's certificate, decimal. */
  readonly serial: string;
  readonly backend: string;
  readonly login: string;
  /** What the target's account must list: `<backend>/<login>`, never a bare login (threats S2). */
  readonly principal: string;
  readonly rights: SshRights;
  /** The earliest end of the session, its grant, the client's entry and its identity. */
  readonly endsAt: Date;
  readonly entryId: string;
  readonly agentId: string;
  readonly grant: string;
}

/** Which session, and who asks. */
export interface SshSessionWish {
  /** SPIFFE ID of the calling gateway, authenticated. */
  readonly gateway: string;
  /** Untrusted. */
  readonly sessionId: string;
}

/**
 * Decides an open SSH session of a gateway again: whatever was taken away since it was opened is gone,
 * also where the gateway has not acted on it.
 * @param reader the transaction that writes down what is issued
 */
export async function sshSessionGround(
  reader: Reader,
  { gateway, sessionId }: SshSessionWish,
  now: Date,
): Promise<SshSessionGround | Refusal> {
  const row = await reader.get(
    `select backend, grant_name, spiffe_id, svid_serial, login, expires_at_ms,
            exists (select 1 from revocations r
                    where r.at_ms >= s.opened_at_ms
                      and ((r.subject_kind = 'session_id' and r.subject = s.id)
                        or (r.subject_kind = 'grant' and r.subject = s.grant_name)
                        or (r.subject_kind = 'backend' and r.subject = s.backend)
                        or (r.subject_kind = 'spiffe_id' and r.subject = s.spiffe_id)
                        or (r.subject_kind = 'entry_id' and r.subject = s.entry_id)
                        or (r.subject_kind = 'agent_id' and r.subject = s.agent_id)
                        or (r.subject_kind = 'serial' and r.subject = s.svid_serial))) as revoked
     from sessions s where s.id = ? and s.gateway_id = ? and s.closed_at_ms is null`,
    sessionId,
    gateway,
  );
  if (row === undefined) return refusal('session.unknown', 'no such session is open');
  if (row.revoked !== 0) return refusal('session.revoked', 'the session has been ended');
  const expiresAt = instant(row, 'expires_at_ms');
  if (expiresAt <= now) return refusal('session.expired', 'the session has expired');
  const [backend, login] = [text(row, 'backend'), text(row, 'login')];
  const serial = text(row, 'svid_serial');
  const id = SpiffeId.parse(text(row, 'spiffe_id'));
  const credential = { kind: 'ssh-user', id, serial, notAfter: expiresAt } as const;
  const grantName = text(row, 'grant_name');
  const named = await findGrant(reader, grantName);
  const grants = named === undefined ? [] : [named];
  const wish = { gateway, credential, backend, login, grant: grantName, grants };
  const admission = await decideAccess(reader, wish, now);
  if (isRefusal(admission)) return admission;
  const { holder, grant } = admission;
  if (grant.rights.case !== 'ssh') throw new Error('a grant without SSH rights was let through');
  return {
    spiffeId: holder.spiffeId,
    serial,
    backend,
    login,
    principal: `${backend}/${login}`,
    rights: grant.rights.value,
    endsAt: admissionEnd(admission, now),
    entryId: holder.entryId,
    agentId: holder.agentId,
    grant: grant.name,
  };
}
