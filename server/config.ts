import * as v from 'valibot';
import { SpiffeId } from '../identity/spiffe-id.ts';
import { trustDomainValue } from '../identity/trust-domain-value.ts';
import { absolutePath, durationSeconds, hostPort, logSection } from '../runtime/config.ts';
import {
  awsIidSchema,
  azureMsiSchema,
  gcpIitSchema,
} from './plugins/node-attestor/cloud-config.ts';
import { k8sPsatSchema } from './plugins/node-attestor/k8s-psat-config.ts';
import { oidcSchema } from './plugins/node-attestor/oidc-config.ts';
import { upstreamAuthoritySchema } from './plugins/upstream-authority/upstream-config.ts';
import { IDENTITY_KINDS } from './registry/identity-records.ts';
import { ttlConflict } from './registry/ttl-policy.ts';

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

const ttlRule = v.pipe(
  v.strictObject({
    environment: v.optional(line(64)),
    kind: v.optional(v.picklist(IDENTITY_KINDS)),
    x509_svid_max: v.optional(durationSeconds(7 * DAY_SECONDS)),
    jwt_svid_max: v.optional(durationSeconds(DAY_SECONDS)),
    ssh_certificate_max: v.optional(durationSeconds(DAY_SECONDS)),
  }),
  v.check(
    (rule) => Object.keys(rule).some((key) => key.endsWith('_max')),
    'a rule with x509_svid_max, jwt_svid_max or ssh_certificate_max',
  ),
);

const adminId = v.pipe(
  v.string(),
  v.check(isWorkloadId, 'the SPIFFE ID of a workload, e.g. spiffe://example.org/admin'),
);

function isWorkloadId(text: string): boolean {
  try {
    const { path, isReserved } = SpiffeId.parse(text);
    return path !== '' && !isReserved;
  } catch {
    return false;
  }
}

/** A day at least: that is how long what an agent was given may outlive its own SVID. */
const pruneAfter = v.pipe(
  durationSeconds(3650 * DAY_SECONDS),
  v.minValue(DAY_SECONDS, 'a duration of at least 24h'),
);

const AUTHORITY_KEY_TYPES = ['ec-p256', 'ec-p384', 'rsa-2048', 'rsa-4096'] as const;
const LEAST_AUTHORITY_SECONDS = 10;

const authorityTtl = v.pipe(
  durationSeconds(3650 * DAY_SECONDS),
  v.minValue(LEAST_AUTHORITY_SECONDS, `a duration of at least ${LEAST_AUTHORITY_SECONDS}s`),
);

function isIssuer(text: string): boolean {
  return text.length <= 2048 && URL.canParse(text) && new URL(text).protocol === 'https:';
}

const x509pop = v.pipe(
  v.strictObject({
    /** PEM files with the authorities of nodes' certificates. */
    ca_bundle_files: v.optional(v.pipe(v.array(absolutePath), v.minLength(1), v.maxLength(32))),
    /** In their place: the node shows an X509-SVID of this trust domain whose path is below this one. */
    svid_prefix: v.optional(
      v.pipe(
        v.string(),
        v.regex(/^(\/[A-Za-z0-9._-]+)+$/, 'a path such as /spire-exchange'),
        v.check((path) => !/^\/(spire|writ)(\/|$)/.test(path), 'not below /spire or /writ'),
      ),
    ),
    agent_path_template: v.optional(line(1024)),
  }),
  v.check(
    ({ ca_bundle_files: files, svid_prefix: prefix }) =>
      (files === undefined) !== (prefix === undefined),
    'either ca_bundle_files or svid_prefix',
  ),
);

