import assert from 'node:assert/strict';
import { createCsr } from '../identity/x509/csr.ts';
import { generateKey } from '../identity/x509/key.ts';
import { Agent } from '../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { SVID } from '../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { entryInit } from '../test/fixtures/registry-world.ts';
import { CALL, RunningServer } from '../test/fixtures/running-server.ts';

describe('limitedServices', function () {
  this.timeout(60_000);
  let server: RunningServer;
  beforeEach(async () => {
    server = await RunningServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  const tokens = (count: number) =>
    Promise.all(
      Array.from({ length: count }, () =>
        server.admin(Agent).createJoinToken({ ttl: 600, token: '' }, CALL),
      ),
    );

  it('lets a rack of nodes behind one address attest, one a second, and refuses none', async () => {
    const all = await tokens(12);
    const attested = await Promise.all(all.map(({ value }) => server.attest(value)));
    assert.equal(new Set(attested.map(({ id }) => id.path)).size, 12);
  });

  it('refuses a first message that is too large to be kept, before its turn', async () => {
    const [token] = await tokens(1);
    await server.attest(token?.value ?? '');
    await assert.rejects(server.attest('x'.repeat(300 * 1024)), {
      status: 'INVALID_ARGUMENT',
      message: /^the first message is longer than/,
    });
  });

  it('refuses a batch of more than a second of signing', async () => {
    const csr = createCsr(await generateKey('ec-p256'));
    const { svid, channel } = await server.newAgent();
    const entry = await server.createEntry(entryInit({ parent: svid.id.path }));
    const batchOf = (length: number) => {
      const params = Array.from({ length }, () => ({ entryId: entry.id, csr }));
      return channel.client(SVID).batchNewX509SVID({ params }, CALL);
    };
    await assert.rejects(batchOf(501), { status: 'RESOURCE_EXHAUSTED' });
    assert.equal((await batchOf(500)).results.length, 500);
  });

  it('holds nobody on the admin socket to a limit', async () => {
    const all = await tokens(2);
    const csr = createCsr(await generateKey('ec-p256'));
    // Who waited for a turn would be told at once that this is too short for it.
    const options = { ...CALL, timeoutMs: 900 };
    for (const { value } of all) {
      const data = { type: 'join_token', payload: Buffer.from(value) };
      const params = { data, params: { csr } };
      async function* requests() {
        yield { step: { case: 'params' as const, value: params } };
      }
      for await (const { step } of server.admin(Agent).attestAgent(requests(), options))
        assert.equal(step.case, 'result');
    }
  });
});
