/** `writ identity list|show|suspend|activate|retire`: who owns a SPIFFE ID, what for and until when. */
import { IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { identityRecord } from '../identity-record.ts';
import { printRecord, printTable } from '../table.ts';
import { textFlag, type Verb } from '../verb.ts';

const COLUMNS = ['spiffe_id', 'owner', 'purpose', 'environment', 'kind', 'status', 'expires_at'];

export const identityList: Verb = {
  path: ['identity', 'list'],
  positionals: [],
  summary: 'List identities with their owners',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const { identities } = await io
      .admin(IdentityService)
      .listIdentities({}, { signal: io.signal });
    const records = identities.map(identityRecord);
    if (flags.json === true) io.out(JSON.stringify(records, undefined, 2));
    else printTable(io, records.map(asRow), COLUMNS, false);
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
export const identityActivate = statusVerb(
  'activate',
  'active',
  'Let a suspended identity work again',
);
export const identityRetire = statusVerb('retire', 'retired', 'End an identity for good');

function statusVerb(word: string, status: string, summary: string): Verb {
  return {
    path: ['identity', word],
    positionals: ['SPIFFE_ID'],
    summary,
    options: {
      reason: { type: 'string', default: `${status} by an operator` },
      json: { type: 'boolean', default: false },
    },
    async run(flags, io, [spiffeId = '']) {
      const request = { spiffeId, status, reason: textFlag(flags, 'reason') ?? '' };
      const { identity } = await io
        .admin(IdentityService)
        .setIdentityStatus(request, { signal: io.signal });
      if (flags.json === true && identity !== undefined)
        printRecord(io, identityRecord(identity), true);
      else io.err(`${spiffeId} is ${status}`);
    },
  };
}

function asRow({ labels: _, jwt_audiences: __, ...rest }: ReturnType<typeof identityRecord>) {
  return rest;
}
