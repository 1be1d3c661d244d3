/** `writ authority list|prepare|activate|taint|revoke`: the keys that sign, through their lives. */
import { LocalAuthority } from '../../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { AuthorityService, type SigningAuthority } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { printTable } from '../table.ts';
import { isoTime } from '../time.ts';
import type { Verb, VerbIo } from '../verb.ts';

const KINDS = ['x509', 'jwt', 'ssh-user', 'ssh-host', 'ssh-gateway'];
const UPSTREAM = { upstream: { type: 'boolean', default: false } } as const;

export const authorityList: Verb = {
  path: ['authority', 'list'],
  positionals: [],
  summary: 'List the authorities that sign, or signed, for the trust domain',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const rows = (await listed(io)).map(authorityRow);
    const columns = ['kind', 'state', 'tainted', 'key_type', 'not_before', 'not_after', 'id'];
    printTable(io, rows, columns, flags.json === true);
  },
};

export const authorityPrepare: Verb = {
  path: ['authority', 'prepare'],
  positionals: ['KIND'],
  summary: `Make the next authority of a kind (${KINDS.join(', ')}), for all to know; prints its ID`,
  options: {},
  async run(_flags, io, [kind = '']) {
    const { signal } = io;
    if (!KINDS.includes(kind))
      throw new Fault('USAGE', `authority prepare: KIND is one of ${KINDS.join(', ')}`);
    if (kind === 'x509') {
      const answer = await io.admin(LocalAuthority).prepareX509Authority({}, { signal });
      io.out(answer.preparedAuthority?.authorityId ?? '');
    } else if (kind === 'jwt') {
      const answer = await io.admin(LocalAuthority).prepareJWTAuthority({}, { signal });
      io.out(answer.preparedAuthority?.authorityId ?? '');
    } else {
      const answer = await io.admin(AuthorityService).prepareSshAuthority({ kind }, { signal });
      io.out(answer.authority?.id ?? '');
    }
  },
};

export const authorityActivate: Verb = {
  path: ['authority', 'activate'],
  positionals: ['ID'],
  summary: 'Let the prepared authority sign from now on; the active one becomes old',
  options: {},
  async run(_flags, io, [id = '']) {
    const { signal } = io;
    const request = { authorityId: id };
    const kind = await kindOf(io, id);
    if (kind === 'x509') await io.admin(LocalAuthority).activateX509Authority(request, { signal });
    else if (kind === 'jwt')
      await io.admin(LocalAuthority).activateJWTAuthority(request, { signal });
    else await io.admin(AuthorityService).activateSshAuthority({ id }, { signal });
    io.err(`activated ${id}`);
  },
};

export const authorityTaint: Verb = {
  path: ['authority', 'taint'],
  positionals: ['ID'],
  summary: 'Have all that an old X.509 or JWT authority signed made anew',
  options: UPSTREAM,
  async run(flags, io, [id = '']) {
    const { signal } = io;
    const local = io.admin(LocalAuthority);
    if (flags.upstream === true)
      await local.taintX509UpstreamAuthority({ subjectKeyId: id }, { signal });
    else {
      const kind = await kindOf(io, id);
      if (kind === 'x509') await local.taintX509Authority({ authorityId: id }, { signal });
      else if (kind === 'jwt') await local.taintJWTAuthority({ authorityId: id }, { signal });
      else throw new Fault('USAGE', 'authority taint: revoke an SSH authority at once');
    }
    io.err(`tainted ${id}`);
  },
};

export const authorityRevoke: Verb = {
  path: ['authority', 'revoke'],
  positionals: ['ID'],
  summary: 'Trust an old authority no more; X.509 and JWT have to be tainted first',
  options: UPSTREAM,
  async run(flags, io, [id = '']) {
    const { signal } = io;
    const local = io.admin(LocalAuthority);
    if (flags.upstream === true)
      await local.revokeX509UpstreamAuthority({ subjectKeyId: id }, { signal });
    else {
      const kind = await kindOf(io, id);
      if (kind === 'x509') await local.revokeX509Authority({ authorityId: id }, { signal });
      else if (kind === 'jwt') await local.revokeJWTAuthority({ authorityId: id }, { signal });
      else await io.admin(AuthorityService).revokeSshAuthority({ id }, { signal });
    }
    io.err(`revoked ${id}`);
  },
};

async function listed(io: VerbIo): Promise<readonly SigningAuthority[]> {
  return (await io.admin(AuthorityService).listAuthorities({}, { signal: io.signal })).authorities;
}

async function kindOf(io: VerbIo, id: string): Promise<string> {
  const found = (await listed(io)).find((one) => one.id === id);
  if (found === undefined) throw new Fault('NOT_FOUND', `there is no authority ${id}`);
  return found.kind;
}

function authorityRow(authority: SigningAuthority) {
  const { id, kind, state, tainted, keyType, upstreamId } = authority;
  return {
    ...{ kind, state, tainted: tainted ? 'yes' : 'no', key_type: keyType },
    not_before: isoTime(authority.notBefore),
    not_after: isoTime(authority.notAfter),
    ...{ id, upstream_id: upstreamId },
  };
}