const datastore = v.union(
  [
    /** `server.db` in the state directory. */
    v.strictObject({ sqlite: v.strictObject({}) }),
    v.strictObject({
      postgres: v.strictObject({
        /** Holds `postgres://user:password@host:port/database`, readable for the server's user alone. */
        url_file: absolutePath,
      }),
    }),
  ],
  'sqlite: {} or postgres: { url_file }',
);

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
  /** Longest lives by environment and kind of identity; what an entry asks beyond them is cut. */
  ttl_policy: v.optional(
    v.pipe(
      v.array(ttlRule),
      v.maxLength(256, 'at most 256 rules'),
      v.check(
        (rules) => ttlConflict(rules) === undefined,
        ({ input }) => `rules of which one holds (${ttlConflict(input)})`,
      ),
    ),
    [],
  ),
  /** Workloads that are admins whatever their entries say, by their SPIFFE IDs exactly. */
  admin_ids: v.optional(v.pipe(v.array(adminId), v.maxLength(256, 'at most 256 IDs')), []),
  /** Left out, it stays as `writ server limit-admin-socket` or the last configuration left it. */
  admin_socket: v.optional(v.picklist(['open', 'limited'])),
  /** Where everything is kept; for many servers on one store, PostgreSQL. */
  datastore: v.optional(datastore, { sqlite: {} }),
  /** Of each client address, as SPIRE's: one attestation and 500 signatures a second; who is faster waits. */
  rate_limits: v.optional(
    v.strictObject({
      attestation: v.optional(v.boolean(), true),
      signing: v.optional(v.boolean(), true),
    }),
    {},
  ),
  /** Of an agent whose replaced SVID is used again, so that a copy of it may run. */
  on_clone: v.optional(v.picklist(['alarm', 'ban']), 'alarm'),
  /** How long after the end of its SVID an agent is forgotten; one that is banned never is. */
  prune_agents: v.optional(
    v.strictObject({
      /** Of a join token or the token of one job: it cannot come back. */
      one_time: v.optional(pruneAfter, '24h'),
      /** Of one that can attest again; never unless told. */
      reattestable: v.optional(pruneAfter),
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
  /** What new authorities are to be; those that are there keep what they are. */
  ca: v.optional(
    v.strictObject({
      /** Of X.509 and JWT authorities. */
      ttl: v.optional(authorityTtl, '24h'),
      key_type: v.optional(v.picklist(AUTHORITY_KEY_TYPES), 'ec-p256'),
      ssh_ttl: v.optional(authorityTtl, '3650d'),
    }),
    {},
  ),
  jwt: v.optional(
    v.strictObject({
      key_type: v.optional(v.picklist(AUTHORITY_KEY_TYPES), 'ec-p256'),
      /** The `iss` of tokens, for those who verify them by OIDC. */
      issuer: v.optional(v.pipe(v.string(), v.check(isIssuer, 'an https URL'))),
    }),
    {},
  ),
  /** Where the private keys of the authorities are. */
  key_manager: v.optional(
    v.union(
      [
        v.strictObject({ disk: v.strictObject({}) }),
        v.strictObject({ memory: v.strictObject({}) }),
      ],
      'disk: {} or memory: {}',
    ),
    { disk: {} },
  ),
  /** What signs this server's X.509 authorities; left out, they are roots. */
  upstream_authority: v.optional(upstreamAuthoritySchema),
  /** Where revocation lists are served over HTTP, to anybody; nowhere unless told. */
  crl: v.optional(v.strictObject({ listen: hostPort })),
  federation: v.optional(
    v.strictObject({
      /** PEM of the authorities that prove https_web endpoints, in the place of the Web PKI's. */
      web_ca_file: v.optional(absolutePath),
    }),
    {},
  ),
  node_attestors: v.optional(
    v.strictObject({
      join_token: v.optional(v.strictObject({})),
      x509pop: v.optional(x509pop),
      oidc: v.optional(oidcSchema),
      k8s_psat: v.optional(k8sPsatSchema),
      aws_iid: v.optional(awsIidSchema),
      gcp_iit: v.optional(gcpIitSchema),
      azure_msi: v.optional(azureMsiSchema),
    }),
    { join_token: {} },
  ),
});

export type ServerConfig = v.InferOutput<typeof serverConfigSchema>;
