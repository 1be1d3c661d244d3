/** `writ identity list|show|suspend|resume|retire`: who owns a SPIFFE ID, what for and until when. */
import { type Identity, IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { printRecord, printTable } from '../table.ts';
import { isoTime } from '../time.ts';
import { textFlag, type Verb } from '../verb.ts';

export const identityList: Verb = {
  path: ['identity', 'list'],
  positionals: [],
  summary: 'List identities with their owners',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const { identities } = await io
      .admin(IdentityService)
      .listIdentities({}, { signal: io.signal });
    const columns = [
      'spiffe_id',
      'owner',
      'purpose',
      'environment',
      'kind',
      'status',
      'expires_at',
    ];
    printTable(io, identities.map(identityRecord), columns, flags.json === true);
  },
};

export const identityShow: Verb = {
  path: ['identity', 'show'],
  positionals: ['SPIFFE_ID'],
  summary: 'Show one identity',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io, [spiffeId = '']) {
    const { identity } = await io
      .admin(IdentityService)
      .getIdentity({ spiffeId }, { signal: io.signal });
    if (identity !== undefined) printRecord(io, identityRecord(identity), flags.json === true);
  },
};

export const identitySuspend = statusVerb(
  'suspend',
  'suspended',
  'Stop an identity: no SVID, no session',
);
export const identityResume = statusVerb('resume', 'active', 'Let a suspended identity work again');
export const identityRetire = statusVerb('retire', 'retired', 'End an identity for good');

function statusVerb(word: string, status: string, summary: string): Verb {
  return {
    path: ['identity', word],
    positionals: ['SPIFFE_ID'],
    summary,
    options: { reason: { type: 'string', default: `${status} by an operator` } },
    async run(flags, io, [spiffeId = '']) {
      const request = { spiffeId, status, reason: textFlag(flags, 'reason') ?? '' };
      await io.admin(IdentityService).setIdentityStatus(request, { signal: io.signal });
      io.err(`${spiffeId} is ${status}`);
    },
  };
}

function identityRecord(identity: Identity) {
  const { spiffeId, owner, purpose, environment, kind, status, expiresAt } = identity;
  return {
    spiffe_id: spiffeId,
    owner,
    purpose,
    environment,
    kind,
    status,
    expires_at: isoTime(expiresAt),
  };
}
