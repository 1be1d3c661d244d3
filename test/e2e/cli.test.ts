import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { readingWorkload } from '../fixtures/workload.ts';
import { type RunningUp, runWrit, startUp } from '../fixtures/writ-up.ts';

describe('writ', function () {
  this.timeout(30_000);

  let up: RunningUp;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
  });

  const listings = [
    ['agent', 'list'],
    ['entry', 'list'],
    ['identity', 'list'],
    ['grant', 'list'],
    ['gateway', 'list'],
    ['session', 'list'],
    ['lock', 'list'],
  ];
  for (const words of listings) {
    it(`${words.join(' ')} prints a table, and JSON with --json`, async () => {
      const table = await up.writ(...words);
      assert.equal(table.status, 0, table.stderr);
      assert.match(table.stdout, /^[A-Z0-9 ]+\n/);
      const json = await up.writ(...words, '--json');
      assert.ok(Array.isArray(JSON.parse(json.stdout)));
    });
  }

  it('registers an entry with its owner, shows it, and deletes it', async () => {
    const id = `spiffe://${up.json.trust_domain}/cli`;
    const created = await up.writ(
      ...['entry', 'create', '--spiffe-id', id, '--parent-id', up.json.agent.id],
      ...['--selector', 'unix:uid:4242', '--owner', 'ana@example.org', '--purpose', 'a test'],
      ...['--environment', 'test', '--expires-in', '1d'],
    );
    assert.equal(created.status, 0, created.stderr);
    const entry = created.stdout.trim();
    assert.match((await up.writ('entry', 'show', entry)).stdout, /unix:uid:4242/);
    assert.match((await up.writ('identity', 'show', id)).stdout, /ana@example\.org/);
    assert.equal((await up.writ('entry', 'delete', entry)).status, 0);
    const gone = await up.writ('entry', 'show', entry);
    assert.equal(gone.status, 1);
    assert.match(gone.stderr, /^writ: .+\n$/);
  });

  it('mints a join string that stands alone on stdout', async () => {
    const { stdout, status } = await up.writ('token', 'create', '--ttl', '1m');
    assert.equal(status, 0);
    assert.match(stdout, /^writ1\.[A-Za-z0-9_-]{43}\.[0-9a-f]{64}\n$/);
  });

  it('audits each act and verifies the whole chain', async () => {
    await using workload = await readingWorkload(up, 'audited');
    const client = await workload.connect();
    await client.end();
    const tail = await up.writ('audit', 'tail', '--last', '200');
    for (const type of ['identity.svid.issued', 'session.opened', 'resource.']) {
      assert.ok(tail.stdout.includes(type), `${type} in\n${tail.stdout}`);
    }
    const verified = await up.writ('audit', 'verify');
    assert.equal(verified.status, 0, verified.stderr);
    assert.match(verified.stdout, /^\d+ events, unbroken; head [0-9a-f]{64}\n$/);
  });

  it('writes no event that docs/audit-events.md does not list', async () => {
    const page = await readFile(new URL('../../docs/audit-events.md', import.meta.url), 'utf8');
    const listed = new Set([...page.matchAll(/`([a-z_.]+)`/g)].map((match) => match[1]));
    const { stdout } = await up.writ('audit', 'tail', '--last', '1000', '--json');
    const types = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).type as string);
    assert.ok(types.length > 10);
    assert.deepEqual(
      [...new Set(types)].filter((type) => !listed.has(type)),
      [],
    );
  });

  it('fetches an SVID, a JWT-SVID and the bundle for scripts', async () => {
    await using workload = await readingWorkload(up, 'fetched');
    const out = join(up.state, 'fetched');
    const x509 = await up.writ('fetch', 'x509', '--out', out, '--spiffe-id', workload.spiffeId);
    assert.equal(x509.status, 0, x509.stderr);
    assert.equal(x509.stdout, `${workload.spiffeId}\n`);
    const jwt = await up.writ('fetch', 'jwt', '--audience', 'x', '--spiffe-id', workload.spiffeId);
    assert.equal(jwt.stdout.split('.').length, 3, jwt.stderr);
    assert.match((await up.writ('fetch', 'bundle')).stdout, /^-----BEGIN CERTIFICATE-----/);
  }).timeout(30_000);

  it('refuses an applied file with file, line, path and what is right, and changes nothing', async () => {
    const file = join(up.state, 'bad.yaml');
    await writeFile(
      file,
      [
        'kind: ColumnClass',
        'name: fine',
        'mask: last4',
        '---',
        'kind: ColumnClass',
        'name: bad',
        'mask: rot13',
        'colour: blue',
        '',
      ].join('\n'),
    );
    const { status, stderr } = await up.writ('apply', '-f', file);
    assert.equal(status, 2, stderr);
    assert.match(stderr, /bad\.yaml:7: mask: /);
    assert.match(stderr, /bad\.yaml:8: colour: /);
    const request = { kind: 'ColumnClass' };
    const { resources } = await up
      .admin(ResourceService)
      .listResources(request, { signal: AbortSignal.timeout(5000) });
    assert.deepEqual(
      resources.map(({ name }) => name),
      ['card', 'email', 'national-id'],
    );
    const dry = await up.writ('apply', '--dry-run', '-f', file);
    assert.equal(dry.status, 2);
  });

  it('says what is wrong with a command line, and exits 2', async () => {
    const wrong: readonly (readonly string[])[] = [
      ['nonsense'],
      ['token', 'create', '--ttl', '99d'],
      ['agent', 'show'],
      ['lock', 'create'],
      ['entry', 'create', '--spiffe-id', 'http://x'],
      ['server', 'run'],
    ];
    for (const words of wrong) {
      const { status, stderr, stdout } = await up.writ(...words);
      assert.equal(status, 2, `${words.join(' ')}: ${stderr}`);
      assert.match(stderr, /^writ: /);
      assert.equal(stdout, '');
    }
  });

  it('says in one line that no server answers', async () => {
    const env = { WRIT_ADMIN_SOCKET: '/nonexistent/admin.sock' };
    const { status, stderr } = await runWrit(['agent', 'list'], env);
    assert.equal(status, 1);
    assert.equal(stderr.trim().split('\n').length, 1);
    assert.match(stderr, /admin\.sock/);
  });
});
