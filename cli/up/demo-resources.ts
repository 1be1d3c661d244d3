/** What the demo declares, as a person would with `writ apply -f`. */
import { stringify } from 'yaml';
import type { DemoDatabase } from './demo-database.ts';
import { SHOP } from './demo-database.ts';
import type { Plan } from './plan.ts';

export const BACKEND = 'shop';
export const GRANT = 'reporting-reads-shop';
export const SSH_BACKEND = 'web-1';
export const SSH_LOGIN = 'deploy';
export const SSH_GRANT = 'reporting-on-web-1';
const GRANT_LIFE_MS = 30 * 24 * 60 * 60 * 1000;

export function sampleIdentity({ trustDomain }: Plan): string {
  return `spiffe://${trustDomain}/reporting`;
}

/** The backend alone: applied at each start, since ports may have moved. */
export function backendYaml(database: DemoDatabase, passwordFile: string): string {
  return stringify({
    kind: 'Backend',
    name: BACKEND,
    type: 'postgres',
    environment: 'demo',
    on_stale: 'standard',
    postgres: {
      host: database.host,
      port: database.port,
      database: SHOP,
      layout: 'front',
      login: { user: 'writ_gateway', password_file: passwordFile },
      tls: { ca_file: database.caFile, server_name: 'localhost' },
    },
  });
}

/** Classes, columns and the sample's grant: applied once, so that a person's changes stay. */
export function accessYaml(plan: Plan): string {
  const documents = [
    { kind: 'ColumnClass', name: 'national-id', mask: 'last4' },
    { kind: 'ColumnClass', name: 'email', mask: 'email' },
    { kind: 'ColumnClass', name: 'card', mask: 'last4' },
    {
      kind: 'Columns',
      name: 'shop-people',
      backend: BACKEND,
      tables: {
        'public.customers': { ssn: 'national-id', email: 'email', card_number: 'card' },
      },
    },
    {
      kind: 'Grant',
      name: GRANT,
      identity: sampleIdentity(plan),
      backend: BACKEND,
      ...sampleTerms(),
      postgres: { select: ['public.orders', 'public.customers'], statements: ['read'] },
    },
  ];
  return documents.map((document) => stringify(document)).join('---\n');
}

/** The SSH target: applied at each start, since ports may have moved. */
export function sshBackendYaml(account: string, port: number): string {
  return stringify({
    kind: 'Backend',
    name: SSH_BACKEND,
    type: 'ssh',
    environment: 'demo',
    on_stale: 'standard',
    ssh: {
      address: `127.0.0.1:${port}`,
      host_ca: 'trust-domain',
      logins: { [SSH_LOGIN]: { account } },
    },
  });
}

/** The sample's way to the SSH target: applied once. */
export function sshGrantYaml(plan: Plan): string {
  return stringify({
    kind: 'Grant',
    name: SSH_GRANT,
    identity: sampleIdentity(plan),
    backend: SSH_BACKEND,
    ...sampleTerms(),
    ssh: { logins: [SSH_LOGIN], channels: { shell: true, exec: true, sftp: true } },
  });
}

function sampleTerms() {
  return {
    owner: 'ana@shop.example',
    purpose: 'nightly revenue report',
    expires_at: new Date(Date.now() + GRANT_LIFE_MS).toISOString(),
    session: { maximum: '8h' },
  };
}
