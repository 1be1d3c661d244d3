import assert from 'node:assert/strict';
import { writAt } from '../../test/fixtures/cli-at-server.ts';
import { RunningServer } from '../../test/fixtures/running-server.ts';

describe('writ authority', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  const writ = (...argv: readonly string[]) => writAt(server, 'authority', ...argv);
  const listed = async (kind: string): Promise<{ id: string; state: string; tainted: string }[]> =>
    JSON.parse((await writ('list', '--json')).out).filter(
      (one: { readonly kind: string }) => one.kind === kind,
    );
  const states = async (kind: string) => (await listed(kind)).map(({ state }) => state).join();

  it('lists the authorities of every kind', async () => {
    const { out } = await writ('list');
    assert.match(out, /^KIND +STATE +TAINTED +KEY TYPE +NOT BEFORE +NOT AFTER +ID\n/);
    for (const [kind, keyType] of [
      ['x509', 'ec-p256'],
      ['jwt', 'ec-p256'],
      ['ssh-user', 'ed25519'],
      ['ssh-host', 'ed25519'],
      ['ssh-gateway', 'ed25519'],
    ])
      assert.match(out, new RegExp(`^${kind} +active +no +${keyType} `, 'm'));
  });

  for (const kind of ['x509', 'jwt'])
    it(`prepares, activates, taints and revokes for ${kind}`, async () => {
      const [{ id: old } = { id: '' }] = await listed(kind);
      const { out: id } = await writ('prepare', kind);
      assert.equal(await states(kind), 'active,prepared');
      assert.equal((await writ('activate', id)).err, `activated ${id}`);
      assert.equal(await states(kind), 'active,old');
      await assert.rejects(writ('revoke', old), { status: 'FAILED_PRECONDITION' });
      assert.equal((await writ('taint', old)).err, `tainted ${old}`);
      assert.equal((await writ('revoke', old)).err, `revoked ${old}`);
      assert.deepEqual(
        (await listed(kind)).map((one) => [one.id, one.state]),
        [[id, 'active']],
      );
    });

  for (const kind of ['ssh-user', 'ssh-host', 'ssh-gateway'])
    it(`prepares, activates and revokes for ${kind}`, async () => {
      const [{ id: old } = { id: '' }] = await listed(kind);
      const { out: id } = await writ('prepare', kind);
      await writ('activate', id);
      assert.equal(await states(kind), 'active,old');
      await assert.rejects(writ('taint', old), { code: 'USAGE' });
      await assert.rejects(writ('revoke', id), { status: 'INVALID_ARGUMENT' });
      await writ('revoke', old);
      assert.equal(await states(kind), 'active');
    });

  it('refuses what is not there', async () => {
    await assert.rejects(writ('prepare', 'x'), { code: 'USAGE' });
    for (const verb of ['activate', 'taint', 'revoke'])
      await assert.rejects(writ(verb, 'unknown'), { code: 'NOT_FOUND' });
    for (const verb of ['taint', 'revoke'])
      await assert.rejects(writ(verb, 'ab', '--upstream'), { status: 'FAILED_PRECONDITION' });
  });
});
