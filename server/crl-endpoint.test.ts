import assert from 'node:assert/strict';
import { serveCrls } from './crl-endpoint.ts';

const ID = '0011aabb';
const LISTS = [
  {
    ...{ authorityId: ID, number: 7n, revoked: 2, der: Buffer.from('list') },
    ...{ thisUpdate: new Date(0), nextUpdate: new Date(3_600_000) },
  },
];

describe('serveCrls', () => {
  const serve = () => serveCrls({ listen: { host: '127.0.0.1', port: 0 }, crls: { lists: LISTS } });

  it('serves a list under its authority, with its media type', async () => {
    await using port = await serve();
    const answer = await fetch(`http://${port.address}/crl/${ID}.crl`);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'application/pkix-crl');
    assert.equal(answer.headers.get('cache-control'), 'public, max-age=10');
    assert.equal(answer.headers.get('last-modified'), 'Thu, 01 Jan 1970 00:00:00 GMT');
    assert.equal(await answer.text(), 'list');
    const head = await fetch(`http://${port.address}/crl/${ID}.crl`, { method: 'HEAD' });
    assert.equal(head.headers.get('content-length'), '4');
  });

  it('tells what there is', async () => {
    await using port = await serve();
    const answer = await fetch(`http://${port.address}/crl`);
    assert.deepEqual(await answer.json(), {
      crls: [
        {
          ...{ authority: ID, path: `/crl/${ID}.crl`, number: '7', revoked: 2 },
          ...{ this_update: '1970-01-01T00:00:00.000Z', next_update: '1970-01-01T01:00:00.000Z' },
        },
      ],
    });
  });

  it('answers 404 to what is not there, and 405 to what is no reading', async () => {
    await using port = await serve();
    for (const path of [
      '/',
      '/crl/ffff.crl',
      '/crl/..%2f.crl',
      '/crl/',
      '/metrics',
      `/crl/${ID}`,
    ]) {
      const answer = await fetch(`http://${port.address}${path}`);
      assert.equal(answer.status, 404, path);
    }
    const posted = await fetch(`http://${port.address}/crl/${ID}.crl`, { method: 'POST' });
    assert.equal(posted.status, 405);
    assert.equal(posted.headers.get('allow'), 'GET, HEAD');
  });
});
