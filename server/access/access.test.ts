import assert from 'node:assert/strict';
import { AccessServer } from '../../test/fixtures/access-server.ts';
import { BACKEND, documents, grantYaml } from '../../test/fixtures/access-world.ts';

describe('createAccess', () => {
  let server: AccessServer;
  beforeEach(async () => {
    server = await AccessServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  const grantFor = (milliseconds: number) => {
    const expires = new Date(server.world.clock.now().getTime() + milliseconds).toISOString();
    return server.apply(documents(BACKEND, grantYaml('reads', { expires })));
  };
  const causes = async () => (await server.world.revocations.since(0n)).map(({ cause }) => cause);

  it('ends grants when their time has come, and sessions whose gateway is lost', async () => {
    await grantFor(40_000);
    const { sessionId } = await server.openSession();
    await server.world.clock.advance(36_000);
    const session = await server.world.sessions.get(sessionId);
    assert.equal(session.closeReason, 'gateway lost');
    assert.deepEqual(await causes(), []);
    await server.world.clock.advance(5000);
    assert.deepEqual(await causes(), ['grant.expired']);
  });

  it('goes on after the store has failed', async () => {
    await grantFor(3000);
    await server.world.run('alter table revocations rename to away');
    await server.world.clock.advance(5000);
    await server.world.run('alter table away rename to revocations');
    await server.world.clock.advance(2000);
    assert.deepEqual(await causes(), ['grant.expired']);
  });
});
