import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { parseDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { entryRecord, idMessage, onlyResult, selectorMessage } from '../spire-text.ts';
import { type Flags, textFlag, textFlags, type Verb, type VerbIo } from '../verb.ts';

const MAXIMUM_TTL_SECONDS = 24 * 60 * 60;
const MAXIMUM_LIFE_SECONDS = 3650 * 24 * 60 * 60;

export const entryCreate: Verb = {
  path: ['entry', 'create'],
  positionals: [],
  summary: 'Register which processes of a node get a SPIFFE ID, and whose it is',
  options: {
    'spiffe-id': { type: 'string' },
    'parent-id': { type: 'string' },
    selector: { type: 'string', multiple: true },
    dns: { type: 'string', multiple: true },
    'x509-svid-ttl': { type: 'string' },
    hint: { type: 'string' },
    owner: { type: 'string' },
    purpose: { type: 'string' },
    environment: { type: 'string' },
    kind: { type: 'string', default: 'service' },
    'expires-in': { type: 'string' },
    json: { type: 'boolean', default: false },
  },
  run,
};

async function run(flags: Flags, io: VerbIo): Promise<void> {
  const spiffeId = needed(flags, 'spiffe-id');
  const ttl = textFlag(flags, 'x509-svid-ttl');
  const entry = {
    spiffeId: idMessage(spiffeId),
    parentId: idMessage(needed(flags, 'parent-id')),
    selectors: textFlags(flags, 'selector').map(selectorMessage),
    dnsNames: [...textFlags(flags, 'dns')],
    hint: textFlag(flags, 'hint') ?? '',
    x509SvidTtl: ttl === undefined ? 0 : parseDuration(ttl, '--x509-svid-ttl', MAXIMUM_TTL_SECONDS),
  };
  const identity = identityOf(flags, spiffeId);
  if (identity !== undefined) {
    await io.admin(IdentityService).putIdentity({ identity }, { signal: io.signal });
  }
  const { results } = await io
    .admin(Entry)
    .batchCreateEntry({ entries: [entry] }, { signal: io.signal });
  const created = onlyResult(results).entry;
  if (created === undefined) throw new Fault('INTERNAL', 'the server answered no entry');
  if (flags.json === true) io.out(JSON.stringify(entryRecord(created), undefined, 2));
  else io.out(created.id);
}

/** The identity record that the flags describe: all four or none (then the server's defaults serve). */
function identityOf(flags: Flags, spiffeId: string) {
  const names = ['owner', 'purpose', 'environment', 'expires-in'] as const;
  const given = names.filter((name) => textFlag(flags, name) !== undefined);
  if (given.length === 0) return undefined;
  const [owner, purpose, environment, life] = names.map((name) => needed(flags, name));
  const seconds = parseDuration(life ?? '', '--expires-in', MAXIMUM_LIFE_SECONDS);
  return {
    spiffeId,
    owner: owner ?? '',
    purpose: purpose ?? '',
    environment: environment ?? '',
    kind: needed(flags, 'kind'),
    expiresAt: timestampFromDate(new Date(Date.now() + seconds * 1000)),
    status: 'active',
  };
}

function needed(flags: Flags, name: string): string {
  const value = textFlag(flags, name);
  if (value === undefined || value === '') throw new Fault('USAGE', `--${name} is missing`);
  return value;
}
