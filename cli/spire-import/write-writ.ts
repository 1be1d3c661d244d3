/** Puts what was read from a SPIRE server into ours, in the order in which one part needs the other. */
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { TrustDomain } from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import type { Bundle as BundleMessage } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import type { Entry as EntryMessage } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Status } from '../../proto/gen/spire/api/types/status_pb.ts';
import { AgentRegistryService, IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { IdentityTemplate } from '../identity-flags.ts';
import { idText } from '../spire-text.ts';
import type { VerbIo } from '../verb.ts';
import type { SpireContent } from './read-spire.ts';

const BATCH = 500;
const OK = 0;
const ALREADY_EXISTS = 6;

/** How many of a kind became what, and a line for each that was refused. */
export interface Moved {
  readonly kind: string;
  readonly imported: number;
  /** Were here before, and stay as they are here. */
  readonly known: number;
  readonly refused: readonly string[];
}

export class WritTarget {
  readonly #io: VerbIo;

  constructor(io: VerbIo) {
    this.#io = io;
  }

  /** Has the SVIDs that SPIRE signed verified here too: its roots and JWT keys join our bundle. */
  async addAuthorities({ x509Authorities, jwtAuthorities }: BundleMessage): Promise<Moved> {
    await this.#io
      .admin(Bundle)
      .appendBundle({ x509Authorities, jwtAuthorities }, { signal: this.#io.signal });
    const imported = x509Authorities.length + jwtAuthorities.length;
    return { kind: 'authorities', imported, known: 0, refused: [] };
  }

  async addFederatedBundles(bundle: SpireContent['federatedBundles']): Promise<Moved> {
    return this.#inBatches('federated bundles', bundle, async (part) => {
      const { results } = await this.#io
        .admin(Bundle)
        .batchSetFederatedBundle({ bundle: [...part] }, { signal: this.#io.signal });
      return results.map(({ status }, at) => named(status, part[at]?.trustDomain));
    });
  }

  async addRelationships(all: SpireContent['relationships']): Promise<Moved> {
    return this.#inBatches('federation relationships', all, async (part) => {
      const { results } = await this.#io
        .admin(TrustDomain)
        .batchCreateFederationRelationship(
          { federationRelationships: [...part] },
          { signal: this.#io.signal },
        );
      return results.map(({ status }, at) => named(status, part[at]?.trustDomain));
    });
  }

  /** Makes the records that are missing for the SPIFFE IDs of the entries. */
  async addIdentities(
    entries: readonly EntryMessage[],
    template: IdentityTemplate,
  ): Promise<Moved> {
    const service = this.#io.admin(IdentityService);
    const { signal } = this.#io;
    const { identities } = await service.listIdentities({}, { signal });
    const known = new Set(identities.map(({ spiffeId }) => spiffeId));
    const asked = new Set(entries.map(({ spiffeId }) => idText(spiffeId)));
    const missing = [...asked].filter((id) => !known.has(id));
    for (const spiffeId of missing)
      await service.putIdentity({ identity: { ...template, spiffeId } }, { signal });
    return {
      kind: 'identities',
      imported: missing.length,
      known: asked.size - missing.length,
      refused: [],
    };
  }

  async addEntries(entries: readonly EntryMessage[]): Promise<Moved> {
    return this.#inBatches('entries', entries, async (part) => {
      const { results } = await this.#io
        .admin(Entry)
        .batchCreateEntry({ entries: [...part] }, { signal: this.#io.signal });
      return results.map(({ status }, at) =>
        named(status, `${part[at]?.id} (${idText(part[at]?.spiffeId)})`),
      );
    });
  }

  async addAgents(agents: SpireContent['agents']): Promise<Moved> {
    return this.#inBatches('agents', agents, async (part) => {
      const { results } = await this.#io
        .admin(AgentRegistryService)
        .importAgents({ agents: [...part] }, { signal: this.#io.signal });
      return results.map(({ outcome }, at): ItemOutcome => {
        if (outcome !== 'expired') return { outcome: outcome === 'known' ? 'known' : 'imported' };
        return { outcome: 'refused', line: `${idText(part[at]?.id)}: its SVID has ended` };
      });
    });
  }

  async #inBatches<T>(
    kind: string,
    all: readonly T[],
    send: (part: readonly T[]) => Promise<ItemOutcome[]>,
  ): Promise<Moved> {
    const outcomes: ItemOutcome[] = [];
    for (let at = 0; at < all.length; at += BATCH)
      outcomes.push(...(await send(all.slice(at, at + BATCH))));
    const count = (wanted: string) => outcomes.filter(({ outcome }) => outcome === wanted).length;
    const refused = outcomes.flatMap((one) => (one.outcome === 'refused' ? [one.line] : []));
    return { kind, imported: count('imported'), known: count('known'), refused };
  }
}

type ItemOutcome =
  | { readonly outcome: 'imported' | 'known' }
  | { readonly outcome: 'refused'; readonly line: string };

function named(status: Status | undefined, name: string | undefined): ItemOutcome {
  const { code = OK, message = '' } = status ?? {};
  if (code === OK) return { outcome: 'imported' };
  if (code === ALREADY_EXISTS) return { outcome: 'known' };
  return { outcome: 'refused', line: `${name}: ${message}` };
}
