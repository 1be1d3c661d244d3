/**
 * Registrars are records that an operator makes (threats S15): a workload that may register entries
 * within bounds, where SPIRE's admins may do anything.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { SpiffeId, TrustDomain } from '../../identity/spiffe-id.ts';
import { type Registrar, RegistrarSchema } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, Reader, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, text } from '../plugins/datastore/row.ts';
import type { IdentityDefaults } from './identities.ts';
import { parseIdentityKind } from './identity-records.ts';
import { checkRegistrar } from './registrar-fields.ts';

/** Within which bounds a registrar may change entries, as its record says it. */
export interface RegistrarRecord {
  readonly spiffeId: string;
  /** IDs, and prefixes of whole segments that end in `/*`. */
  readonly spiffeIds: readonly string[];
  /** As `spiffeIds`. */
  readonly parents: readonly string[];
  /** `type` or `type:value`. */
  readonly selectors: readonly string[];
  /** Lower-case names, and `*.` with a domain. */
  readonly dnsNames: readonly string[];
  /** Names of trust domains. */
  readonly federatesWith: readonly string[];
  readonly hint: boolean;
  /** 0: the server's default TTL. */
  readonly maxX509SvidTtlSeconds: number;
  /** 0: the server's default TTL. */
  readonly maxJwtSvidTtlSeconds: number;
  readonly defaults: IdentityDefaults | undefined;
  readonly createdAt: Date;
}

/** The record of a SPIFFE ID, undefined if it is no registrar. */
export async function findRegistrar(
  reader: Reader,
  spiffeId: SpiffeId | string,
): Promise<RegistrarRecord | undefined> {
  const row = await reader.get('select body from registrars where spiffe_id = ?', String(spiffeId));
  return row === undefined ? undefined : recordFromRow(row);
}

/** All registrars, by SPIFFE ID. */
export async function listRegistrars(reader: Reader): Promise<RegistrarRecord[]> {
  const rows = await reader.all('select body from registrars order by spiffe_id');
  return rows.map(recordFromRow);
}

/** The SPIFFE IDs of all registrars. */
export async function registrarIds(reader: Reader): Promise<ReadonlySet<string>> {
  const rows = await reader.all('select spiffe_id from registrars');
  return new Set(rows.map((row) => text(row, 'spiffe_id')));
}

export interface RegistrarsOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly trustDomain: TrustDomain;
}

/** Makes, changes and deletes registrars; each acts at its next call. */
export class Registrars {
  readonly #options: RegistrarsOptions;

  constructor(options: RegistrarsOptions) {
    this.#options = options;
  }

  /**
   * Makes a registrar, or changes all of it.
   * @param asked untrusted
   * @throws Fault INVALID_ARGUMENT naming the field
   */
  async put(asked: Registrar, actor: Actor): Promise<RegistrarRecord> {
    const { store, clock, trustDomain } = this.#options;
    const checked = checkRegistrar(asked, trustDomain);
    return store.transaction(async (tx) => {
      const known = await findRegistrar(tx, checked.spiffeId);
      const createdAt = known?.createdAt ?? clock.now();
      const body = create(RegistrarSchema, {
        ...checked,
        createdAt: timestampFromDate(createdAt),
      });
      await tx.run(
        `insert into registrars (spiffe_id, body, created_at_ms) values (?, ?, ?)
         on conflict (spiffe_id) do update set body = excluded.body`,
        body.spiffeId,
        toBinary(RegistrarSchema, body),
        createdAt.getTime(),
      );
      const record = recordOf(body);
      await this.#tell(
        tx,
        known === undefined ? 'registrar.created' : 'registrar.updated',
        record,
        actor,
      );
      return record;
    });
  }

  /** Its entries stay. @throws Fault NOT_FOUND */
  delete(spiffeId: SpiffeId, actor: Actor): Promise<void> {
    return this.#options.store.transaction(async (tx) => {
      const known = await findRegistrar(tx, spiffeId);
      if (known === undefined) throw new Fault('NOT_FOUND', 'no registrar of that SPIFFE ID');
      await tx.run('delete from registrars where spiffe_id = ?', known.spiffeId);
      await this.#tell(tx, 'registrar.deleted', known, actor);
    });
  }

  #tell(tx: Transaction, type: string, record: RegistrarRecord, actor: Actor): Promise<void> {
    const { spiffeId, spiffeIds, parents, selectors } = record;
    return this.#options.audit.append(tx, {
      ...{ type, outcome: Outcome.SUCCESS, actor, spiffeId },
      attributes: {
        spiffe_ids: listed(spiffeIds),
        parents: listed(parents),
        selectors: listed(selectors),
      },
    });
  }
}

/** As the API shows it. */
export function registrarMessage(record: RegistrarRecord) {
  const { defaults, createdAt, spiffeIds, parents, selectors, dnsNames, federatesWith } = record;
  return {
    ...record,
    spiffeIds: [...spiffeIds],
    parents: [...parents],
    selectors: [...selectors],
    dnsNames: [...dnsNames],
    federatesWith: [...federatesWith],
    defaults,
    createdAt: timestampFromDate(createdAt),
  };
}

function recordFromRow(row: Row): RegistrarRecord {
  return recordOf(fromBinary(RegistrarSchema, blob(row, 'body')));
}

function recordOf({ $typeName, createdAt, defaults, ...rest }: Registrar): RegistrarRecord {
  if (createdAt === undefined) throw new Error('a registrar without its time');
  return {
    ...rest,
    defaults: defaults && { ...defaults, kind: parseIdentityKind(defaults.kind) },
    createdAt: timestampDate(createdAt),
  };
}

function listed(items: readonly string[]): string {
  return items.join(' ').slice(0, 2048);
}
