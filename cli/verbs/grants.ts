/** `writ grant list|show|revoke`: which identity may do what on which backend, until when. */
import { toJson } from '@bufbuild/protobuf';
import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { type Grant, GrantSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { printRecord, printTable } from '../table.ts';
import { isoTime } from '../time.ts';
import type { Verb, VerbIo } from '../verb.ts';

export const grantList: Verb = {
  path: ['grant', 'list'],
  positionals: [],
  summary: 'List grants',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const { resources } = await io
      .admin(ResourceService)
      .listResources({ kind: 'Grant' }, { signal: io.signal });
    const grants = resources.flatMap(({ body }) => (body.case === 'grant' ? [body.value] : []));
    const columns = ['name', 'identity', 'backend', 'owner', 'expires_at'];
    printTable(io, grants.map(grantRow), columns, flags.json === true);
  },
};

export const grantShow: Verb = {
  path: ['grant', 'show'],
  positionals: ['GRANT'],
  summary: 'Show one grant',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io, [name = '']) {
    const record = toJson(GrantSchema, await findGrant(io, name), { useProtoFieldName: true });
    printRecord(io, record as Record<string, unknown>, flags.json === true);
  },
};

export const grantRevoke: Verb = {
  path: ['grant', 'revoke'],
  positionals: ['GRANT'],
  summary: 'Delete a grant and end its sessions',
  options: {},
  async run(_flags, io, [name = '']) {
    const request = { kind: 'Grant', name };
    await io.admin(ResourceService).deleteResource(request, { signal: io.signal });
    io.err(`revoked ${name}`);
  },
};

async function findGrant(io: VerbIo, name: string): Promise<Grant> {
  const { resource } = await io
    .admin(ResourceService)
    .getResource({ kind: 'Grant', name }, { signal: io.signal });
  if (resource?.body.case !== 'grant') throw new Fault('NOT_FOUND', `no grant ${name}`);
  return resource.body.value;
}

function grantRow({ name, identity, backend, owner, purpose, expiresAt }: Grant) {
  return { name, identity, backend, owner, purpose, expires_at: isoTime(expiresAt) };
}
