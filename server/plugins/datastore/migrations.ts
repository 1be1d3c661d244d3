export interface Migration {
  /** From 1 without gaps; never changed once released. */
  readonly version: number;
  readonly sql: string;
}

/**
 * The schema, for SQLite. Instants are Unix milliseconds (`_ms`), SPIFFE IDs and serials (lower-case
 * hex; of SSH certificates decimal) text, lists and maps JSON, messages (`body`) the encoded proto
 * unless a comment says JSON.
 */
export const MIGRATIONS: readonly Migration[] = [
  {
    version: 1,
    sql: `
create table meta (
  key text primary key,            -- trust_domain, highest_time_ms
  value text not null
);
create table authorities (
  id text primary key,             -- x509: hex subject key id; jwt: key id
  kind text not null check (kind in ('x509', 'jwt')),
  state text not null check (state in ('prepared', 'active', 'old')),
  certificate blob,                -- DER, x509 alone
  public_key blob not null,        -- SPKI DER
  not_before_ms integer not null,
  not_after_ms integer not null,
  tainted integer not null default 0
);
create table agents (
  id text primary key,             -- SPIFFE ID
  attestation_type text not null,
  serial text not null,            -- '' once banned
  not_after_ms integer not null,
  new_serial text,                 -- becomes the current one on first use
  new_not_after_ms integer,
  banned integer not null default 0,
  can_reattest integer not null,
  selectors text not null,         -- JSON [[type, value], ...]
  version text not null default '',
  attested_at_ms integer not null
);
create table join_tokens (
  sha256 blob primary key,
  handle text not null unique,
  agent_id text,                   -- node alias
  expires_at_ms integer not null
);
create table entries (
  id text primary key,
  spiffe_id text not null,
  parent_id text not null,
  selectors text not null,         -- JSON [[type, value], ...] sorted: the similar-entry rule compares it
  body blob not null,              -- spire.api.types.Entry
  expires_at_ms integer not null,  -- 0: with its identity
  created_at_ms integer not null,
  unique (spiffe_id, parent_id, selectors)
);
create index entries_by_parent on entries (parent_id);
create table entry_events (
  seq integer primary key autoincrement,
  entry_id text not null,
  at_ms integer not null
);
create table identities (
  spiffe_id text primary key,
  owner text not null,
  purpose text not null,
  environment text not null,
  kind text not null check (kind in ('service', 'ci', 'ai-agent', 'human-proxy')),
  labels text not null,            -- JSON object
  status text not null check (status in ('active', 'suspended', 'retired')),
  expires_at_ms integer not null,
  created_at_ms integer not null
);
create table ledger (
  serial text primary key,
  kind text not null check (kind in ('x509', 'jwt', 'agent', 'server')),
  spiffe_id text not null,
  entry_id text,
  agent_id text,
  issued_at_ms integer not null,
  not_after_ms integer not null
);
create index ledger_by_spiffe_id on ledger (spiffe_id);
create table resources (
  kind text not null check (kind in ('Backend', 'Grant', 'ColumnClass', 'Columns', 'Lock')),
  name text not null,
  generation integer not null,
  body blob not null,              -- writ.resource.v1.Resource
  updated_at_ms integer not null,
  primary key (kind, name)
);
create table revocations (
  seq integer primary key autoincrement,
  at_ms integer not null,
  subject_kind text not null check (subject_kind in
    ('session_id', 'grant', 'entry_id', 'spiffe_id', 'agent_id', 'serial', 'backend')),
  subject text not null,
  cause text not null,
  reason text not null
);
create index revocations_by_subject on revocations (subject_kind, subject);
create table gateways (
  id text primary key,             -- SPIFFE ID
  name text not null unique,
  backends text not null,          -- JSON list; "*" is all
  names text not null,             -- JSON list of DNS names and IP addresses
  recording_key blob,
  revocation_seq integer not null default 0,
  heartbeat_ms integer,
  created_at_ms integer not null
);
create table sessions (
  id text primary key,
  gateway_id text not null,
  backend text not null,
  grant_name text not null,
  spiffe_id text not null,
  svid_serial text not null,
  entry_id text not null,
  agent_id text not null,
  owner text not null,
  purpose text not null,
  client_address text not null,
  opened_at_ms integer not null,
  expires_at_ms integer not null,
  lease_ms integer not null,
  closed_at_ms integer,
  close_reason text,
  bytes_up integer not null default 0,
  bytes_down integer not null default 0,
  rows integer not null default 0,
  statements integer not null default 0,
  recording_hash blob
);
create index sessions_open on sessions (gateway_id) where closed_at_ms is null;
create table audit_events (
  seq integer primary key,
  at_ms integer not null,
  writer text not null,
  writer_seq integer not null,
  type text not null,
  body blob not null,              -- writ.audit.v1.Event, the bytes that were hashed
  leaf_hash blob not null,
  hash blob not null,
  unique (writer, writer_seq)
);
`,
  },
  {
    version: 2,
    // SQLite cannot change a check: the two tables are made anew.
    sql: `
create table new_authorities (
  id text primary key,             -- x509: hex subject key id; jwt: key id; ssh: hex SHA-256 of the public key
  kind text not null check (kind in ('x509', 'jwt', 'ssh-user', 'ssh-host', 'ssh-gateway')),
  state text not null check (state in ('prepared', 'active', 'old')),
  certificate blob,                -- DER, x509 alone
  public_key blob not null,        -- SPKI DER
  not_before_ms integer not null,
  not_after_ms integer not null,
  tainted integer not null default 0
);
insert into new_authorities
  (id, kind, state, certificate, public_key, not_before_ms, not_after_ms, tainted)
  select id, kind, state, certificate, public_key, not_before_ms, not_after_ms, tainted
  from authorities;
drop table authorities;
alter table new_authorities rename to authorities;
create table new_ledger (
  serial text primary key,
  kind text not null check
    (kind in ('x509', 'jwt', 'agent', 'server', 'ssh-user', 'ssh-host', 'ssh-gateway')),
  spiffe_id text not null,         -- '' for the host certificate of a backend's target
  entry_id text,
  agent_id text,
  issued_at_ms integer not null,
  not_after_ms integer not null
);
insert into new_ledger (serial, kind, spiffe_id, entry_id, agent_id, issued_at_ms, not_after_ms)
  select serial, kind, spiffe_id, entry_id, agent_id, issued_at_ms, not_after_ms from ledger;
drop table ledger;
alter table new_ledger rename to ledger;
create index ledger_by_spiffe_id on ledger (spiffe_id);
alter table sessions add column login text not null default '';
alter table gateways add column ports text not null default '{}'; -- JSON object
`,
  },
  {
    version: 3,
    sql: `
-- From here on only what SQLite and PostgreSQL share (dialect.ts).
alter table identities add column jwt_audiences text not null default '[]'; -- JSON list; empty: any
alter table identities add column max_agents integer not null default 0;    -- 0: any number
create table registrars (
  spiffe_id text primary key,
  body blob not null,              -- writ.admin.v1.Registrar
  created_at_ms integer not null
);
alter table entry_events add column spiffe_id text not null default ''; -- identity or agent; both empty: anybody may be concerned
drop index ledger_by_spiffe_id;
create index ledger_by_holder on ledger (spiffe_id, not_after_ms);
create table federated_bundles (
  trust_domain text primary key,
  body blob not null,              -- spire.api.types.Bundle
  updated_at_ms integer not null
);
create table federation_relationships (
  trust_domain text primary key,
  body blob not null,              -- spire.api.types.FederationRelationship, without its bundle
  created_at_ms integer not null
);
create table entry_federation (    -- federates_with of the entries; before this version none had any
  trust_domain text not null,
  entry_id text not null,
  primary key (trust_domain, entry_id)
);
create index entry_federation_by_entry on entry_federation (entry_id);
alter table ledger add column authority_id text not null default ''; -- who signed; '': before this version
alter table authorities add column key_name text not null default ''; -- the key manager's; '': <kind>-<id>
alter table authorities add column chain blob;                        -- DER, from it to its root, without either
alter table authorities add column upstream_id text not null default ''; -- hex subject key id of a root that is not ours
alter table authorities add column tainted_at_ms integer;
-- Their keys were lost, and nothing that they signed lives for long.
update authorities set tainted = 1 where kind in ('ssh-user', 'ssh-gateway') and state = 'old';
create table oidc_tokens (         -- that have proved a node, until they would be too old to
  sha256 blob primary key,         -- of issuer and jti
  expires_at_ms integer not null
);
create table trusted_authorities ( -- in the bundle, but not ours to sign with
  kind text not null check (kind in ('x509', 'jwt')),
  id text not null,                -- x509: hex SHA-256 of the certificate; jwt: key id
  source text not null check (source in ('upstream', 'published', 'appended')),
  certificate blob,                -- DER, x509 alone
  public_key blob not null,        -- SPKI DER
  subject_key_id text not null,    -- hex; '' for jwt
  not_after_ms integer,            -- null: never
  tainted_at_ms integer,
  primary key (kind, id)
);
alter table ledger add column revoked_at_ms integer;     -- leaves of X.509 alone
alter table ledger add column revocation_reason integer; -- CRLReason of RFC 5280
create index ledger_by_entry on ledger (entry_id, not_after_ms) where kind in ('x509', 'agent', 'server');
create index ledger_by_agent on ledger (agent_id, not_after_ms) where kind in ('x509', 'agent', 'server');
create index ledger_revoked on ledger (not_after_ms) where revoked_at_ms is not null;
alter table agents add column current_since_ms integer not null default 0; -- first use of its serial; 0: not known
`,
  },
  {
    version: 4,
    sql: `
-- Not released yet: append here.
alter table sessions add column reason text not null default '';  -- why the client opened it, in its words
create table secrets (
  name text primary key,
  last_version integer not null,   -- outlives a deleted secret: no version is used twice
  updated_at_ms integer not null
);
create table secret_versions (
  name text not null,
  version integer not null,
  state text not null check (state in ('pending', 'current', 'previous')),
  login text not null,             -- the backend's user that it is for; '': the one of its document
  sealed blob not null,            -- AES-256-GCM under a key of its own: nonce, ciphertext, tag
  wrapped_key blob not null,       -- that key, as the key manager wrapped it
  key_id text not null,            -- the key manager's key that did
  created_at_ms integer not null,
  primary key (name, version),
  unique (name, state)
);
create table rotations (           -- the newest of each backend
  backend text primary key,
  id text not null,
  secret text not null,
  version integer not null,        -- that it makes
  step text not null check (step in ('proving', 'retiring', 'undoing', 'done', 'failed')),
  reason text not null default '',
  worker text not null default '', -- the process of a gateway that is at the step
  lease_ms integer not null default 0,
  started_at_ms integer not null,
  step_at_ms integer not null
);
`,
  },
];

/** Of a store that this program has opened. */
export const SCHEMA_VERSION = MIGRATIONS.length;
