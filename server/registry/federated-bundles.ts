/** Bundles of foreign trust domains: what the SVIDs of workloads elsewhere are verified with here. */
import { setImmediate as breathe } from 'node:timers/promises';
import { create, toBinary } from '@bufbuild/protobuf';
import type { Bundle } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { BundleSchema } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import { EntryMaskSchema, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Transaction } from '../plugins/datastore/datastore.ts';
import { bundleMessage } from './bundle-message.ts';
import { type Entries, findEntry } from './entries.ts';
import { federatedEntryIds } from './entry-federation.ts';
import { findFederatedBundle } from './federated-bundle-rows.ts';
import type { RegistryChanges } from './registry-changes.ts';

export interface FederatedBundlesOptions {
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly changes: RegistryChanges;
  readonly entries: Entries;
  readonly trustDomain: TrustDomain;
}

/** Entries between two looks at what else there is to do: a few milliseconds. */
const ENTRIES_AT_ONCE = 10;

/** Whether a bundle has to be new, has to be there already, or neither. */
export type Existence = 'new' | 'known' | 'any';

/** What becomes of entries that federate with a trust domain whose bundle goes. */
export type EntriesMode = 'restrict' | 'delete' | 'dissociate';

const ACTS = { new: 'creating', known: 'updating', any: 'setting' } as const;

export class FederatedBundles {
  readonly #options: FederatedBundlesOptions;

  constructor(options: FederatedBundlesOptions) {
    this.#options = options;
  }

  /** @throws Fault INVALID_ARGUMENT for the server's own, ALREADY_EXISTS or NOT_FOUND as `existence` says */
  async put(tx: Transaction, bundle: Bundle, existence: Existence, actor: Actor): Promise<void> {
    const { clock, audit, changes, trustDomain: own } = this.#options;
    const { trustDomain } = bundle;
    if (trustDomain === own) {
      const what = "a federated bundle for the server's own trust domain";
      throw new Fault('INVALID_ARGUMENT', `${ACTS[existence]} ${what} is not allowed`);
    }
    const known = await findFederatedBundle(tx, trustDomain);
    if (existence === 'new' && known !== undefined)
      throw new Fault('ALREADY_EXISTS', 'bundle already exists');
    if (existence === 'known' && known === undefined)
      throw new Fault('NOT_FOUND', 'bundle not found');
    await tx.run(
      `insert into federated_bundles (trust_domain, body, updated_at_ms) values (?, ?, ?)
       on conflict (trust_domain) do update set body = excluded.body,
         updated_at_ms = excluded.updated_at_ms`,
      trustDomain,
      toBinary(BundleSchema, bundleMessage(bundle)),
      clock.now().getTime(),
    );
    await audit.append(tx, {
      type: known === undefined ? 'federation.bundle.created' : 'federation.bundle.updated',
      outcome: Outcome.SUCCESS,
      actor,
      attributes: {
        trust_domain: trustDomain,
        x509_authorities: String(bundle.x509Authorities.length),
        jwt_authorities: String(bundle.jwtAuthorities.length),
        sequence_number: String(bundle.sequenceNumber),
      },
    });
    await changes.record(tx, { kind: 'any' });
  }

  /** @throws Fault INVALID_ARGUMENT for the server's own, NOT_FOUND, FAILED_PRECONDITION */
  async delete(
    tx: Transaction,
    trustDomain: TrustDomain,
    mode: EntriesMode,
    actor: Actor,
  ): Promise<void> {
    const { audit, changes, entries, trustDomain: own } = this.#options;
    if (trustDomain === own)
      throw new Fault(
        'INVALID_ARGUMENT',
        'removing the bundle for the server trust domain is not allowed',
      );
    if ((await findFederatedBundle(tx, trustDomain)) === undefined)
      throw new Fault('NOT_FOUND', 'bundle not found');
    const federated = await federatedEntryIds(tx, trustDomain);
    if (mode === 'restrict' && federated.length > 0)
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot delete bundle; federated with ${federated.length} registration entries`,
      );
    for (const [at, id] of federated.entries()) {
      if (at % ENTRIES_AT_ONCE === ENTRIES_AT_ONCE - 1) await breathe();
      if (mode === 'delete') await entries.delete(tx, id, { actor });
      else await this.#dissociate(tx, id, trustDomain, actor);
    }
    await tx.run('delete from federated_bundles where trust_domain = ?', trustDomain);
    await audit.append(tx, {
      ...{ type: 'federation.bundle.deleted', outcome: Outcome.SUCCESS, actor },
      attributes: { trust_domain: trustDomain, entries: String(federated.length), mode },
    });
    await changes.record(tx, { kind: 'any' });
  }

  async #dissociate(
    tx: Transaction,
    id: string,
    trustDomain: TrustDomain,
    actor: Actor,
  ): Promise<void> {
    const entry = await findEntry(tx, id);
    const kept = entry?.federatesWith.filter((one) => one !== trustDomain) ?? [];
    const update = create(EntrySchema, { id, federatesWith: kept });
    const mask = create(EntryMaskSchema, { federatesWith: true });
    await this.#options.entries.update(tx, update, mask, { actor, allowReserved: true });
  }
}
