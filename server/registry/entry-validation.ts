import { clone, create } from '@bufbuild/protobuf';
import type { SpiffeId, TrustDomain } from '../../identity/spiffe-id.ts';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { SelectorSchema } from '../../proto/gen/spire/api/types/selector_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { checkedSelectors, selectorsToJson } from './selectors.ts';
import { memberId } from './spiffe-id-message.ts';

const ID = /^[A-Za-z0-9._-]{1,255}$/;
const MAXIMUM_HINT = 1024;
const MAXIMUM_DNS_NAMES = 100;
const MAXIMUM_DNS_NAME = 255;
const MAXIMUM_DNS_LABEL = 63;
/** The end of year 9999, the last that a certificate can name. */
const LAST_SECOND = 253_402_300_799n;

/** An entry whose fields have been checked, selectors sorted. */
export interface CheckedEntry {
  readonly entry: Entry;
  readonly spiffeId: SpiffeId;
  readonly parentId: SpiffeId;
  /** As the store's column holds them. */
  readonly selectors: string;
}

/**
 * Source: what SPIRE's entry API refuses (facts/spiffe.md 2.3, 3.2), and that names under `/spire` and
 * `/writ` are not a registrar's to give (threats S1).
 * @param entry untrusted; not changed
 * @throws Fault INVALID_ARGUMENT, FAILED_PRECONDITION, ALREADY_EXISTS for a doubled selector
 */
export function checkEntry(
  entry: Entry,
  { trustDomain, allowReserved }: { trustDomain: TrustDomain; allowReserved: boolean },
): CheckedEntry {
  const spiffeId = memberId(entry.spiffeId, trustDomain, 'spiffe_id');
  const parentId = memberId(entry.parentId, trustDomain, 'parent_id');
  if (spiffeId.isReserved && !allowReserved)
    throw invalid(`spiffe_id ${spiffeId.path} is reserved`);
  const selectors = checkedSelectors(entry.selectors);
  checkLimits(entry);
  entry.dnsNames.forEach(checkDnsName);
  checkFederation(entry, trustDomain);
  if (entry.storeSvid && new Set(selectors.map(({ type }) => type)).size > 1)
    throw invalid('store_svid needs selectors of one type');
  const checked = clone(EntrySchema, entry);
  checked.selectors = selectors.map((selector) => create(SelectorSchema, selector));
  return { entry: checked, spiffeId, parentId, selectors: selectorsToJson(selectors) };
}

function checkLimits(entry: Entry): void {
  if (entry.id !== '' && !ID.test(entry.id))
    throw invalid('id: write up to 255 of A-Z a-z 0-9 . _ -');
  if (entry.x509SvidTtl < 0) throw invalid('x509_svid_ttl is negative');
  if (entry.jwtSvidTtl < 0) throw invalid('jwt_svid_ttl is negative');
  if (entry.expiresAt < 0n || entry.expiresAt > LAST_SECOND)
    throw invalid('expires_at is no Unix second up to year 9999');
  if (Buffer.byteLength(entry.hint) > MAXIMUM_HINT)
    throw invalid(`hint is longer than ${MAXIMUM_HINT} bytes`);
  if (entry.dnsNames.length > MAXIMUM_DNS_NAMES)
    throw invalid(`more than ${MAXIMUM_DNS_NAMES} dns_names`);
}

/** As SPIRE, which lets a space through: such a name is refused when it is to be signed. */
function checkDnsName(name: string): void {
  const labels = name.split('.');
  const bad = labels.some(
    (label) =>
      label === '' ||
      label.length > MAXIMUM_DNS_LABEL ||
      label.startsWith('-') ||
      label.endsWith('-'),
  );
  if (bad || name.trim() === '' || name.length > MAXIMUM_DNS_NAME || name.includes('\0'))
    throw invalid(`dns_names: ${JSON.stringify(name.slice(0, 80))} is no DNS name`);
}

/** This server federates with nobody yet, so no other trust domain has a bundle here. */
function checkFederation({ federatesWith }: Entry, trustDomain: TrustDomain): void {
  const [first] = federatesWith;
  if (first === undefined) return;
  if (federatesWith.includes(trustDomain))
    throw invalid(`federates_with names ${trustDomain} itself`);
  const shown = JSON.stringify(first.slice(0, 80));
  throw new Fault('FAILED_PRECONDITION', `federates_with: no bundle of trust domain ${shown}`);
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
