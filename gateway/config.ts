import { availableParallelism } from 'node:os';
import * as v from 'valibot';
import { SpiffeId } from '../identity/spiffe-id.ts';
import { trustDomainValue } from '../identity/trust-domain-value.ts';
import { absolutePath, hostPort, loadConfig, logSection } from '../runtime/config.ts';
import { BACKEND_PROTOCOLS } from './plugins/catalog.ts';

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const LARGEST_LIMIT = 1_000_000;
const MOST_WORKERS = 64;

const limit = (fallback: number) =>
  v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(LARGEST_LIMIT)), fallback);

const listen = v.pipe(
  v.strictObject(
    Object.fromEntries(Object.keys(BACKEND_PROTOCOLS).map((name) => [name, v.optional(hostPort)])),
  ),
  v.check((ports) => Object.keys(ports).length > 0, 'a protocol to listen for, such as postgres'),
);

const isWorkers = (value: unknown) =>
  value === 'auto' ||
  (Number.isInteger(value) && Number(value) >= 1 && Number(value) <= MOST_WORKERS);

const workers = v.pipe(
  v.custom<number | 'auto'>(isWorkers, `auto or a number from 1 to ${MOST_WORKERS}`),
  v.transform((value) =>
    value === 'auto' ? Math.min(availableParallelism(), MOST_WORKERS) : value,
  ),
);

const schema = v.strictObject({
  trust_domain: trustDomainValue,
  name: v.pipe(v.string(), v.regex(NAME, 'a name of a-z, 0-9 and -, such as gw-1')),
  state_dir: absolutePath,
  server: hostPort,
  workload_api: absolutePath,
  spiffe_id: v.optional(
    v.pipe(v.string(), v.check(isSpiffeId, 'a SPIFFE ID, such as spiffe://example.org/gw')),
  ),
  listen,
  health: hostPort,
  log: logSection,
  /** Processes that serve clients; `auto`: as many as there are cores. */
  workers: v.optional(workers, 1),
  limits: v.optional(
    v.strictObject({ sessions: limit(5000), sessions_per_identity: limit(100) }),
    {},
  ),
});

export type GatewayConfig = v.InferOutput<typeof schema>;

/** @throws Fault CONFIG_INVALID naming file, line and field */
export function loadGatewayConfig(file: string): Promise<GatewayConfig> {
  return loadConfig(file, schema);
}

/** The SPIFFE ID that this gateway proves itself by. */
export function gatewayIdOf(config: GatewayConfig): SpiffeId {
  if (config.spiffe_id !== undefined) return SpiffeId.parse(config.spiffe_id);
  return SpiffeId.fromSegments(config.trust_domain, 'writ', 'gateway', config.name);
}

function isSpiffeId(text: string): boolean {
  try {
    SpiffeId.parse(text);
    return true;
  } catch {
    return false;
  }
}
