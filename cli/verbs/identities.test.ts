import assert from 'node:assert/strict';
import { writAt } from '../../test/fixtures/cli-at-server.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import { RunningServer } from '../../test/fixtures/running-server.ts';

const ID = `spiffe://${TD}/billing`;
const FLAGS = ['--owner', 'ana', '--purpose', 'bills', '--environment', 'prod'];

describe('writ identity', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
    const bounds = ['--max-agents', '2', '--jwt-audience', 'db', '--jwt-audience', 'queue'];
    const labels = ['--label', 'team=pay', '--label', 'url=a=b'];
    const made = await writ('create', ID, ...FLAGS, '--expires-in', '30d', ...bounds, ...labels);
    assert.deepEqual(made, { out: ID, err: '' });
  });
  after(() => server[Symbol.asyncDispose]());

  const writ = (...argv: readonly string[]) => writAt(server, 'identity', ...argv);
  const shown = async () => JSON.parse((await writ('show', ID, '--json')).out);
  const days = (text: string) => Math.round((Date.parse(text) - Date.now()) / 86_400_000);

  it('create records all that its flags say', async () => {
    const { expires_at, created_at, ...rest } = await shown();
    assert.deepEqual(rest, {
      ...{ spiffe_id: ID, owner: 'ana', purpose: 'bills', environment: 'prod', kind: 'service' },
      ...{ status: 'active', labels: { team: 'pay', url: 'a=b' } },
      ...{ jwt_audiences: ['db', 'queue'], max_agents: 2 },
    });
    assert.equal(days(expires_at), 30);
    assert.ok(Date.parse(created_at) <= Date.now());
  });

  it('create does not change a record that is there', async () => {
    const again = writ('create', ID, ...FLAGS, '--owner', 'eve', '--expires-in', '1d');
    await assert.rejects(again, { code: 'ALREADY_EXISTS' });
    assert.equal((await shown()).owner, 'ana');
  });

  it('update changes what it names, and nothing else', async () => {
    const before = await shown();
    const flags = ['--owner', 'bo', '--label', 'tier=1', '--remove-label', 'url', '--json'];
    const printed = JSON.parse((await writ('update', ID, ...flags)).out);
    const labels = { team: 'pay', tier: '1' };
    assert.deepEqual(printed, { ...before, owner: 'bo', labels });
    assert.deepEqual(await shown(), printed);
    const bounds = ['--max-agents', '0', '--any-jwt-audience', '--expires-in', '1d'];
    await writ('update', ID, ...bounds);
    const after = await shown();
    assert.deepEqual([after.max_agents, after.jwt_audiences, after.labels], [0, [], labels]);
    assert.equal(days(after.expires_at), 1);
  });

  it('update makes no record', async () => {
    const update = writ('update', `spiffe://${TD}/none`, '--owner', 'bo');
    await assert.rejects(update, { code: 'NOT_FOUND' });
  });

  it('entry create with an owner keeps what it does not name', async () => {
    await writ('update', ID, '--max-agents', '5', '--jwt-audience', 'db');
    const entry = [
      '--spiffe-id',
      ID,
      '--parent-id',
      `spiffe://${TD}/node`,
      '--selector',
      'unix:uid:7',
    ];
    await writAt(server, 'entry', 'create', ...entry, ...FLAGS, '--expires-in', '9d');
    const { max_agents, jwt_audiences, owner } = await shown();
    assert.deepEqual([max_agents, jwt_audiences, owner], [5, ['db'], 'ana']);
  });

  it('suspend, activate and retire set the status', async () => {
    assert.equal((await writ('suspend', ID)).err, `${ID} is suspended`);
    assert.equal((await shown()).status, 'suspended');
    await writ('activate', ID, '--reason', 'cleared');
    assert.equal((await shown()).status, 'active');
    assert.equal(JSON.parse((await writ('retire', ID, '--json')).out).status, 'retired');
  });

  it('list prints a table, and with --json all that the records say', async () => {
    assert.match((await writ('list')).out, /^SPIFFE ID .*\nspiffe:\/\/example.org\/billing .* ana/);
    const [record] = JSON.parse((await writ('list', '--json')).out);
    assert.deepEqual(Object.keys(record), Object.keys(await shown()));
  });

  const wrong: [string, string[]][] = [
    ['an owner left out', ['create', `${ID}2`, ...FLAGS.slice(2), '--expires-in', '1d']],
    ['an end left out', ['create', `${ID}2`, ...FLAGS]],
    ['a label without a value', ['update', ID, '--label', 'team']],
    ['a number of agents that is none', ['update', ID, '--max-agents', 'few']],
    ['a million agents and one', ['update', ID, '--max-agents', '1000001']],
  ];
  for (const [what, argv] of wrong) {
    it(`refuses ${what}`, () => assert.rejects(writ(...argv), { code: 'USAGE' }));
  }
});
