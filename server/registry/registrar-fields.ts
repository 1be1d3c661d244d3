import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { Registrar } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { parseIdentityKind } from './identity-records.ts';
import { withoutToken } from './join-token-ids.ts';
import { checkedSelectors } from './selectors.ts';
import { memberIdFromText, trustDomainFromText } from './spiffe-id-message.ts';

const MAXIMUM_ITEMS = 256;
const MAXIMUM_TTL_SECONDS = 7 * 24 * 60 * 60;
const MAXIMUM_LIFE_SECONDS = 3650 * 24 * 60 * 60;
const LINES = { owner: 256, purpose: 1024, environment: 64 } as const;
const SELECTOR_TYPE = /^[^:\0]{1,64}$/;
const DNS_NAME =
  /^(?:\*\.)?(?=.{1,255}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*$/;
/** What a prefix of parents cannot be: it would take in the server itself, and so node aliases. */
const ABOVE_AGENTS = /^\/spire(?:\/server)?$/;

/** What a registrar's record says, in one spelling. */
export type CheckedRegistrar = Omit<Registrar, '$typeName' | 'createdAt' | '$unknown'>;

/**
 * @param asked untrusted
 * @throws Fault INVALID_ARGUMENT naming the field
 */
export function checkRegistrar(asked: Registrar, trustDomain: TrustDomain): CheckedRegistrar {
  const id = memberIdFromText(asked.spiffeId, trustDomain, 'spiffe_id');
  if (id.isReserved) throw invalid(`spiffe_id: ${id.path} is reserved`);
  const { maxX509SvidTtlSeconds, maxJwtSvidTtlSeconds, hint } = asked;
  for (const [name, seconds] of Object.entries({ maxX509SvidTtlSeconds, maxJwtSvidTtlSeconds }))
    if (seconds > MAXIMUM_TTL_SECONDS) throw invalid(`${snakeCase(name)}: write at most 7 days`);
  return {
    spiffeId: id.toString(),
    spiffeIds: needed('spiffe_ids', asked.spiffeIds).map((one) => ownPattern(one, trustDomain)),
    parents: needed('parents', asked.parents).map((one) => parentPattern(one, trustDomain)),
    selectors: needed('selectors', asked.selectors).map(selectorBound),
    dnsNames: bounded('dns_names', asked.dnsNames).map(dnsPattern),
    federatesWith: bounded('federates_with', asked.federatesWith).map((one) =>
      otherTrustDomain(one, trustDomain),
    ),
    ...{ hint, maxX509SvidTtlSeconds, maxJwtSvidTtlSeconds },
    defaults: asked.defaults && checkedDefaults(asked.defaults),
  };
}

function bounded(name: string, items: readonly string[]): readonly string[] {
  if (items.length > MAXIMUM_ITEMS) throw invalid(`${name}: write at most ${MAXIMUM_ITEMS}`);
  return items;
}

/** A list that bounds every entry; without it no entry could be made. */
function needed(name: string, items: readonly string[]): readonly string[] {
  if (items.length === 0) throw invalid(`${name}: write at least one`);
  return bounded(name, items);
}

function ownPattern(text: string, trustDomain: TrustDomain): string {
  const { id, path, suffix } = idPattern(text, trustDomain, 'spiffe_ids');
  if (/^\/(?:spire|writ)(?:\/|$)/.test(path)) throw invalid(`spiffe_ids: ${path} is reserved`);
  return id + suffix;
}

function parentPattern(text: string, trustDomain: TrustDomain): string {
  const { id, path, suffix } = idPattern(text, trustDomain, 'parents');
  if (/^\/writ(?:\/|$)/.test(path)) throw invalid(`parents: ${path} is reserved`);
  if (suffix !== '' && ABOVE_AGENTS.test(path))
    throw invalid(
      'parents: write /spire/agent/* for agents, and /spire/server by itself for node aliases',
    );
  return id + suffix;
}

/** An ID, or the part of it that stands before `/*`. */
function idPattern(text: string, trustDomain: TrustDomain, name: string) {
  const suffix = text.endsWith('/*') ? '/*' : '';
  const id = text.slice(0, text.length - suffix.length);
  if (suffix !== '' && id === `spiffe://${trustDomain}`) return { id, path: '', suffix };
  const parsed = withoutToken(memberIdFromText(id, trustDomain, name));
  return { id: parsed.toString(), path: parsed.path, suffix };
}

function selectorBound(text: string): string {
  const colon = text.indexOf(':');
  if (colon < 0) {
    if (!SELECTOR_TYPE.test(text)) throw invalid('selectors: write type or type:value');
    return text;
  }
  const selector = { type: text.slice(0, colon), value: text.slice(colon + 1) };
  const [checked] = named('selectors', () => checkedSelectors([selector]));
  return `${checked?.type}:${checked?.value}`;
}

function dnsPattern(text: string): string {
  const name = text.toLowerCase();
  if (!DNS_NAME.test(name))
    throw invalid('dns_names: write a DNS name, or *. and a domain for the names below it');
  return name;
}

function otherTrustDomain(text: string, trustDomain: TrustDomain): string {
  const name = named('federates_with', () => trustDomainFromText(text));
  if (name === trustDomain) throw invalid(`federates_with: ${name} is this trust domain`);
  return name;
}

function checkedDefaults(defaults: NonNullable<Registrar['defaults']>) {
  for (const [name, limit] of Object.entries(LINES)) {
    const value = defaults[name as keyof typeof LINES];
    if (value.trim() === '' || value.length > limit || /\p{Cc}/u.test(value))
      throw invalid(`defaults.${name}: write a line of 1 to ${limit} characters`);
  }
  parseIdentityKind(defaults.kind);
  const { expiresInSeconds } = defaults;
  if (expiresInSeconds === 0 || expiresInSeconds > MAXIMUM_LIFE_SECONDS)
    throw invalid('defaults.expires_in: write 1 s to 3650 days');
  return defaults;
}

/** What `parse` throws, under the name of the field. */
function named<T>(field: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw invalid(`${field}: ${error instanceof Fault ? error.message : 'malformed'}`);
  }
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
