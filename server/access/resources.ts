import { fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type Backend,
  type Grant,
  type Resource,
  ResourceSchema,
} from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { Datastore, Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, text } from '../plugins/datastore/row.ts';
import { withGrantNames } from './grant-names.ts';

const KINDS = {
  backend: 'Backend',
  grant: 'Grant',
  columnClass: 'ColumnClass',
  columns: 'Columns',
  lock: 'Lock',
} as const;

/** The kinds of resources, as users write them. */
export type ResourceKind = (typeof KINDS)[keyof typeof KINDS];

/** The kind that a resource's body makes it. */
export function resourceKind(resource: Resource): ResourceKind {
  if (resource.body.case === undefined) throw new Error(`resource ${resource.name} has no body`);
  return KINDS[resource.body.case];
}

/** What is declared: rows of (kind, name), and a count of their changes that gateways follow. */
export class Resources {
  readonly #store: Datastore;
  readonly #revision = new Watched(0n);

  constructor(store: Datastore) {
    this.#store = store;
  }

  /** Rises with each change that gateways must learn; locks reach them as revocations instead. */
  get revision(): WatchedSource<bigint> {
    return this.#revision;
  }

  /** Takes the revision over from the store; once, before the first gateway is served. */
  async load(): Promise<void> {
    this.#advance(await storedRevision(this.#store));
  }

  /** Writes one resource, new or changed. */
  async put(tx: Transaction, resource: Resource, now: Date): Promise<void> {
    const kind = resourceKind(resource);
    await tx.run(
      `insert into resources (kind, name, generation, body, updated_at_ms) values (?, ?, ?, ?, ?)
       on conflict (kind, name) do update set
         generation = excluded.generation, body = excluded.body, updated_at_ms = excluded.updated_at_ms`,
      kind,
      resource.name,
      Number(resource.generation),
      toBinary(ResourceSchema, resource),
      now.getTime(),
    );
    await this.#changed(tx, kind);
  }

  /** Resolves with whether it was there. */
  async delete(tx: Transaction, kind: ResourceKind, name: string): Promise<boolean> {
    const deleted = await tx.run('delete from resources where kind = ? and name = ?', kind, name);
    if (deleted > 0) await this.#changed(tx, kind);
    return deleted > 0;
  }

  async #changed(tx: Transaction, kind: ResourceKind): Promise<void> {
    if (kind !== 'Lock') await this.touch(tx);
  }

  /** Raises the revision for what gateways must learn though no resource has changed. */
  async touch(tx: Transaction): Promise<void> {
    const revision = (await storedRevision(tx)) + 1n;
    await tx.run(
      `insert into meta (key, value) values ('resource_revision', ?)
       on conflict (key) do update set value = excluded.value`,
      revision.toString(),
    );
    tx.afterCommit(() => this.#advance(revision));
  }

  #advance(revision: bigint): void {
    if (revision > this.#revision.value) this.#revision.set(revision);
  }
}

/** All resources, or those of one kind, as they were declared, by kind and name. */
export async function listResources(reader: Reader, kind?: ResourceKind): Promise<Resource[]> {
  const rows =
    kind === undefined
      ? await reader.all('select body from resources order by kind, name')
      : await reader.all('select body from resources where kind = ? order by name', kind);
  return rows.map((row) => fromBinary(ResourceSchema, blob(row, 'body')));
}

/** All resources, each grant with the names of its roles. */
export async function listNamedResources(reader: Reader): Promise<Resource[]> {
  return withGrantNames(await listResources(reader));
}

/** One resource, undefined if there is none of that name. */
export async function findResource(
  reader: Reader,
  kind: ResourceKind,
  name: string,
): Promise<Resource | undefined> {
  const row = await reader.get(
    'select body from resources where kind = ? and name = ?',
    kind,
    name,
  );
  return row === undefined ? undefined : fromBinary(ResourceSchema, blob(row, 'body'));
}

/** All grants with the names of their roles, by name. */
export async function listGrants(reader: Reader): Promise<Grant[]> {
  const found = await listNamedResources(reader);
  return found.flatMap(({ body }) => (body.case === 'grant' ? [body.value] : []));
}

/** One grant as it was declared, undefined if there is none of that name. */
export async function findGrant(reader: Reader, name: string): Promise<Grant | undefined> {
  const body = (await findResource(reader, 'Grant', name))?.body;
  return body?.case === 'grant' ? body.value : undefined;
}

/** One backend, undefined if there is none of that name. */
export async function findBackend(reader: Reader, name: string): Promise<Backend | undefined> {
  const body = (await findResource(reader, 'Backend', name))?.body;
  return body?.case === 'backend' ? body.value : undefined;
}

/** The backends that SSH host certificates may name. */
export async function sshBackendNames(reader: Reader): Promise<ReadonlySet<string>> {
  const declared = (await listResources(reader, 'Backend')).map(({ body }) => body);
  return new Set(
    declared.flatMap((body) =>
      body.case === 'backend' && body.value.type.case === 'ssh' ? [body.value.name] : [],
    ),
  );
}

/** Rises with each change of what `listGrants` returns. */
export async function storedRevision(reader: Reader): Promise<bigint> {
  const row = await reader.get(`select value from meta where key = 'resource_revision'`);
  return row === undefined ? 0n : BigInt(text(row, 'value'));
}
