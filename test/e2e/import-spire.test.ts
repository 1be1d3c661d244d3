import assert from 'node:assert/strict';
import { authorizeId } from '../../identity/authorizer.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { svidClientTls } from '../../identity/tls.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import { writAt } from '../fixtures/cli-at-server.ts';
import { entryInit } from '../fixtures/registry-world.ts';
import { CALL, RunningServer } from '../fixtures/running-server.ts';

const SERVER = SpiffeId.parse('spiffe://example.org/spire/server');
const OWNER = [
  ...['--owner', 'ana@example.org', '--purpose', 'moved', '--environment', 'prod'],
  ...['--expires-in', '90d'],
];

/** Another server of the same trust domain stands for SPIRE's: it is read through SPIRE's API alone. */
describe('moving from SPIRE', () => {
  it('takes entries, agents and bundles over, and the agents go on with the SVIDs they have', async () => {
    await using spire = await RunningServer.start();
    await using writ = await RunningServer.start({ config: { registration: {} } });
    const { svid: agent } = await spire.newAgent();
    const moved = await spire.entryUnder(agent, '/shop/web');
    await spire.createEntry(entryInit({ path: '/shop/db' }));
    const { svid: banned } = await spire.newAgent();
    await spire.admin(Agent).banAgent({ id: banned.id }, CALL);

    const from = ['import', 'spire', '--from', spire.facts.adminSocket];
    const plan = await writAt(writ, ...from, '--dry-run', '--json');
    const found = Object.fromEntries(
      JSON.parse(plan.out).map((row: { kind: string; found: number }) => [row.kind, row.found]),
    );
    assert.deepEqual([found.entries, found.agents, found.identities], [2, 2, 2]);
    assert.equal((await writ.admin(Entry).countEntries({}, CALL)).count, 0);

    const first = await writAt(writ, ...from, ...OWNER, '--publish-bundle', '--json');
    const rows: { kind: string; imported: number; known: number; refused: number }[] = JSON.parse(
      first.out,
    );
    const of = (kind: string) => rows.find((row) => row.kind === kind);
    assert.deepEqual([of('entries')?.imported, of('agents')?.imported], [2, 2]);
    const again = await writAt(writ, ...from, ...OWNER, '--json');
    assert.deepEqual(
      JSON.parse(again.out).find((row: { kind: string }) => row.kind === 'entries'),
      { kind: 'entries', imported: 0, known: 2, refused: 0 },
    );

    // The agent trusts what SPIRE's bundle says, and that names the new server's authority now.
    const bundle = await spire.bundle();
    const dial = (svid: typeof agent) =>
      RpcChannel.tls(
        writ.facts.address,
        svidClientTls({ svid, bundle, clock: systemClock, authorize: authorizeId(SERVER) }),
      );
    await using asAgent = dial(agent);
    const { entries } = await asAgent.client(Entry).getAuthorizedEntries({}, CALL);
    assert.deepEqual(
      entries.map(({ id }) => id),
      [moved.id],
    );
    await using asBanned = dial(banned);
    await assert.rejects(asBanned.client(Entry).getAuthorizedEntries({}, CALL), {
      status: 'PERMISSION_DENIED',
    });
    const own = await writ.admin(Bundle).getBundle({}, CALL);
    assert.ok(own.x509Authorities.length >= 2);
  }).timeout(60_000);

  it('refuses a server of another trust domain, and says what a record lacks', async () => {
    await using spire = await RunningServer.start();
    await using other = await RunningServer.start({
      config: { trust_domain: 'other.org', registration: {} },
    });
    const from = ['import', 'spire', '--from', spire.facts.adminSocket];
    await assert.rejects(writAt(other, ...from), { message: /trust domain is example\.org/ });
    await using writ = await RunningServer.start({ config: { registration: {} } });
    await assert.rejects(writAt(writ, ...from, '--owner', 'ana'), { code: 'USAGE' });
    await spire.createEntry(entryInit({}));
    await assert.rejects(writAt(writ, ...from), { code: 'FAILED_PRECONDITION' });
  }).timeout(60_000);
});
