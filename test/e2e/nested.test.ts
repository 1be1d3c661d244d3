/** A server below another one: its SVIDs are good wherever the other's are. */
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fromBinary } from '@bufbuild/protobuf';
import type { Bundle } from '../../identity/bundle.ts';
import { verifyJwtSvid } from '../../identity/jwt-svid.ts';
import { verifySvid } from '../../identity/verify.ts';
import { isIssuedBy, parseCertificate } from '../../identity/x509/certificate.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle as BundleRpc } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { LocalAuthority } from '../../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { AuditService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { EventSchema } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { X509Source } from '../../sdk/x509-source.ts';
import { svidOfNewEntry } from '../fixtures/nested-server.ts';
import { entryInit, TD } from '../fixtures/registry-world.ts';
import { RunningAgent } from '../fixtures/running-agent.ts';
import { CALL, RunningServer, until } from '../fixtures/running-server.ts';

describe('A nested server', () => {
  let root: RunningServer;
  let agent: RunningAgent;
  let nested: RunningServer;
  const nestedEntry = (server: RunningServer) =>
    server.createEntry(
      entryInit({
        ...{ path: '/nested', parent: '/node', more: { downstream: true } },
        selectors: [`unix:uid:${process.getuid?.()}`],
      }),
    );
  const configUnder = ({ facts }: RunningServer) => ({
    upstream_authority: {
      spire: { server: facts.address, workload_api_socket: agent.socket },
    },
  });
  before(async function () {
    this.timeout(60_000);
    root = await RunningServer.start();
    agent = await RunningAgent.start(root, `spiffe://${TD}/node`);
    await nestedEntry(root);
    nested = await RunningServer.start({ config: configUnder(root) });
  });
  after(async () => {
    await nested?.[Symbol.asyncDispose]();
    await agent?.[Symbol.asyncDispose]();
    await root[Symbol.asyncDispose]();
  });

  it('issues X509-SVIDs that verify against the bundle of the root, which it serves too', async () => {
    const { svid } = await svidOfNewEntry(nested, '/below');
    const bundle = await root.bundle();
    assert.equal(svid.chain.length, 2);
    assert.equal(verifySvid(svid.chain, () => bundle, new Date()).id.path, '/below');
    assert.deepEqual(dersOf(await nested.bundle()), dersOf(bundle));
  });

  it('has its JWT keys published there, and follows those of others', async () => {
    const keys = async (server: RunningServer) =>
      (await server.admin(BundleRpc).getBundle({}, CALL)).jwtAuthorities;
    await until(async () => (await keys(root)).length === 2 && (await keys(nested)).length === 2);
    const id = { trustDomain: TD, path: '/below' };
    for (const [issuer, verifier] of [
      [nested, root],
      [root, nested],
    ] as const) {
      const { svid } = await issuer.admin(SVID).mintJWTSVID({ id, audience: ['db'] }, CALL);
      const jwtAuthorities = (await keys(verifier)).map(({ keyId, publicKey }) => ({
        ...{ keyId, expiresAt: undefined, tainted: false },
        publicKey: createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }),
      }));
      const bundle = { ...(await verifier.bundle()), jwtAuthorities };
      verifyJwtSvid(svid?.token ?? '', 'db', () => bundle, new Date());
    }
  });

  it('follows a new root before that signs', async () => {
    const local = root.admin(LocalAuthority);
    const { preparedAuthority } = await local.prepareX509Authority({}, CALL);
    assert.equal((await root.bundle()).x509Authorities.length, 2);
    await trusted(nested, 2);
    assert.deepEqual(dersOf(await nested.bundle()), dersOf(await root.bundle()));
    await local.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' }, CALL);
    const below = nested.admin(LocalAuthority);
    const next = await below.prepareX509Authority({}, CALL);
    const authorityId = next.preparedAuthority?.authorityId ?? '';
    await below.activateX509Authority({ authorityId }, CALL);
    const { svid } = await svidOfNewEntry(nested, '/after');
    const bundle = await root.bundle();
    verifySvid(svid.chain, () => bundle, new Date());
  }).timeout(30_000);

  it('passes on that a root is tainted, then that it is gone: agents below take new SVIDs', async () => {
    // Those of other tests do not renew, and a root is kept for five minutes for who has not.
    const nodes = nested.admin(Agent);
    for (const { id } of (await nodes.listAgents({}, CALL)).agents)
      if (id !== undefined) await nodes.deleteAgent({ id }, CALL);
    await using below = await RunningAgent.start(nested, `spiffe://${TD}/below-node`);
    const selectors = [`unix:uid:${process.getuid?.()}`];
    await nested.createEntry(entryInit({ path: '/kept', parent: '/below-node', selectors }));
    const endpoint = `unix://${below.socket}`;
    await using source = await X509Source.connect({
      endpoint,
      signal: AbortSignal.timeout(20_000),
    });
    const local = root.admin(LocalAuthority);
    const first = await local.getX509AuthorityState({}, CALL);
    const authorityId = first.active?.authorityId ?? '';
    const next = await local.prepareX509Authority({}, CALL);
    const activated = { authorityId: next.preparedAuthority?.authorityId ?? '' };
    await local.activateX509Authority(activated, CALL);
    await local.taintX509Authority({ authorityId }, CALL);
    const standing = async () => {
      const { x509Authorities } = await nested.admin(BundleRpc).getBundle({}, CALL);
      const found = x509Authorities.find(({ asn1 }) => keyIdOf(asn1) === authorityId);
      return found === undefined ? 'gone' : found.tainted ? 'tainted' : 'good';
    };
    await passes(async () => (await standing()) === 'tainted');
    await passes(
      async () => rootOf(source.svid.value, await root.bundle()) === activated.authorityId,
    );
    await passes(() =>
      local.revokeX509Authority({ authorityId }, CALL).then(
        () => true,
        () => false,
      ),
    );
    await passes(async () => (await standing()) === 'gone');
    verifySvid(source.svid.value.chain, await bundleLookup(nested), new Date());
  }).timeout(90_000);

  it('does not start below a server that has no downstream entry for it', async () => {
    await assert.rejects(RunningServer.start({ config: configUnder(nested) }), {
      code: 'FAILED_PRECONDITION',
      message: 'upstream_authority.spire: the server above answers PERMISSION_DENIED',
    });
  });
});

