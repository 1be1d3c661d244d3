/** Where the bundles of foreign trust domains are fetched from, and how those places are proved. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { SpiffeId, type TrustDomain } from '../../identity/spiffe-id.ts';
import {
  FederationRelationshipSchema,
  type FederationRelationship as Message,
} from '../../proto/gen/spire/api/types/federationrelationship_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Reader, Transaction } from '../plugins/datastore/datastore.ts';
import { blob } from '../plugins/datastore/row.ts';
import { bundleFromMessage, trustDomainOf } from './bundle-message.ts';
import type { FederatedBundles } from './federated-bundles.ts';

const LONGEST_URL = 2048;

/** A place that serves the bundle of a foreign trust domain. */
export interface FederationRelationship {
  readonly trustDomain: TrustDomain;
  /** https, as it was given. */
  readonly url: string;
  /** SPIFFE ID that the endpoint's X509-SVID must have; undefined: Web PKI proves it. */
  readonly endpointId: SpiffeId | undefined;
}

export interface FederationRelationshipsOptions {
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly bundles: FederatedBundles;
  readonly trustDomain: TrustDomain;
  /** Told after each commit that changed where bundles come from. */
  onChanged(): void;
}

export class FederationRelationships {
  readonly #options: FederationRelationshipsOptions;

  constructor(options: FederationRelationshipsOptions) {
    this.#options = options;
  }

  /**
   * @param message untrusted; its bundle, if it has one, becomes the trust domain's
   * @throws Fault INVALID_ARGUMENT, ALREADY_EXISTS or NOT_FOUND as `existence` says
   */
  async put(
    tx: Transaction,
    message: Message,
    existence: 'new' | 'known',
    actor: Actor,
  ): Promise<FederationRelationship> {
    const { clock, audit, bundles, trustDomain: own } = this.#options;
    const relationship = checkRelationship(message, own);
    const { trustDomain, url, endpointId } = relationship;
    const known = await findRelationship(tx, trustDomain);
    if (existence === 'new' && known !== undefined)
      throw new Fault('ALREADY_EXISTS', 'federation relationship already exists');
    if (existence === 'known' && known === undefined)
      throw new Fault('NOT_FOUND', 'federation relationship does not exist');
    if (message.trustDomainBundle !== undefined) {
      const bundle = bundleFromMessage(message.trustDomainBundle);
      if (bundle.trustDomain !== trustDomain)
        throw invalid('trust_domain_bundle: it is of another trust domain');
      await bundles.put(tx, bundle, 'any', actor);
    }
    await tx.run(
      `insert into federation_relationships (trust_domain, body, created_at_ms) values (?, ?, ?)
       on conflict (trust_domain) do update set body = excluded.body`,
      trustDomain,
      toBinary(FederationRelationshipSchema, relationshipMessage(relationship)),
      clock.now().getTime(),
    );
    await audit.append(tx, {
      type: known === undefined ? 'federation.created' : 'federation.updated',
      ...{ outcome: Outcome.SUCCESS, actor },
      attributes: {
        trust_domain: trustDomain,
        url,
        ...(endpointId !== undefined && { endpoint_spiffe_id: endpointId.toString() }),
      },
    });
    tx.afterCommit(() => this.#options.onChanged());
    return relationship;
  }

  /** The trust domain's bundle stays. @throws Fault NOT_FOUND */
  async delete(tx: Transaction, trustDomain: TrustDomain, actor: Actor): Promise<void> {
    const { audit } = this.#options;
    const deleted = await tx.run(
      'delete from federation_relationships where trust_domain = ?',
      trustDomain,
    );
    if (deleted === 0) throw new Fault('NOT_FOUND', 'federation relationship not found');
    await audit.append(tx, {
      ...{ type: 'federation.deleted', outcome: Outcome.SUCCESS, actor },
      attributes: { trust_domain: trustDomain },
    });
    tx.afterCommit(() => this.#options.onChanged());
  }
}

/** Undefined if there is none. */
export async function findRelationship(
  reader: Reader,
  trustDomain: string,
): Promise<FederationRelationship | undefined> {
  const row = await reader.get(
    'select body from federation_relationships where trust_domain = ?',
    trustDomain,
  );
  return row === undefined ? undefined : relationshipFromBody(blob(row, 'body'));
}

/** All of them, by trust domain. */
export async function listRelationships(reader: Reader): Promise<FederationRelationship[]> {
  const rows = await reader.all('select body from federation_relationships order by trust_domain');
  return rows.map((row) => relationshipFromBody(blob(row, 'body')));
}

/** SPIRE's message for it, without the bundle. */
export function relationshipMessage(relationship: FederationRelationship): Message {
  const { trustDomain, url, endpointId } = relationship;
  return create(FederationRelationshipSchema, {
    trustDomain,
    bundleEndpointUrl: url,
    bundleEndpointProfile:
      endpointId === undefined
        ? { case: 'httpsWeb', value: {} }
        : { case: 'httpsSpiffe', value: { endpointSpiffeId: endpointId.toString() } },
  });
}

function relationshipFromBody(body: Uint8Array): FederationRelationship {
  return checkRelationship(fromBinary(FederationRelationshipSchema, body), undefined);
}

function checkRelationship(message: Message, own: TrustDomain | undefined): FederationRelationship {
  const trustDomain = trustDomainOf(message.trustDomain);
  if (trustDomain === own)
    throw invalid("a federation relationship with the server's own trust domain is not allowed");
  return {
    trustDomain,
    url: endpointUrl(message.bundleEndpointUrl),
    endpointId: endpointIdOf(message),
  };
}

/** Source: SPIFFE Federation 5.1: https, and no user information. */
function endpointUrl(text: string): string {
  const field = 'bundle_endpoint_url';
  if (text.length > LONGEST_URL) throw invalid(`${field} is longer than ${LONGEST_URL}`);
  if (/[\s\p{Cc}]/u.test(text) || !URL.canParse(text)) throw invalid(`${field} is no URL`);
  const url = new URL(text);
  if (url.protocol !== 'https:') throw invalid(`${field}: the scheme must be https`);
  if (url.username !== '' || url.password !== '')
    throw invalid(`${field} must not contain user information`);
  if (url.hash !== '') throw invalid(`${field} must not contain a fragment`);
  return text;
}

function endpointIdOf({ bundleEndpointProfile: profile }: Message): SpiffeId | undefined {
  switch (profile.case) {
    case 'httpsWeb':
      return undefined;
    case 'httpsSpiffe':
      try {
        return SpiffeId.parse(profile.value.endpointSpiffeId);
      } catch (error) {
        const why = error instanceof Fault ? error.message : 'malformed';
        throw invalid(`https_spiffe.endpoint_spiffe_id: ${why}`);
      }
    default:
      throw invalid('bundle_endpoint_profile is missing: https_web or https_spiffe');
  }
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
