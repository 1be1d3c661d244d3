/** An agent: proves its node to the server, and gives this node's workloads their identities. */
import type { Bundle } from '../identity/bundle.ts';
import type { SpiffeId } from '../identity/spiffe-id.ts';
import type { X509Svid } from '../identity/x509-svid.ts';
import { Agent } from '../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Backoff } from '../runtime/backoff.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { Closers } from '../runtime/closers.ts';
import { formatHostPort, loadConfig } from '../runtime/config.ts';
import { Fault } from '../runtime/fault.ts';
import { serveHealth } from '../runtime/http-endpoint.ts';
import type { Logger } from '../runtime/log.ts';
import { MetricsRegistry } from '../runtime/metrics.ts';
import { Watched } from '../runtime/watched.ts';
import { listenSshAgent } from './api/ssh-agent-endpoint.ts';
import { listenWorkloadApi } from './api/workload-endpoint.ts';
import { agentDenial, isBanned } from './attestation/agent-denial.ts';
import { AgentState } from './attestation/agent-state.ts';
import { keepRenewed } from './attestation/agent-svid.ts';
import { attest } from './attestation/attest.ts';
import { lastingAttestor, nodeProof } from './attestation/node-proof.ts';
import { obtainSvid } from './attestation/obtain-svid.ts';
import { type AgentConfig, agentConfigSchema } from './config.ts';
import { type AgentMetrics, agentMetrics } from './metrics.ts';
import { workloadAttestors } from './plugins/catalog.ts';
import { runTogether } from './run-together.ts';
import { ServerLink } from './server-link.ts';
import { SshCertificateCache } from './ssh/certificate-cache.ts';
import { SshServer } from './ssh/server-calls.ts';
import { UsefulIdentities } from './ssh/useful-identities.ts';
import { SvidCache } from './svid/cache.ts';
import { Issuer } from './svid/issue.ts';
import { JwtCache } from './svid/jwt-cache.ts';
import { mintJwtOver } from './svid/mint-jwt.ts';
import { ServerSync } from './svid/sync.ts';

/** An agent that was evicted comes back; one that is refused again and again does so ever more slowly. */
const REATTEST = { firstMs: 200, maximumMs: 60_000 };

export interface RunAgentOptions {
  /** Stops the agent; `runAgent` then resolves. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Called once, when the node is attested and its entries are here. */
  onReady?(facts: { readonly agentId: SpiffeId; readonly health: string }): void;
  readonly clock?: Clock;
}

/** @throws Fault `CONFIG_INVALID` with one line for each problem */
export function loadAgentConfig(file: string): Promise<AgentConfig> {
  return loadConfig(file, agentConfigSchema);
}

/** What the parts of a running agent share. */
interface Context {
  readonly config: AgentConfig;
  readonly state: AgentState;
  readonly metrics: AgentMetrics;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Runs until the signal aborts.
 * @throws Fault when the agent cannot start, or the server will have no more of it
 */
export async function runAgent(config: AgentConfig, options: RunAgentOptions): Promise<void> {
  const { signal, log } = options;
  const registry = new MetricsRegistry();
  const state = new AgentState(config.state_dir);
  const clock = options.clock ?? systemClock;
  const context: Context = { config, state, metrics: agentMetrics(registry), clock, log };
  let ready: true | string = 'not attested yet';

  await state.prepare();
  await using health = await serveHealth({
    listen: config.health,
    ready: () => ready,
    metrics: registry,
    onRefused: () => context.metrics.connectionsRefused.inc({ listener: 'health' }),
  });
  const run = async () => {
    const { svid, bundle } = await obtainSvid({
      server: formatHostPort(config.server),
      trustDomain: config.trust_domain,
      proof: (known) => nodeProof(config, known),
      ...context,
      signal,
    });
    ready = 'not in step with the server yet';
    await serve(context, svid, bundle, signal, () => {
      ready = true;
      log.info({ agent_id: String(svid.id) }, 'agent ready');
      options.onReady?.({ agentId: svid.id, health: health.address });
    });
  };
  const backoff = new Backoff(REATTEST);
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if (signal.aborted) return;
      const denial = agentDenial(error);
      if (denial === undefined) throw error;
      ready = 'not attested any more';
      await state.deleteSvid();
      if (isBanned(error) || lastingAttestor(config) === undefined) throw stopped(denial, error);
      log.warn({ denial }, 'the server refuses this agent: it attests anew');
      await clock.wait(backoff.next(), signal).catch(() => undefined);
    }
  }
}

/** How the agent's SVID is had anew where the node can be proved again; undefined where it cannot. */
function reattestation({ config, clock }: Context) {
  const attestor = lastingAttestor(config);
  if (attestor === undefined) return undefined;
  return async (known: Bundle, signal: AbortSignal): Promise<X509Svid> => {
    const { svid } = await attest({
      server: formatHostPort(config.server),
      trustDomain: config.trust_domain,
      trust: { kind: 'roots', roots: known.x509Authorities.map(({ der }) => der) },
      ...{ attestor, clock, signal },
    });
    return svid;
  };
}

