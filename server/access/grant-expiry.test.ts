import assert from 'node:assert/strict';
import { AccessWorld, BACKEND, documents, grantYaml } from '../../test/fixtures/access-world.ts';
import { GrantExpiry } from './grant-expiry.ts';

describe('GrantExpiry', () => {
  let world: AccessWorld;
  let expiry: GrantExpiry;
  beforeEach(async () => {
    world = await AccessWorld.create();
    expiry = new GrantExpiry(world);
  });

  const grantFor = (milliseconds: number, name = 'reads') => {
    const expires = new Date(world.clock.now().getTime() + milliseconds).toISOString();
    return world.apply(documents(BACKEND, grantYaml(name, { expires })));
  };
  const revoked = async () =>
    (await world.revocations.since(0n)).map(({ cause, subject }) => [
      cause,
      subject?.subject.value,
    ]);

  it('revokes a grant within a moment of its end, once, also one that came later', async () => {
    const stop = new AbortController();
    const running = expiry.run(stop.signal).catch(() => undefined);
    await grantFor(2000);
    await world.clock.advance(1950);
    assert.deepEqual(await revoked(), []);
    await world.clock.advance(100);
    assert.deepEqual(await revoked(), [['grant.expired', 'reads']]);
    await grantFor(1000, 'again');
    await world.clock.advance(3000);
    assert.deepEqual(await revoked(), [
      ['grant.expired', 'reads'],
      ['grant.expired', 'again'],
    ]);
    assert.equal((await world.events('grant.expired')).length, 2);
    stop.abort();
    await running;
  });

  it('catches up with what expired while the server was down', async () => {
    await grantFor(1000);
    await world.clock.advance(2000);
    await expiry.expire();
    await new GrantExpiry(world).expire();
    assert.deepEqual(await revoked(), [['grant.expired', 'reads']]);
  });

  it('revokes again a grant that was prolonged and has expired again', async () => {
    await grantFor(1000);
    await world.clock.advance(2000);
    await expiry.expire();
    await grantFor(1000);
    await expiry.expire();
    assert.equal((await revoked()).length, 1);
    await world.clock.advance(2000);
    await expiry.expire();
    assert.equal((await revoked()).length, 2);
  });
});
