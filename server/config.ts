import * as v from 'valibot';
import { trustDomainValue } from '../identity/trust-domain-value.ts';
import { absolutePath, durationSeconds, hostPort, logSection } from '../runtime/config.ts';
import { IDENTITY_KINDS } from './registry/identity-records.ts';

const DAY_SECONDS = 24 * 60 * 60;

const line = (maximum: number) =>
  v.pipe(
    v.string(),
    v.check(
      (text) => text.trim() !== '' && text.length <= maximum && !/\p{Cc}/u.test(text),
      `a line of text of at most ${maximum} characters`,
    ),
  );

const identityDefaults = v.strictObject({
  owner: line(256),
  purpose: line(1024),
  environment: line(64),
  kind: v.picklist(IDENTITY_KINDS),
  expires_in: durationSeconds(3650 * DAY_SECONDS),
});

/** A server's configuration file. */
export const serverConfigSchema = v.strictObject({
  trust_domain: trustDomainValue,
  /** For its owner alone; made if it is not there. */
  state_dir: absolutePath,
  listen: hostPort,
  health: hostPort,
  log: logSection,
  ttl: v.optional(
    v.strictObject({
      x509_svid: v.optional(durationSeconds(7 * DAY_SECONDS), '1h'),
      agent_svid: v.optional(durationSeconds(7 * DAY_SECONDS), '1h'),
      jwt_svid: v.optional(durationSeconds(DAY_SECONDS), '5m'),
      /** Of workloads; those of hosts and of gateways' logins are not to be set. */
      ssh_certificate: v.optional(durationSeconds(DAY_SECONDS), '5m'),
      session_maximum: v.optional(durationSeconds(7 * DAY_SECONDS), '8h'),
    }),
    {},
  ),
  registration: v.optional(
    v.strictObject({
      /** What the identity record of a new SPIFFE ID says where its registrar said nothing. */
      defaults: v.optional(identityDefaults),
    }),
    {},
  ),
  node_attestors: v.optional(v.strictObject({ join_token: v.optional(v.strictObject({})) }), {
    join_token: {},
  }),
});

export type ServerConfig = v.InferOutput<typeof serverConfigSchema>;