async function serve(
  context: Context,
  firstSvid: X509Svid,
  firstBundle: Bundle,
  signal: AbortSignal,
  onReady: () => void,
): Promise<void> {
  const { config, state, metrics, clock, log } = context;
  const { trust_domain: trustDomain } = config;
  const reattest = reattestation(context);
  const svid = new Watched(firstSvid);
  const bundle = new Watched(firstBundle);
  const address = formatHostPort(config.server);
  await using closers = new Closers();
  const link = new ServerLink({ address, clock, svid: firstSvid, bundle: firstBundle });
  closers.defer(() => link[Symbol.asyncDispose]());

  const cache = new SvidCache({ clock, bundle: firstBundle });
  const onMinted = () => metrics.svidsIssued.inc({ kind: 'jwt' });
  const jwts = new JwtCache({ clock, mint: mintJwtOver(link, signal, onMinted) });
  const onIssued = (count: number) => metrics.svidsIssued.inc({ kind: 'x509' }, count);
  const issuer = new Issuer({ cache, link, clock, log, onIssued });
  const sync = new ServerSync({
    ...{ trustDomain, cache, issuer, link, clock, log },
    onBundle: async (next) => {
      bundle.set(next);
      jwts.clear();
      await state.saveBundle(next);
      await link.replace(svid.value, next);
    },
    onSync: (outcome, entries) => {
      metrics.syncs.inc({ outcome });
      metrics.entries.set(entries);
    },
  });
  await openDoors(context, { cache, jwts, link, signal, closers });

  await runTogether(signal, [
    async (stop) => {
      await postStatus(link, log, stop);
      await sync.run(stop);
    },
    (stop) => sync.watch(stop),
    async (stop) => {
      await keepRenewed({ svid, bundle, link, state, clock, log, reattest }, stop);
      await outlive(cache, clock, log, stop);
    },
    async (stop) => {
      for await (const { notAfter } of svid.values(stop)) {
        metrics.svidExpiry.set(notAfter.getTime() / 1000);
      }
    },
    async (stop) => {
      for await (const _ of cache.asked.values(stop)) sync.wake();
    },
    async (stop) => {
      let told = false;
      for await (const { synced } of cache.state.values(stop)) {
        if (synced && !told) onReady();
        told ||= synced;
      }
    },
  ]);
}

interface DoorParts {
  readonly cache: SvidCache;
  readonly jwts: JwtCache;
  readonly link: ServerLink;
  readonly signal: AbortSignal;
  readonly closers: Closers;
}

/** Lets workloads in: the Workload API's socket and, if there is to be one, the ssh-agent's. */
async function openDoors(
  { config, metrics, clock, log }: Context,
  { cache, jwts, link, signal, closers }: DoorParts,
): Promise<void> {
  const attestors = workloadAttestors({ clock });
  const ssh = new SshServer({
    ...{ link, trustDomain: config.trust_domain, clock, signal },
    onIssued: () => metrics.svidsIssued.inc({ kind: 'ssh' }),
  });
  const workloads = await listenWorkloadApi({
    ...{ path: config.workload_api, attestors, log, cache, jwts, clock, ssh },
    sshAgent: config.ssh_agent,
    onCall: (outcome) => metrics.workloadCalls.inc(outcome),
    onRefused: () => metrics.connectionsRefused.inc({ listener: 'workload' }),
  });
  closers.defer(async () => await workloads[Symbol.asyncDispose]());
  if (config.ssh_agent === undefined) return;
  const certificates = new SshCertificateCache({
    sign: (entry, publicKey) => ssh.sign(entry, publicKey),
    clock,
  });
  const sshAgent = await listenSshAgent({
    ...{ path: config.ssh_agent, attestors, log, cache, certificates, clock },
    useful: new UsefulIdentities({ server: ssh, clock }),
    onRequest: (outcome) => metrics.sshAgentRequests.inc(outcome),
    onRefused: () => metrics.connectionsRefused.inc({ listener: 'ssh_agent' }),
  });
  closers.defer(async () => await sshAgent[Symbol.asyncDispose]());
}

/** Tells the server that the agent has started; SPIRE shows it beside the agent. */
async function postStatus(link: ServerLink, log: Logger, signal: AbortSignal): Promise<void> {
  try {
    await link.call((channel) =>
      channel.client(Agent).postStatus({ agentVersion: 'writ' }, { signal }),
    );
  } catch (error) {
    log.debug({ err: error }, 'agent status not posted');
  }
}

/** The agent's own SVID has ended with the server out of reach: it goes on until nothing is left. */
async function outlive(
  cache: SvidCache,
  clock: Clock,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  log.error('agent SVID has expired; serving what is left');
  const last = cache.lastExpiry();
  if (last !== undefined) await clock.waitUntil(last, signal);
  throw new Fault(
    'UNAUTHENTICATED',
    "the agent's SVID expired while the server was out of reach; join anew with a new token",
  );
}

function stopped(denial: string, cause: unknown): Fault {
  const message = `the server refuses this agent: ${denial}; its SVID is deleted, join anew with a new token`;
  return new Fault('PERMISSION_DENIED', message, { cause });
}
