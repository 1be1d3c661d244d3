import assert from 'node:assert/strict';
import { AuthorityWorld, idOf, statesOf } from '../../test/fixtures/authority-world.ts';
import { onEachPostgres } from '../../test/fixtures/each-postgres.ts';
import { OPERATOR } from '../../test/fixtures/registry-world.ts';
import { openPostgres } from '../plugins/datastore/postgres.ts';

onEachPostgres('Authorities', (server) => {
  it('go through their lives, and are taken up again', async () => {
    const { host, port, user, password } = server();
    await server().exec('create database authorities');
    const target = { host, port, user, password, database: 'authorities' };
    const store = await openPostgres({ ...target, ssl: false, options: '' });
    await using world = await AuthorityWorld.create({ store, settings: { ttlSeconds: 60 } });
    const authorities = await world.open();
    const { serial } = await world.sign(world.signing(authorities));
    await store.transaction((tx) =>
      tx.run(
        `insert into agents (id, attestation_type, serial, not_after_ms, can_reattest, selectors, attested_at_ms)
         values ('a', 'join_token', ?, ?, 0, '[]', 0)`,
        serial,
        world.inSeconds(3600).getTime(),
      ),
    );
    for (const kind of ['x509', 'jwt', 'ssh-user'] as const) {
      const old = idOf(authorities, kind, 'active');
      const { id } = await world.prepare(authorities, kind);
      await authorities.activate({ kind, id }, OPERATOR);
      if (kind !== 'ssh-user') await authorities.taint({ kind, id: old }, OPERATOR);
      const revoke = () => authorities.revoke({ kind, id: old }, OPERATOR);
      if (kind === 'x509') {
        await assert.rejects(revoke(), { code: 'FAILED_PRECONDITION', message: /^1 agent/ });
        await store.transaction((tx) => tx.run('update agents set banned = 1'));
      }
      await revoke();
      assert.deepEqual(statesOf(authorities, kind), ['active']);
    }
    const { bundle } = authorities.state.value;
    const again = await world.open();
    assert.equal(again.state.value.bundle.sequenceNumber, bundle.sequenceNumber);
    world.clock.advance(30_000);
    await world.rotate(again);
    assert.deepEqual(statesOf(again, 'x509'), ['active', 'prepared']);
    await again.addUpstream({ x509: [], jwt: [] });
    const foreign = await AuthorityWorld.create();
    const { x509Authorities, jwtAuthorities } = (await foreign.open()).state.value.bundle;
    await foreign[Symbol.asyncDispose]();
    await again.addUpstream({ x509: x509Authorities, jwt: jwtAuthorities });
    assert.equal(again.state.value.bundle.x509Authorities.length, 3);
  });
});
