/** `writ gateway create|list`: gateways are records that only an operator makes. */
import { type Gateway, GatewayRegistryService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { printTable } from '../table.ts';
import { isoTime } from '../time.ts';
import { textFlag, textFlags, type Verb } from '../verb.ts';

export const gatewayCreate: Verb = {
  path: ['gateway', 'create'],
  positionals: ['NAME'],
  summary: 'Make the record and the registration entry of a gateway',
  options: {
    backend: { type: 'string', multiple: true },
    name: { type: 'string', multiple: true },
    'parent-id': { type: 'string' },
    selector: { type: 'string', multiple: true },
  },
  async run(flags, io, [name = '']) {
    const parentId = textFlag(flags, 'parent-id');
    if (parentId === undefined) throw new Fault('USAGE', '--parent-id is missing');
    const request = {
      name,
      backends: [...textFlags(flags, 'backend')],
      names: [...textFlags(flags, 'name')],
      parentId,
      selectors: [...textFlags(flags, 'selector')],
    };
    const { gateway } = await io
      .admin(GatewayRegistryService)
      .createGateway(request, { signal: io.signal });
    io.out(gateway?.spiffeId ?? '');
  },
};

export const gatewayList: Verb = {
  path: ['gateway', 'list'],
  positionals: [],
  summary: 'List gateways and when each was last heard',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const { gateways } = await io
      .admin(GatewayRegistryService)
      .listGateways({}, { signal: io.signal });
    const columns = ['spiffe_id', 'backends', 'names', 'last_heartbeat'];
    printTable(io, gateways.map(gatewayRow), columns, flags.json === true);
  },
};

function gatewayRow({ spiffeId, backends, names, lastHeartbeat }: Gateway) {
  return {
    spiffe_id: spiffeId,
    backends: backends.join(' '),
    names: names.join(' '),
    last_heartbeat: isoTime(lastHeartbeat),
  };
}
