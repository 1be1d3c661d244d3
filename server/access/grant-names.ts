import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import {
  type ColumnClass,
  type Grant,
  GrantSchema,
  type PostgresRights,
  type Resource,
  ResourceSchema,
} from '../../proto/gen/writ/resource/v1/resource_pb.ts';

/**
 * The resources with each grant's database names filled in. A name is a hash of all that the database
 * enforces for the grant: its rights, their database, its identity, and the masks of its backend's columns. So a change
 * of any of them names roles that are not there until the setup has run again, and the old rights are
 * out of reach from the moment of the change. The hash tells nothing to who can list roles (threats P13).
 */
export function withGrantNames(resources: readonly Resource[]): Resource[] {
  const masks = new Map<string, string[]>();
  return resources.map((resource) => {
    const { body } = resource;
    if (body.case !== 'grant') return resource;
    const { backend } = body.value;
    const ofBackend = masks.get(backend) ?? masksOf(backend, resources);
    masks.set(backend, ofBackend);
    const database = databaseOf(body.value, resources);
    const value = named(body.value, ofBackend, database);
    return create(ResourceSchema, { ...resource, body: { case: 'grant', value } });
  });
}

/** In the server; empty for the backend's own, whose grants keep the names that they always had. */
function databaseOf({ backend: name, rights }: Grant, resources: readonly Resource[]): string {
  if (rights.case !== 'postgres' || rights.value.database === '') return '';
  for (const { body } of resources) {
    if (body.case !== 'backend' || body.value.name !== name) continue;
    const { type } = body.value;
    const databases = type.case === 'postgres' ? Object.entries(type.value.databases) : [];
    const found = databases.find(([database]) => database === rights.value.database);
    if (found !== undefined) return found[1];
  }
  return `?${rights.value.database}`;
}

function named(grant: Grant, masks: readonly string[], database: string): Grant {
  if (grant.rights.case !== 'postgres') return grant;
  const rights = grant.rights.value;
  const hash = createHash('sha256')
    .update(
      JSON.stringify([
        [grant.backend, grant.name, grant.identity],
        [rights.select, rights.insert, rights.update, rights.delete].map((tables) =>
          [...tables].sort(),
        ),
        masks,
        ...laterRights(rights),
        ...(database === '' ? [] : [['database', database]]),
      ]),
    )
    .digest('hex')
    .slice(0, 16);
  const value = { ...rights, groupRole: `writ_g_${hash}`, viewSchema: `writ_v_${hash}` };
  return create(GrantSchema, { ...grant, rights: { case: 'postgres', value } });
}

/** Rights that came later: a grant without them keeps the names that it had before there were any. */
function laterRights(rights: PostgresRights): unknown[] {
  const { writeMasked, execute, sequences, ddlOwner } = rights;
  const lists = [writeMasked, execute, sequences].map((names) => [...names].sort());
  const columns = rights.columns
    .map(({ table, select, insert, update }) =>
      [table, ...[select, insert, update].map((names) => [...names].sort().join('"'))].join('.'),
    )
    .sort();
  const owner = ddlOwner === undefined ? [] : [ddlOwner.role, ...[...ddlOwner.schemas].sort()];
  const settings = Object.entries(rights.settings).sort();
  const locks = rights.statements.includes('lock') ? [['lock']] : [];
  const all = [...lists, columns, owner, settings, ...locks];
  return all.every(({ length }) => length === 0) ? [] : [all];
}

/** Every classified column of a backend with its mask, in one order. */
function masksOf(backend: string, resources: readonly Resource[]): string[] {
  const masks = new Map(
    resources.flatMap(({ body }) =>
      body.case === 'columnClass' ? [[body.value.name, maskOf(body.value)] as const] : [],
    ),
  );
  return resources
    .flatMap(({ body }) =>
      body.case === 'columns' && body.value.backend === backend ? body.value.tables : [],
    )
    .flatMap(({ table, columns }) =>
      Object.entries(columns).map(([column, name]) =>
        JSON.stringify([table, column, ...(masks.get(name) ?? [undefined])]),
      ),
    )
    .sort();
}

function maskOf({ mask, rangeSize }: ColumnClass): unknown[] {
  return rangeSize === 0n ? [mask] : [mask, String(rangeSize)];
}
