/** How the demo's agent and gateway come to their identities, by the calls an operator would make. */
import { readFile } from 'node:fs/promises';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { type Bundle, makeBundle } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { decodePem } from '../../identity/x509/pem.ts';
import { Bundle as BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import {
  GatewayRegistryService,
  IdentityService,
  JoinTokenService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import { Fault } from '../../runtime/fault.ts';
import { idMessage, onlyResult } from '../spire-text.ts';
import type { VerbIo } from '../verb.ts';
import { sampleIdentity } from './demo-resources.ts';
import { GATEWAY_NAME, gatewayId, gatewayProgram, nodeAlias, type Plan } from './plan.ts';
import type { StateDir } from './state-dir.ts';

const TOKEN_SECONDS = 600;
const IDENTITY_LIFE_MS = 30 * 24 * 60 * 60 * 1000;

export interface Joined {
  /** Whether the agent needed a new join token. */
  readonly anew: boolean;
  /** The SPIFFE ID that the agent attested with. */
  agentId(): Promise<string>;
  bundle(): Promise<Bundle>;
}

/** Leaves a join string for the agent, unless it can go on with the SVID it has. */
export async function joinAgent(plan: Plan, state: StateDir, io: VerbIo): Promise<Joined> {
  const svid = () => agentSvid(state);
  const held = await svid();
  const anew = held === undefined || hasEnded(held);
  if (anew) await leaveJoinString(plan, state, io);
  return {
    anew,
    async agentId() {
      const now = await svid();
      if (now === undefined) throw new Fault('INTERNAL', 'the agent has no SVID');
      return String(now.id);
    },
    async bundle() {
      const bundle = await io.admin(BundleService).getBundle({}, { signal: io.signal });
      const authorities = bundle.x509Authorities.map(({ asn1 }) => asn1);
      return makeBundle({ trustDomain: plan.trustDomain, x509: authorities });
    },
  };
}

/**
 * A new join string for an agent whose SVID ran out while this machine slept. One without an SVID was
 * refused by the server, a banned one say, and is not helped back in.
 */
export async function rejoinExpiredAgent(plan: Plan, state: StateDir, io: VerbIo): Promise<void> {
  const held = await agentSvid(state);
  if (held !== undefined && hasEnded(held)) await leaveJoinString(plan, state, io);
}

async function leaveJoinString(plan: Plan, state: StateDir, io: VerbIo): Promise<void> {
  const request = { ttlSeconds: TOKEN_SECONDS, agentId: nodeAlias(plan) };
  const { joinString } = await io
    .admin(JoinTokenService)
    .createJoinToken(request, { signal: io.signal });
  await writeAtomic(state.in('agent', 'join-string'), Buffer.from(`${joinString}\n`), 0o600);
}

function hasEnded({ notAfter }: { readonly notAfter: Date }): boolean {
  return notAfter.getTime() <= Date.now();
}

/** Read from the file that the agent keeps its SVID in. */
async function agentSvid(state: StateDir): Promise<{ id: SpiffeId; notAfter: Date } | undefined> {
  const text = await readFile(state.in('agent', 'agent-svid.json'), 'utf8').catch(() => '');
  if (text === '') return undefined;
  const { certificates } = JSON.parse(text) as { readonly certificates: string };
  const [leaf] = decodePem('CERTIFICATE', certificates).map((der) => parseCertificate(der));
  const uri = leaf?.uriSans[0];
  if (leaf === undefined || uri === undefined) return undefined;
  return { id: SpiffeId.parse(uri), notAfter: leaf.notAfter };
}

/** Makes the gateway's record, once; returns the program that its entry's selectors name. */
export async function registerGateway(plan: Plan, state: StateDir, io: VerbIo): Promise<string> {
  const program = await gatewayProgram(state);
  const registry = io.admin(GatewayRegistryService);
  const { gateways } = await registry.listGateways({}, { signal: io.signal });
  if (gateways.some(({ spiffeId }) => spiffeId === gatewayId(plan))) return program;
  const request = {
    name: GATEWAY_NAME,
    backends: ['*'],
    names: ['localhost', '127.0.0.1', '::1'],
    parentId: nodeAlias(plan),
    selectors: [`unix:uid:${process.getuid?.() ?? 0}`, `unix:path:${program}`],
  };
  await registry.createGateway(request, { signal: io.signal });
  return program;
}

/** The identity of the sample: any process of this user on this machine. */
export async function ensureSampleEntry(plan: Plan, io: VerbIo): Promise<void> {
  const spiffeId = sampleIdentity(plan);
  const entries = io.admin(Entry);
  const filter = { bySpiffeId: idMessage(spiffeId) };
  const known = await entries.listEntries({ filter }, { signal: io.signal });
  if (known.entries.length > 0) return;
  const identity = {
    spiffeId,
    owner: 'ana@shop.example',
    purpose: 'nightly revenue report',
    environment: 'demo',
    kind: 'service',
    status: 'active',
    expiresAt: timestampFromDate(new Date(Date.now() + IDENTITY_LIFE_MS)),
  };
  await io.admin(IdentityService).putIdentity({ identity }, { signal: io.signal });
  const entry = {
    spiffeId: idMessage(spiffeId),
    parentId: idMessage(nodeAlias(plan)),
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.() ?? 0}` }],
  };
  const { results } = await entries.batchCreateEntry({ entries: [entry] }, { signal: io.signal });
  onlyResult(results);
}
