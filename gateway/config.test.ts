import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { gatewayIdOf, loadGatewayConfig } from './config.ts';

const MINIMAL = `
trust_domain: example.org
name: gw-1
state_dir: /var/lib/writ/gateway
server: 127.0.0.1:8081
workload_api: /run/writ/agent.sock
listen:
  postgres: 127.0.0.1:6432
health: 127.0.0.1:9104
`;

describe('loadGatewayConfig', () => {
  let file: string;
  beforeEach(async () => {
    file = join(await mkdtemp(join(tmpdir(), 'writ-config-')), 'gateway.yaml');
  });
  afterEach(() => rm(join(file, '..'), { recursive: true }));

  const load = async (text: string) => {
    await writeFile(file, text);
    return loadGatewayConfig(file);
  };

  it('fills in defaults', async () => {
    const config = await load(MINIMAL);
    assert.deepEqual(config.limits, { sessions: 5000, sessions_per_identity: 100 });
    assert.deepEqual(config.log, { level: 'info' });
    assert.deepEqual(config.listen, { postgres: { host: '127.0.0.1', port: 6432 } });
    assert.equal(String(gatewayIdOf(config)), 'spiffe://example.org/writ/gateway/gw-1');
  });

  it('takes a port for SSH, with one for PostgreSQL or without', async () => {
    const ssh = { host: '127.0.0.1', port: 2222 };
    const both = await load(MINIMAL.replace('  postgres:', '  ssh: 127.0.0.1:2222\n  postgres:'));
    assert.deepEqual(both.listen, { ssh, postgres: { host: '127.0.0.1', port: 6432 } });
    const alone = await load(MINIMAL.replace('postgres: 127.0.0.1:6432', 'ssh: 127.0.0.1:2222'));
    assert.deepEqual(alone.listen, { ssh });
  });

  it('takes another SPIFFE ID', async () => {
    const config = await load(`${MINIMAL}spiffe_id: spiffe://example.org/edge\n`);
    assert.equal(String(gatewayIdOf(config)), 'spiffe://example.org/edge');
  });

  for (const [what, from, to, message] of [
    ['an unknown key', 'name: gw-1', 'nmae: gw-1', /gateway\.yaml:3: nmae: expected no such key/],
    ['a bad name', 'gw-1', 'GW_1', /:3: name: expected a name of a-z, 0-9 and -/],
    ['a bad trust domain', 'example.org', 'Example', /:2: trust_domain: expected a trust domain/],
    ['an unknown protocol', 'postgres: ', 'mysql: ', /:8: listen\.mysql: expected no such key/],
    [
      'no protocol',
      'listen:\n  postgres: 127.0.0.1:6432',
      'listen: {}',
      /:7: listen: expected a pr/,
    ],
    ['a relative path', '/run/', 'run/', /:6: workload_api: expected an absolute path/],
  ] as const) {
    it(`refuses ${what} by file, line and path`, async () => {
      await assert.rejects(load(MINIMAL.replace(from, to)), { code: 'CONFIG_INVALID', message });
    });
  }

  it('takes a number of workers, or as many as there are cores', async () => {
    assert.equal((await load(MINIMAL)).workers, 1);
    assert.equal((await load(`${MINIMAL}workers: 3\n`)).workers, 3);
    assert.equal((await load(`${MINIMAL}workers: auto\n`)).workers, availableParallelism());
    for (const wrong of ['0', '65', '1.5', 'many', '"2"']) {
      await assert.rejects(load(`${MINIMAL}workers: ${wrong}\n`), {
        code: 'CONFIG_INVALID',
        message: /:10: workers: expected auto or a number from 1 to 64/,
      });
    }
  });

  it('refuses a limit of none', async () => {
    await assert.rejects(load(`${MINIMAL}limits:\n  sessions: 0\n`), {
      code: 'CONFIG_INVALID',
      message: /:11: limits\.sessions: /,
    });
  });
});
