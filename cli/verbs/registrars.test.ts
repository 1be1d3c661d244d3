import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writAt } from '../../test/fixtures/cli-at-server.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import { RunningServer, temporaryDir } from '../../test/fixtures/running-server.ts';

const ID = `spiffe://${TD}/ci`;
const DOCUMENT = `
spiffe_id: ${ID}
spiffe_ids: ['spiffe://${TD}/apps/*']
parents: ['spiffe://${TD}/spire/agent/x509pop/*']
selectors: ['k8s:ns:apps', k8s]
dns_names: ['*.apps.example.org']
hint: true
max_x509_svid_ttl: 30m
defaults: { owner: apps, purpose: the apps, environment: prod, kind: service, expires_in: 90d }
`;

describe('writ registrar', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  const writ = (...argv: readonly string[]) => writAt(server, 'registrar', ...argv);
  const put = async (text: string) => {
    using dir = temporaryDir();
    const file = join(dir.path, 'registrar.yaml');
    writeFileSync(file, text);
    return await writ('put', '-f', file);
  };

  it('puts, shows, lists and deletes one', async () => {
    assert.deepEqual(await put(DOCUMENT), { out: ID, err: '' });
    const { created_at, ...shown } = JSON.parse((await writ('show', ID, '--json')).out);
    assert.deepEqual(shown, {
      spiffe_id: ID,
      spiffe_ids: [`spiffe://${TD}/apps/*`],
      parents: [`spiffe://${TD}/spire/agent/x509pop/*`],
      selectors: ['k8s:ns:apps', 'k8s'],
      dns_names: ['*.apps.example.org'],
      federates_with: [],
      hint: true,
      max_x509_svid_ttl: '30m',
      defaults: {
        ...{ owner: 'apps', purpose: 'the apps', environment: 'prod', kind: 'service' },
        expires_in: '90d',
      },
    });
    assert.ok(Date.parse(created_at) <= Date.now());
    assert.match((await writ('list')).out, /^SPIFFE ID .*SELECTORS\n.*\/ci .*k8s:ns:apps k8s$/);
    assert.equal(JSON.parse((await writ('list', '--json')).out).length, 1);
    assert.equal((await writ('delete', ID)).err, `deleted ${ID}`);
    assert.equal((await writ('list', '--json')).out, '[]');
    await assert.rejects(writ('show', ID), { code: 'NOT_FOUND' });
    await assert.rejects(writ('delete', ID), { status: 'NOT_FOUND' });
  });

  const wrong: [string, string, RegExp][] = [
    ['an unknown key', `${DOCUMENT}admin: true\n`, /:10: admin: expected no such key/],
    ['bounds left out', DOCUMENT.replace(/parents.*\n/, ''), /parents: expected this key/],
    ['empty bounds', DOCUMENT.replace(/selectors.*\n/, 'selectors: []\n'), /selectors: .*one/],
    ['a duration that is none', DOCUMENT.replace('30m', '30'), /max_x509_svid_ttl/],
    ['two documents', `${DOCUMENT}---\n${DOCUMENT}`, /expected one document/],
  ];
  for (const [what, text, message] of wrong) {
    it(`refuses ${what}, by line and path`, async () => {
      await assert.rejects(put(text), { code: 'CONFIG_INVALID', message });
    });
  }

  it('says what the server makes of the bounds', async () => {
    const reserved = DOCUMENT.replace(`${TD}/apps/*`, `${TD}/writ/*`);
    await assert.rejects(put(reserved), { message: /spiffe_ids: \/writ is reserved/ });
  });
});
