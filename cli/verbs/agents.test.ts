import assert from 'node:assert/strict';
import { writAt } from '../../test/fixtures/cli-at-server.ts';
import { entryInit, TD } from '../../test/fixtures/registry-world.ts';
import { RunningServer } from '../../test/fixtures/running-server.ts';

describe('writ agent', () => {
  let server: RunningServer;
  let id: string;
  let entryId: string;
  before(async () => {
    server = await RunningServer.start();
    const { svid } = await server.newAgent();
    id = svid.id.toString();
    entryId = (await server.createEntry(entryInit({ parent: svid.id.path }))).id;
  });
  after(() => server[Symbol.asyncDispose]());

  const writ = (...argv: readonly string[]) => writAt(server, 'agent', ...argv);
  const shown = async () => JSON.parse((await writ('show', id, '--json')).out);

  it('lists and shows agents', async () => {
    const [listed] = JSON.parse((await writ('list', '--json')).out);
    assert.equal(listed.id, id);
    const { attestation_type, serial_number, banned } = await shown();
    assert.deepEqual([attestation_type, banned], ['join_token', 'false']);
    assert.match(serial_number, /^[0-9]+$/);
    assert.match((await writ('show', id)).out, /^id: +spiffe:/m);
  });

  it('S12: shows what an agent could be served', async () => {
    const reach = JSON.parse((await writ('show', id, '--reach', '--json')).out);
    assert.deepEqual(reach, [
      { spiffe_id: `spiffe://${TD}/web`, grants: '', through: id, entry: entryId },
    ]);
    const table = (await writ('show', id, '--reach')).out.split('\n');
    assert.match(String(table[0]), /^SPIFFE ID +GRANTS +THROUGH +ENTRY$/);
    assert.equal(table.length, 2);
  });

  it('bans, evicts, and says what it has done', async () => {
    assert.deepEqual(await writ('ban', id), { out: '', err: `banned ${id}` });
    assert.equal((await shown()).banned, 'true');
    assert.equal((await writ('show', id, '--reach', '--json')).out, '[]');
    assert.deepEqual(await writ('evict', id), { out: '', err: `evicted ${id}` });
    await assert.rejects(writ('show', id), { faultCode: 'NOT_FOUND' });
    await assert.rejects(writ('show', id, '--reach'), { faultCode: 'NOT_FOUND' });
    await assert.rejects(writ('ban', 'agent-7'), { code: 'SPIFFE_ID_INVALID' });
  });
});
