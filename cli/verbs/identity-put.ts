/** `writ identity create|update`: the record of a SPIFFE ID. */
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { parseDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { IDENTITY_OPTIONS, MAXIMUM_LIFE_SECONDS, needed } from '../identity-flags.ts';
import { identityRecord } from '../identity-record.ts';
import { type IdentityFields, knownIdentity } from '../known-identity.ts';
import { printRecord } from '../table.ts';
import { type Flags, textFlag, textFlags, type Verb, type VerbIo } from '../verb.ts';

const MAXIMUM_AGENTS = 1_000_000;

const OPTIONS = {
  label: { type: 'string', multiple: true },
  'jwt-audience': { type: 'string', multiple: true },
  'max-agents': { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

export const identityCreate: Verb = {
  path: ['identity', 'create'],
  positionals: ['SPIFFE_ID'],
  summary: 'Record who owns a SPIFFE ID, what for and until when',
  options: { ...IDENTITY_OPTIONS, ...OPTIONS },
  async run(flags, io, [spiffeId = '']) {
    const wanted = changes(flags);
    const [owner, purpose] = [needed(flags, 'owner'), needed(flags, 'purpose')];
    const [environment, kind] = [needed(flags, 'environment'), needed(flags, 'kind')];
    needed(flags, 'expires-in');
    if ((await knownIdentity(io, spiffeId)) !== undefined)
      throw new Fault('ALREADY_EXISTS', `${spiffeId} has a record: change it by identity update`);
    await put(io, flags, { ...wanted, spiffeId, owner, purpose, environment, kind });
  },
};

export const identityUpdate: Verb = {
  path: ['identity', 'update'],
  positionals: ['SPIFFE_ID'],
  summary: 'Change what an identity record says; what is not named stays',
  options: {
    ...IDENTITY_OPTIONS,
    kind: { type: 'string' },
    ...OPTIONS,
    'remove-label': { type: 'string', multiple: true },
    'any-jwt-audience': { type: 'boolean', default: false },
  },
  async run(flags, io, [spiffeId = '']) {
    const wanted = changes(flags);
    const before = await knownIdentity(io, spiffeId);
    if (before === undefined) throw new Fault('NOT_FOUND', `${spiffeId} has no identity record`);
    const labels = { ...before.labels, ...wanted.labels };
    for (const name of textFlags(flags, 'remove-label')) delete labels[name];
    const jwtAudiences =
      flags['any-jwt-audience'] === true ? [] : (wanted.jwtAudiences ?? before.jwtAudiences ?? []);
    await put(io, flags, { ...before, ...wanted, labels, jwtAudiences });
  },
};

/** The fields that the flags name. @throws Fault USAGE */
function changes(flags: Flags): IdentityFields {
  const fields: IdentityFields = {};
  for (const name of ['owner', 'purpose', 'environment', 'kind'] as const) {
    const value = textFlag(flags, name);
    if (value !== undefined) fields[name] = value;
  }
  const life = textFlag(flags, 'expires-in');
  if (life !== undefined) {
    const seconds = parseDuration(life, '--expires-in', MAXIMUM_LIFE_SECONDS);
    fields.expiresAt = timestampFromDate(new Date(Date.now() + seconds * 1000));
  }
  const labels = textFlags(flags, 'label');
  if (labels.length > 0) fields.labels = Object.fromEntries(labels.map(label));
  const audiences = textFlags(flags, 'jwt-audience');
  if (audiences.length > 0) fields.jwtAudiences = [...audiences];
  const agents = textFlag(flags, 'max-agents');
  if (agents !== undefined) fields.maxAgents = agentCount(agents);
  return fields;
}

function label(text: string): [string, string] {
  const equals = text.indexOf('=');
  if (equals < 1) throw new Fault('USAGE', `--label ${JSON.stringify(text)}: write name=value`);
  return [text.slice(0, equals), text.slice(equals + 1)];
}

function agentCount(text: string): number {
  const count = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (count <= MAXIMUM_AGENTS) return count;
  throw new Fault(
    'USAGE',
    `--max-agents ${JSON.stringify(text)}: write a number up to ${MAXIMUM_AGENTS}; 0 is any`,
  );
}

async function put(io: VerbIo, flags: Flags, fields: IdentityFields): Promise<void> {
  const request = { identity: fields };
  const { identity } = await io.admin(IdentityService).putIdentity(request, { signal: io.signal });
  if (identity === undefined) throw new Fault('INTERNAL', 'the server answered no identity');
  if (flags.json === true) printRecord(io, identityRecord(identity), true);
  else io.out(identity.spiffeId);
}
