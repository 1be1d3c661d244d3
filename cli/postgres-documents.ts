/** Documents for `writ apply`, made of what a scan found. */
import { stringify } from 'yaml';
import { Mask, type Resource } from '../proto/gen/writ/resource/v1/resource_pb.ts';
import type { ScannedColumn } from './postgres-scan.ts';

type Document = Readonly<Record<string, unknown>>;

export function yamlOf(documents: readonly Document[]): string {
  return documents.map((document) => stringify(document)).join('---\n');
}

/** `schema.table.column` of all that has a class. */
export function classifiedNames(backend: string, resources: readonly Resource[]): Set<string> {
  const names = resources.flatMap(({ body }) =>
    body.case === 'columns' && body.value.backend === backend
      ? body.value.tables.flatMap(({ table, columns }) =>
          Object.keys(columns).map((column) => `${table}.${column}`),
        )
      : [],
  );
  return new Set(names);
}

export interface ProposeClassesRequest {
  readonly backend: string;
  readonly columns: readonly ScannedColumn[];
  /** What is declared: a class of theirs is used as it is, if its mask hides anything. */
  readonly resources: readonly Resource[];
}

/** Classes that are not declared yet, and one Columns document, whose name is free. */
export function proposeClasses({ backend, columns, resources }: ProposeClassesRequest): Document[] {
  if (columns.length === 0) return [];
  const bodies = resources.map(({ body }) => body);
  const declared = new Map(
    bodies.flatMap((body) =>
      body.case === 'columnClass' ? [[body.value.name, body.value.mask] as const] : [],
    ),
  );
  const nameOf = ({ className, by }: ScannedColumn) =>
    by !== 'comment' && declared.get(className) === Mask.NONE ? `${className}-found` : className;
  const wanted = new Map(columns.map((column) => [nameOf(column), column.mask]));
  const classes = [...wanted]
    .filter(([name]) => !declared.has(name))
    .map(([name, mask]) => ({ kind: 'ColumnClass', name, mask }));
  const tables: Record<string, Record<string, string>> = {};
  for (const one of columns) {
    tables[one.table] = { ...tables[one.table], [one.column]: nameOf(one) };
  }
  const taken = new Set(
    bodies.flatMap((body) => (body.case === 'columns' ? [body.value.name] : [])),
  );
  let name = `${backend}-found`;
  for (let turn = 2; taken.has(name); turn += 1) name = `${backend}-found-${turn}`;
  return [...classes, { kind: 'Columns', name, backend, tables }];
}

export interface BackendFields {
  readonly name: string;
  readonly environment: string;
  readonly url: URL;
  /** Absolute, on the gateway's machine. */
  readonly passwordFile: string;
  /** Absolute, on the gateway's machine; without it the gateway speaks plain TCP to a loopback database. */
  readonly caFile?: string;
  readonly serverName?: string;
}

export function backendDocument(fields: BackendFields): Document {
  const { name, environment, url, passwordFile, caFile, serverName } = fields;
  return {
    kind: 'Backend',
    name,
    type: 'postgres',
    environment,
    on_stale: 'standard',
    postgres: {
      host: url.hostname,
      port: url.port === '' ? 5432 : Number(url.port),
      database: decodeURIComponent(url.pathname.slice(1)),
      layout: 'front',
      login: { user: 'writ_gateway', password_file: passwordFile },
      ...(caFile === undefined
        ? {}
        : { tls: { ca_file: caFile, server_name: serverName ?? url.hostname } }),
    },
  };
}

export interface GrantFields {
  readonly backend: string;
  readonly identity: string;
  readonly owner: string;
  readonly expiresAt: Date;
  readonly tables: readonly string[];
}

/** Reads every table, classified columns masked; narrow it before it is applied. */
export function grantDocument(fields: GrantFields): Document {
  const { backend, identity, owner, expiresAt, tables } = fields;
  const last = identity.split('/').at(-1) ?? '';
  const name = `${backend}-${last}`
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]/g, '-')
    .slice(0, 63);
  return {
    kind: 'Grant',
    name,
    identity,
    backend,
    owner,
    purpose: 'reads, proposed by writ backend add',
    expires_at: expiresAt.toISOString(),
    session: { maximum: '2h', rows: 100_000 },
    postgres: { select: [...tables], statements: ['read'] },
  };
}
