import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import {
  IDENTITY_OPTIONS,
  type IdentityTemplate,
  identityFlags,
  needed,
} from '../identity-flags.ts';
import { readSpire, type SpireContent } from '../spire-import/read-spire.ts';
import { type Moved, WritTarget } from '../spire-import/write-writ.ts';
import { idText } from '../spire-text.ts';
import { printTable } from '../table.ts';
import type { Flags, Verb, VerbIo } from '../verb.ts';

export const importSpire: Verb = {
  path: ['import', 'spire'],
  positionals: [],
  summary: 'Take over entries, agents and bundles from a running SPIRE server, by its API socket',
  options: {
    from: { type: 'string' },
    'dry-run': { type: 'boolean', default: false },
    'publish-bundle': { type: 'boolean', default: false },
    ...IDENTITY_OPTIONS,
    json: { type: 'boolean', default: false },
  },
  run,
};

async function run(flags: Flags, io: VerbIo): Promise<void> {
  const template = identityFlags(flags);
  await using spire = RpcChannel.unix(needed(flags, 'from'));
  const content = await readSpire(spire, io.signal);
  await sameTrustDomain(content, io);
  if (flags['dry-run'] === true) {
    tell(planned(content), flags, io);
    return;
  }
  const moved = await move(content, template, io);
  tell(moved, flags, io);
  if (flags['publish-bundle'] === true) await publishBundle(spire, io);
  const refused = moved.flatMap((one) => one.refused.map((line) => `${one.kind}: ${line}`));
  for (const line of refused) io.err(line);
  if (refused.length > 0)
    throw new Fault('FAILED_PRECONDITION', `${refused.length} could not be taken over, see above`);
}

async function move(
  content: SpireContent,
  template: IdentityTemplate | undefined,
  io: VerbIo,
): Promise<Moved[]> {
  const target = new WritTarget(io);
  return [
    await target.addAuthorities(content.bundle),
    await target.addFederatedBundles(content.federatedBundles),
    await target.addRelationships(content.relationships),
    ...(template === undefined ? [] : [await target.addIdentities(content.entries, template)]),
    await target.addEntries(content.entries),
    await target.addAgents(content.agents),
  ];
}

/** Lets SPIRE's agents trust this server before they are pointed at it. */
async function publishBundle(spire: RpcChannel, io: VerbIo): Promise<void> {
  const own = await io.admin(Bundle).getBundle({}, { signal: io.signal });
  const { x509Authorities, jwtAuthorities } = own;
  await spire
    .client(Bundle)
    .appendBundle({ x509Authorities, jwtAuthorities }, { signal: io.signal });
  io.err(
    "this server's authorities are in SPIRE's bundle: its agents have them at their next sync",
  );
}

async function sameTrustDomain({ bundle }: SpireContent, io: VerbIo): Promise<void> {
  const own = await io.admin(Bundle).getBundle({}, { signal: io.signal });
  const bare = (name: string) => name.replace(/^spiffe:\/\//, '');
  if (bare(bundle.trustDomain) === bare(own.trustDomain)) return;
  throw new Fault(
    'FAILED_PRECONDITION',
    `that server's trust domain is ${bare(bundle.trustDomain)}, this one's ${bare(own.trustDomain)}: set trust_domain in the server's configuration`,
  );
}

function planned({ bundle, ...rest }: SpireContent): Moved[] {
  const count = (kind: string, imported: number) => ({ kind, imported, known: 0, refused: [] });
  return [
    count('authorities', bundle.x509Authorities.length + bundle.jwtAuthorities.length),
    count('federated bundles', rest.federatedBundles.length),
    count('federation relationships', rest.relationships.length),
    count('identities', new Set(rest.entries.map(({ spiffeId }) => idText(spiffeId))).size),
    count('entries', rest.entries.length),
    count('agents', rest.agents.length),
  ];
}

function tell(moved: readonly Moved[], flags: Flags, io: VerbIo): void {
  const isPlan = flags['dry-run'] === true;
  const rows = moved.map(({ kind, imported, known, refused }) =>
    isPlan ? { kind, found: imported } : { kind, imported, known, refused: refused.length },
  );
  const columns = isPlan ? ['kind', 'found'] : ['kind', 'imported', 'known', 'refused'];
  printTable(io, rows, columns, flags.json === true);
}
