/** The sample workload: what a service does with Writ, step by step, on screen. */
import pg from 'pg';
import { bundleToPem } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { svidPem } from '../../identity/x509-svid.ts';
import { SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { fetchJwtSvid } from '../../sdk/jwt-source.ts';
import { WorkloadApiClient } from '../../sdk/workload-api-client.ts';
import { X509Source } from '../../sdk/x509-source.ts';
import type { VerbIo } from '../verb.ts';
import { BACKEND } from './demo-resources.ts';
import { newSession, openSessions, replay } from './sample-session.ts';
import { runSshSample } from './sample-ssh.ts';
import { stepper } from './sample-step.ts';

export interface SampleOptions {
  readonly node: Attested;
  /** `unix://` URI. */
  readonly workloadApi: string;
  readonly spiffeId: string;
  readonly gateway: { readonly host: string; readonly port: number };
  /** Path of an ssh_config; undefined where this machine has no sshd. */
  readonly sshConfig: string | undefined;
  readonly io: VerbIo;
}

/** How the agent came to prove this node. */
export interface Attested {
  readonly agentId: string;
  /** By a new join token; else with the SVID of an earlier start. */
  readonly joined: boolean;
  /** From the agent's start until it was in step with the server, its process included. */
  readonly milliseconds: number;
}

const QUERY = 'select id, name, email, ssn, card_number, city from customers order by id limit 3';
const REFUSED = 'delete from orders';
const LONG_QUERY = 'select count(*), pg_sleep(60) from orders';

export async function runSample(options: SampleOptions): Promise<void> {
  const { io, workloadApi } = options;
  const spiffeId = SpiffeId.parse(options.spiffeId);
  const step = stepper(io);
  const { agentId, joined, milliseconds } = options.node;
  const how = joined ? 'by a single-use join token' : 'with the SVID of an earlier start';
  step.told('attest this node', milliseconds, [`${agentId}, ${how}`]);
  await using source = await step('X509-SVID from the agent', async (show) => {
    const opened = await X509Source.connect({ endpoint: workloadApi, spiffeId, signal: io.signal });
    const { id, serial, notAfter } = opened.svid.value;
    show(`${id}, serial ${serial.slice(0, 16)}…, until ${notAfter.toISOString()}`);
    return opened;
  });
  await step('JWT-SVID for the audience "reports"', async (show) => {
    await using client = new WorkloadApiClient(workloadApi);
    const jwt = await fetchJwtSvid(client, 'reports', { spiffeId, signal: io.signal });
    const validated = await client.validateJwtSvid(jwt.token, 'reports', io.signal);
    show(`${jwt.token.slice(0, 24)}…, the agent validates it as ${validated.id}`);
  });
  const before = await openSessions(options.spiffeId, BACKEND, io);
  const client = await step('a session on the backend "shop" through the gateway', async (show) => {
    const opened = await connect(options, source);
    show('by mTLS: no password exists that this workload could leak');
    return opened;
  });
  const ended = endOf(client);
  await step(QUERY, async (show) => {
    const { rows } = await client.query<Record<string, unknown>>(QUERY);
    for (const row of rows) show(Object.values(row).join(' | '));
  });
  await step(REFUSED, async (show) => {
    const error = await refusalOf(client.query(REFUSED));
    show(`${error.code}: ${error.message}`);
  });
  const ours = { spiffeId: options.spiffeId, backend: BACKEND, io };
  const session = await newSession(before, ours);
  await step(`writ session kill ${session}, in mid-query`, async (show) => {
    const query = refusalOf(client.query(LONG_QUERY));
    await systemClock.wait(200, io.signal);
    const killed = systemClock.monotonicMs();
    const request = { sessionId: session, reason: 'shown by writ up' };
    await io.admin(SessionService).killSession(request, { signal: io.signal });
    const error = await query;
    await ended;
    const took = Math.round(systemClock.monotonicMs() - killed);
    show(`${error.code ?? 'connection closed'}: ${error.message} (${took} ms after the command)`);
  });
  await step(`writ session replay ${session}`, async (show) => {
    for (const line of await replay(session, io)) show(line);
  });
  if (options.sshConfig !== undefined) {
    await runSshSample({ step, config: options.sshConfig, spiffeId: options.spiffeId, io });
  }
}

async function connect({ gateway }: SampleOptions, source: X509Source): Promise<pg.Client> {
  const { certificates, key } = svidPem(source.svid.value);
  const client = new pg.Client({
    host: gateway.host,
    port: gateway.port,
    database: BACKEND,
    user: 'reporting',
    application_name: 'writ up sample',
    ssl: { ca: bundleToPem(source.bundle.value), cert: certificates, key, minVersion: 'TLSv1.3' },
  });
  await client.connect();
  return client;
}

function endOf(client: pg.Client): Promise<void> {
  return new Promise((resolve) => {
    client.on('error', () => undefined);
    client.on('end', () => resolve());
  });
}

/** What the database answered in place of a result. */
async function refusalOf(query: Promise<unknown>): Promise<{ code?: string; message: string }> {
  try {
    await query;
  } catch (error) {
    return error as { code?: string; message: string };
  }
  throw new Fault('INTERNAL', 'the sample was allowed what it should be refused');
}
