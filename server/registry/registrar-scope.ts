/**
 * What a registrar may see and change (threats S15). Beyond the bounds of its record it gets no power that
 * the record does not name: not that of an admin, a registrar or a nested server, not a grant of another
 * owner's identity, and not what stands below an ID and reaches every agent that serves it.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import { listGrants } from '../access/resources.ts';
import type { RefusalCounter } from '../audit/refusal-counter.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { blob } from '../plugins/datastore/row.ts';
import type { EntryBounds } from './entry-change.ts';
import { idText } from './entry-index.ts';
import type { IdentityDefaults } from './identities.ts';
import { identityFor } from './identity-records.ts';
import {
  type BrokenBound,
  brokenBound,
  brokenPlace,
  type DefaultTtls,
} from './registrar-bounds.ts';
import { findRegistrar, type RegistrarRecord, registrarIds } from './registrars.ts';

export interface RegistrarScopesOptions {
  readonly refusals: Pick<RefusalCounter, 'count'>;
  readonly defaultTtls: DefaultTtls;
  /** As in the configuration. */
  readonly adminIds: ReadonlySet<string>;
}

/** Opens the scope of a registrar, for one call. */
export class RegistrarScopes {
  readonly #options: RegistrarScopesOptions;

  constructor(options: RegistrarScopesOptions) {
    this.#options = options;
  }

  /**
   * @param reader for changes, the transaction that makes them
   * @param spiffeId the registrar's, authenticated
   * @throws Fault PERMISSION_DENIED if it is no registrar any more
   */
  async open(reader: Reader, spiffeId: string, actor: Actor): Promise<RegistrarScope> {
    const record = await findRegistrar(reader, spiffeId);
    if (record === undefined) throw new Fault('PERMISSION_DENIED', 'this is no registrar');
    const powerful = new Set([...this.#options.adminIds, ...(await registrarIds(reader))]);
    return new RegistrarScope({ ...this.#options, reader, record, powerful, actor });
  }
}

interface ScopeOptions extends RegistrarScopesOptions {
  readonly reader: Reader;
  readonly record: RegistrarRecord;
  /** SPIFFE IDs of admins and registrars. */
  readonly powerful: ReadonlySet<string>;
  readonly actor: Actor;
}

/** The bounds of one registrar, for as long as one call lasts. */
export class RegistrarScope implements EntryBounds {
  readonly #options: ScopeOptions;
  #granted: ReadonlySet<string> | undefined;

  constructor(options: ScopeOptions) {
    this.#options = options;
  }

  /** What the record of a new SPIFFE ID says, if the registrar's record tells. */
  get identityDefaults(): IdentityDefaults | undefined {
    return this.#options.record.defaults;
  }

  /** Whether the registrar may know of an entry. */
  sees(entry: Entry): boolean {
    return this.#place(entry) === undefined;
  }

  /** @throws Fault PERMISSION_DENIED unless the registrar may change, or delete, an entry that is there */
  requireOwn(entry: Entry): void {
    const why = this.#place(entry);
    if (why !== undefined) this.#refuse(entry, why);
  }

  /** @throws Fault PERMISSION_DENIED naming the bound, unless the registrar may write an entry so */
  async requireWithin(entry: Entry): Promise<void> {
    const { record, defaultTtls } = this.#options;
    const why =
      this.#place(entry) ??
      brokenBound(record, entry, defaultTtls) ??
      (await this.#brokenSiblings(entry)) ??
      (await this.#brokenGrants(entry)) ??
      (await this.#brokenReach(entry));
    if (why !== undefined) this.#refuse(entry, why);
  }

  #place(entry: Entry): BrokenBound | undefined {
    const { record, powerful } = this.#options;
    const why = brokenPlace(record, entry);
    if (why !== undefined || !powerful.has(idText(entry.spiffeId))) return why;
    return powerOf('an admin or a registrar');
  }

  /** A second entry of such an ID would be taken for the first one. */
  async #brokenSiblings(entry: Entry): Promise<BrokenBound | undefined> {
    const siblings = await this.#entries('spiffe_id', idText(entry.spiffeId));
    return siblings.some(({ admin, downstream }) => admin || downstream)
      ? powerOf('an admin or a nested server')
      : undefined;
  }

  async #brokenGrants(entry: Entry): Promise<BrokenBound | undefined> {
    const { reader, record } = this.#options;
    const spiffeId = idText(entry.spiffeId);
    this.#granted ??= new Set((await listGrants(reader)).map(({ identity }) => identity));
    if (!this.#granted.has(spiffeId)) return undefined;
    const owner = (await identityFor(reader, spiffeId))?.owner;
    if (owner !== undefined && owner === record.defaults?.owner) return undefined;
    return {
      bound: 'owner',
      says: 'owner: this SPIFFE ID holds grants and has another owner than this registrar registers for',
    };
  }

  /** An agent that serves an ID serves the entries below it too, so all of them must be the registrar's. */
  async #brokenReach(entry: Entry): Promise<BrokenBound | undefined> {
    // A Set that grows while it is walked visits what is added, and each ID once.
    const parents = new Set([idText(entry.spiffeId)]);
    for (const parent of parents) {
      for (const child of await this.#entries('parent_id', parent)) {
        if (!this.sees(child))
          return {
            bound: 'spiffe_ids',
            says: 'spiffe_ids: entries that this registrar may not register stand below this SPIFFE ID',
          };
        parents.add(idText(child.spiffeId));
      }
    }
    return undefined;
  }

  async #entries(column: 'spiffe_id' | 'parent_id', id: string): Promise<Entry[]> {
    const rows = await this.#options.reader.all(`select body from entries where ${column} = ?`, id);
    return rows.map((row) => fromBinary(EntrySchema, blob(row, 'body')));
  }

  /** A registrar that repeats itself must not fill the log. */
  #refuse(entry: Entry, { bound, says }: BrokenBound): never {
    const { refusals, record, actor } = this.#options;
    refusals.count(`registrar|${record.spiffeId}|${bound}`, {
      type: 'registrar.refused',
      outcome: Outcome.DENIED,
      ...{ actor, reason: says, spiffeId: idText(entry.spiffeId) },
      attributes: { bound, parent_id: idText(entry.parentId) },
    });
    throw new Fault('PERMISSION_DENIED', says);
  }
}

function powerOf(whom: string): BrokenBound {
  return { bound: 'spiffe_ids', says: `spiffe_ids: this SPIFFE ID is that of ${whom}` };
}
