import { Revocations } from './access/revocations.ts';
import { AuditLog } from './audit/audit-log.ts';
import { RefusalCounter } from './audit/refusal-counter.ts';
import { Authorities } from './authority/authorities.ts';
import { Authority } from './authority/authority.ts';
import { authoritySettings } from './authority/authority-settings.ts';
import { Crls } from './authority/crls.ts';
import type { IssuedKind } from './authority/ledger.ts';
import { rotateForever } from './authority/rotation.ts';
import { SshAuthority } from './authority/ssh-authority.ts';
import { UpstreamLink } from './authority/upstream-link.ts';
import { type Context, follow, own } from './context.ts';
import { keyManager, upstreamAuthority } from './plugins/catalog.ts';

export type Core = Awaited<ReturnType<typeof openCore>>;

/** Audit, revocations and the authorities. */
export async function openCore(context: Context) {
  const { config, store, follower, clock, log, metrics, closers } = context;
  const audit = new AuditLog(store, clock);
  await audit.load();
  const refusals = own(closers, new RefusalCounter({ store, audit, clock, log }));
  const revocations = new Revocations(store, clock);
  await revocations.load();
  follower.add(() => audit.load());
  follower.add(() => revocations.load());
  const keys = keyManager(config);
  const upstream = await upstreamAuthority(config, { clock, log });
  closers.defer(async () => await upstream?.[Symbol.asyncDispose]?.());
  const authorities = await Authorities.open({
    ...{ store, audit, clock, log, keys },
    trustDomain: config.trust_domain,
    settings: authoritySettings(config),
    upstream,
  });
  if (upstream !== undefined) own(closers, new UpstreamLink({ authorities, upstream, clock, log }));
  const onIssued = (kind: IssuedKind) => metrics.svidsIssued.inc({ kind });
  const forSigning = { authorities, audit, clock, onIssued };
  const authority = new Authority({ ...forSigning, jwtIssuer: config.jwt.issuer });
  const sshAuthority = new SshAuthority(forSigning);
  own(closers, rotateForever({ authorities, clock, log }));
  const crls = own(
    closers,
    await Crls.open({ store, authority, authorities, revocations, clock, log }),
  );
  if (config.ttl.x509_svid > config.ca.ttl / 6)
    log.warn('ttl.x509_svid is more than a sixth of ca.ttl: SVIDs end early, with their authority');
  closers.defer(follow(audit.head, (seq) => metrics.auditEvents.set(Number(seq))));
  return { audit, refusals, revocations, keys, authorities, authority, sshAuthority, crls };
}