/** Waits for at most half a minute: a nested server asks every five seconds. */
async function passes(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 30_000;
  while (!(await holds())) {
    assert.ok(performance.now() < end, String(holds));
    await sleep(200);
  }
}

/** The subject key id of the root that an SVID is below. */
function rootOf({ chain }: X509Svid, { x509Authorities }: Bundle): string | undefined {
  const last = parseCertificate(chain.at(-1) ?? Buffer.of());
  const found = x509Authorities.find(({ certificate }) => isIssuedBy(last, certificate));
  return found && keyIdOf(found.der);
}

function keyIdOf(der: Uint8Array): string {
  return Buffer.from(parseCertificate(der).subjectKeyId ?? []).toString('hex');
}

async function bundleLookup(server: RunningServer) {
  const bundle = await server.bundle();
  return () => bundle;
}

/** Waits until so many X.509 authorities that are not its own have come to a server. */
async function trusted(server: RunningServer, count: number): Promise<void> {
  const request = { afterSeq: 0n, follow: true, last: 0 };
  let found = 0;
  for await (const { event } of server.admin(AuditService).tailEvents(request, CALL)) {
    const { type, attributes } = fromBinary(EventSchema, event?.body ?? Buffer.of());
    if (type === 'authority.trusted' && attributes.kind === 'x509') found += 1;
    if (found === count) return;
  }
}

function dersOf({ x509Authorities }: Bundle): string[] {
  return x509Authorities.map(({ der }) => Buffer.from(der).toString('hex')).sort();
}
