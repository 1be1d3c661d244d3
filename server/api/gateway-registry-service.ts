import { isIP } from 'node:net';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { SpiffeId, type TrustDomain } from '../../identity/spiffe-id.ts';
import type {
  CreateGatewayRequest,
  GatewayRegistryService,
  GatewaySchema,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { createGateway, type GatewayInit, type GatewayRegistry } from '../access/create-gateway.ts';
import { type GatewayRecord, listGateways } from '../access/gateways.ts';
import { memberIdFromText } from '../registry/spiffe-id-message.ts';
import { actorOf, type Caller } from './callers.ts';

export interface GatewayRegistryServiceOptions extends GatewayRegistry {
  readonly trustDomain: TrustDomain;
}

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const DNS_NAME =
  /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const SELECTOR = /^([a-z0-9_]{1,64}):(\P{Cc}{1,1024})$/u;
const MAXIMUM_LIST = 100;

/** The gateways there are, for operators. */
export function gatewayRegistryService(
  options: GatewayRegistryServiceOptions,
): Implementation<typeof GatewayRegistryService, Caller> {
  return {
    async createGateway(request, { caller }) {
      const init = gatewayInit(request, options.trustDomain);
      return { gateway: gatewayMessage(await createGateway(options, init, actorOf(caller))) };
    },

    async listGateways() {
      return { gateways: (await listGateways(options.store)).map(gatewayMessage) };
    },
  };
}

function gatewayInit(request: CreateGatewayRequest, trustDomain: TrustDomain): GatewayInit {
  const { name, backends, names, parentId, selectors } = request;
  if (!NAME.test(name)) throw invalid('name', '1 to 63 of a-z 0-9 -');
  if (backends.length === 0 || !backends.every((one) => one === '*' || NAME.test(one))) {
    throw invalid('backends', 'the names of backends, or * for all');
  }
  if (names.length === 0 || !names.every((one) => isAddress(one) || DNS_NAME.test(one))) {
    throw invalid('names', 'DNS names in lower case, or IP addresses');
  }
  for (const [field, list] of Object.entries({ backends, names, selectors })) {
    if (list.length > MAXIMUM_LIST) throw invalid(field, `at most ${MAXIMUM_LIST}`);
  }
  return {
    name,
    spiffeId: SpiffeId.fromSegments(trustDomain, 'writ', 'gateway', name),
    parentId: memberIdFromText(parentId, trustDomain, 'parent_id'),
    backends: [...new Set(backends)],
    names: [...new Set(names)],
    selectors: selectors.map((text) => {
      const [, type, value] = SELECTOR.exec(text) ?? [];
      if (type === undefined || value === undefined) throw invalid('selectors', 'type:value');
      return { type, value };
    }),
  };
}

/** One with a zone (`fe80::1%eth0`) means nothing on another host. */
function isAddress(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%');
}

function gatewayMessage(record: GatewayRecord): MessageInitShape<typeof GatewaySchema> {
  return {
    spiffeId: record.id,
    name: record.name,
    backends: [...record.backends],
    names: [...record.names],
    revocationSeq: record.revocationSeq,
    ...(record.heartbeatAt && { lastHeartbeat: timestampFromDate(record.heartbeatAt) }),
  };
}

function invalid(field: string, what: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${field}: write ${what}`);
}
