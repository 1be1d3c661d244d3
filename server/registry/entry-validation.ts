import { domainToASCII } from 'node:url';
import { create } from '@bufbuild/protobuf';
import type { SpiffeId, TrustDomain } from '../../identity/spiffe-id.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { SelectorSchema } from '../../proto/gen/spire/api/types/selector_pb.ts';
import { type SPIFFEID, SPIFFEIDSchema } from '../../proto/gen/spire/api/types/spiffeid_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { withoutToken } from './join-token-ids.ts';
import { checkedSelectors, type Selector, selectorsToJson } from './selectors.ts';
import { idMessage, memberId, trustDomainFromText } from './spiffe-id-message.ts';

const ID = /^[A-Za-z0-9._-]{1,255}$/;
const MAXIMUM_HINT = 1024;
const MAXIMUM_DNS_NAMES = 100;
const MAXIMUM_DNS_NAME = 255;
const MAXIMUM_FEDERATES_WITH = 256;
/** Printable ASCII but the dot and the asterisk. */
const DNS_LABEL = /^(?!-)[ -)+,\-/-~]{1,63}(?<!-)$/;
/** The end of year 9999, the last that a certificate can name. */
const LAST_SECOND = 253_402_300_799n;

/** Tools that any program may run, and that run what they are told. */
const TOOL = /(?:^|\/)(ssh|scp|sftp|node|java|python|python3(?:\.[0-9]+)?)$/;
const PATH = 'path:';

/** An entry whose fields have been checked, selectors sorted. */
export interface CheckedEntry {
  readonly entry: Entry;
  readonly spiffeId: SpiffeId;
  readonly parentId: SpiffeId;
  /** As the store's column holds them. */
  readonly selectors: string;
}

/** What entries are checked against. */
export interface EntryRules {
  readonly trustDomain: TrustDomain;
  /** Lets SPIFFE IDs under `/spire` and `/writ` through. */
  readonly allowReserved: boolean;
  /** Trust domains whose bundles are here. */
  readonly federated: ReadonlySet<string>;
}

/**
 * Source: what SPIRE's entry API refuses (facts/spiffe.md 2.3, 3.2), and that names under `/spire` and
 * `/writ` are not a registrar's to give (threats S1), nor any name to whoever runs a tool (threats S14).
 * @param entry untrusted; not changed
 * @throws Fault INVALID_ARGUMENT, FAILED_PRECONDITION, ALREADY_EXISTS for a doubled selector or DNS name
 */
export function checkEntry(entry: Entry, rules: EntryRules): CheckedEntry {
  return entryChecker(rules)(entry);
}

/** `checkEntry` for many, most of which have their parent in common. */
export function entryChecker(rules: EntryRules): (entry: Entry) => CheckedEntry {
  const parents = new Map<string, CheckedParent>();
  return (entry) => {
    const spiffeId = memberId(entry.spiffeId, rules.trustDomain, 'spiffe_id');
    // No ID that passes has a line's end in it.
    const key = `${entry.parentId?.trustDomain}\n${entry.parentId?.path}`;
    const parent = parents.get(key) ?? checkParent(entry, rules);
    parents.set(key, parent);
    return checkRest(entry, { spiffeId, ...parent }, rules);
  };
}

interface CheckedParent {
  readonly parentId: SpiffeId;
  readonly parentMessage: SPIFFEID;
}

function checkParent(entry: Entry, { trustDomain }: EntryRules): CheckedParent {
  const parentId = withoutToken(memberId(entry.parentId, trustDomain, 'parent_id'));
  return { parentId, parentMessage: create(SPIFFEIDSchema, idMessage(parentId)) };
}

function checkRest(
  entry: Entry,
  { spiffeId, parentId, parentMessage }: CheckedParent & { readonly spiffeId: SpiffeId },
  { trustDomain, allowReserved, federated }: EntryRules,
): CheckedEntry {
  if (spiffeId.isReserved && !allowReserved)
    throw invalid(`spiffe_id ${spiffeId.path} is reserved`);
  const selectors = checkedSelectors(entry.selectors);
  // The entry of a gateway is made by an operator, whose rule createGateway has.
  if (!allowReserved) refuseBareTool(selectors);
  checkLimits(entry);
  entry.dnsNames.forEach(checkDnsName);
  if (new Set(entry.dnsNames).size < entry.dnsNames.length)
    throw new Fault('ALREADY_EXISTS', 'a DNS name stands there twice');
  const federatesWith = federationOf(entry, trustDomain, federated);
  if (entry.storeSvid && new Set(selectors.map(({ type }) => type)).size > 1)
    throw invalid('store_svid needs selectors of one type');
  if (entry.storeSvid && entry.additionalAttributes?.disableX509SvidPrefetch === true)
    throw invalid('store_svid cannot wait for a workload that asks: disable_x509_svid_prefetch');
  const checked: Entry = {
    ...entry,
    parentId: parentMessage,
    selectors: selectors.map((selector) => create(SelectorSchema, selector)),
    federatesWith,
  };
  return { entry: checked, spiffeId, parentId, selectors: selectorsToJson(selectors) };
}

/**
 * The agent looks for a program that an entry names among the ancestors of the caller too, so that such
 * a path tells nobody apart from anybody else of the same user.
 */
function refuseBareTool(selectors: readonly Selector[]): void {
  const paths = selectors.flatMap(({ type, value }) =>
    type === 'unix' && value.startsWith(PATH) ? [value.slice(PATH.length)] : [],
  );
  const [path] = paths;
  if (path === undefined || !paths.every((one) => TOOL.test(one))) return;
  throw invalid(
    `selectors: unix:path:${path} is a tool that any program can run: name the program itself by path ` +
      'or unix:sha256, or leave the path out and say who runs it, e.g. unix:uid:998',
  );
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
  if (labels[0] === '*') labels.shift();
  if (name.length > MAXIMUM_DNS_NAME || labels.length === 0 || !labels.every(isDnsLabel))
    throw invalid(`dns_names: ${JSON.stringify(name.slice(0, 80))} is no DNS name`);
}

function isDnsLabel(label: string): boolean {
  if (!DNS_LABEL.test(label) || label.trim() === '') return false;
  // Hyphens in the third and fourth place announce an encoding, of which there is one.
  return label.slice(2, 4) !== '--' || isPunycode(label.toLowerCase());
}

function isPunycode(label: string): boolean {
  return label.startsWith('xn--') && domainToASCII(label) === label;
}

/** The names of the trust domains, in the order in which they were given. */
function federationOf(
  { federatesWith }: Entry,
  own: TrustDomain,
  federated: ReadonlySet<string>,
): TrustDomain[] {
  if (federatesWith.length > MAXIMUM_FEDERATES_WITH)
    throw invalid(`more than ${MAXIMUM_FEDERATES_WITH} federates_with`);
  const named = [...new Set(federatesWith.map(trustDomainIn))];
  if (named.includes(own)) throw invalid(`federates_with names ${own} itself`);
  const unknown = named.find((one) => !federated.has(one));
  if (unknown === undefined) return named;
  throw new Fault('FAILED_PRECONDITION', `federates_with: no bundle of trust domain ${unknown}`);
}

function trustDomainIn(text: string): TrustDomain {
  try {
    return trustDomainFromText(text);
  } catch (error) {
    throw invalid(`federates_with: ${error instanceof Fault ? error.message : 'malformed'}`);
  }
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
