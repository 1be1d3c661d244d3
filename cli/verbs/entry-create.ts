import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { parseDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { IDENTITY_OPTIONS, identityFlags, needed } from '../identity-flags.ts';
import { knownIdentity } from '../known-identity.ts';
import { entryRecord, idMessage, onlyResult, selectorMessage } from '../spire-text.ts';
import { type Flags, textFlag, textFlags, type Verb, type VerbIo } from '../verb.ts';

const MAXIMUM_TTL_SECONDS = 24 * 60 * 60;

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
    ...IDENTITY_OPTIONS,
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
  const template = identityFlags(flags);
  if (template !== undefined) {
    const known = await knownIdentity(io, spiffeId);
    const identity = { ...known, ...template, spiffeId, status: 'active' };
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
