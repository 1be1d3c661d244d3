import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { asSuperuser } from '../fixtures/shop-catalog.ts';
import { type Outcome, type RunningUp, runWrit, startUp } from '../fixtures/writ-up.ts';

describe('writ backend check, scan, add and prove', () => {
  let up: RunningUp;
  let folder: string;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
    folder = await mkdtemp(join(tmpdir(), 'writ-check-'));
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  /** As an administrator of the shop: the password comes by the environment. */
  const writ = (...args: readonly string[]): Promise<Outcome> =>
    runWrit(['backend', ...args], {
      WRIT_ADMIN_SOCKET: up.json.server.admin_socket,
      DATABASE_URL: encrypted(up),
    });

  it('P9 G13 ends with status 1 while a login gets round the mask, and its repairs end that', async () => {
    const clean = await writ('check', 'shop');
    assert.equal(clean.status, 0, clean.stdout + clean.stderr);
    await asSuperuser(up, 'create role leaky login; grant select on public.customers to leaky');
    const file = join(folder, 'repairs.sql');
    const found = await writ('check', 'shop', '--repairs', file);
    assert.equal(found.status, 1);
    assert.match(found.stdout, /^critical \[other-login\] leaky: reads .*ssn.* last use: unknown/m);
    const json = await writ('check', 'shop', '--json');
    assert.equal(json.status, 1);
    assert.equal(JSON.parse(json.stdout)[0].subject, 'leaky');
    await asSuperuser(up, await readFile(file, 'utf8'));
    assert.equal((await writ('check', 'shop')).status, 0);
    await asSuperuser(up, await readFile(`${file}.undo`, 'utf8'));
    assert.equal((await writ('check', 'shop')).status, 1);
    await asSuperuser(up, 'drop owned by leaky; drop role leaky');
  }).timeout(60_000);

  it('G13 signs what it proved, and nobody can change it', async () => {
    const file = join(folder, 'proof.json');
    const proof = await writ('prove', 'shop', '--out', file);
    assert.equal(proof.status, 0, proof.stdout + proof.stderr);
    assert.match(proof.stdout, / 0 leaks; values of \d columns compared/);
    const verified = await writ('prove', '--verify', file);
    assert.match(verified.stdout, /^backend shop, signed .*: 0 leaks$/m);
    await writeFile(file, (await readFile(file, 'utf8')).replace('masked', 'unseen'));
    const changed = await writ('prove', '--verify', file);
    assert.equal(changed.status, 1);
    assert.match(changed.stderr, /^writ: .*does not fit.*\n$/);
    await asSuperuser(up, 'grant select (ssn) on public.customers to public');
    const leaking = await writ('prove', 'shop', '--out', file);
    assert.equal(leaking.status, 1);
    assert.match(leaking.stdout, /LEAK public\.customers\.ssn: base table/);
    assert.doesNotMatch(leaking.stdout + (await readFile(file, 'utf8')), /\b\d{3}-\d\d-\d{4}\b/);
    assert.equal((await writ('prove', '--verify', file)).status, 1);
    await asSuperuser(up, 'revoke select (ssn) on public.customers from public');
  }).timeout(60_000);

  it('changes neither server nor database without --apply', async () => {
    const list = () =>
      up.admin(ResourceService).listResources({}, { signal: AbortSignal.timeout(10_000) });
    const before = await list();
    const out = join(folder, 'other');
    const outcome = await writ('add', '--name', 'other', '--out', out, '--password-file', '/x');
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(await readFile(join(out, 'access.yaml'), 'utf8'), /^name: other$/m);
    assert.match(await readFile(join(out, 'setup.sql'), 'utf8'), /^BEGIN;$/m);
    assert.deepEqual((await list()).resources.length, before.resources.length);
    const refused = await writ('add', '--name', 'other', '--out', out, '--apply');
    assert.match(refused.stderr, /^writ: writ_gateway is there already/m);
  }).timeout(30_000);

  it('says what is wrong in one line', async () => {
    const wrong: readonly (readonly [string[], number])[] = [
      [['check', 'nowhere'], 1],
      [['scan', 'nowhere'], 1],
      [['prove'], 2],
      [['prove', 'shop', '--grant', 'none'], 2],
      [['prove', '--verify', '/nonexistent'], 2],
      [['add', '--name', 'shop'], 2],
      [['add', '--name', 'x', '--identity', 'spiffe://example.org/none'], 2],
      [['check', 'shop', '--url', 'http://x'], 2],
      [['check', 'shop', '--url', 'postgresql://a:b@c/d'], 2],
      [['check', 'shop', '--url', 'postgresql://a@127.0.0.1:1/d'], 1],
    ];
    for (const [args, status] of wrong) {
      const outcome = await writ(...args);
      assert.match(outcome.stderr, /^writ: [^\n]*\n$/, args.join(' '));
      assert.equal(outcome.status, status, outcome.stderr);
    }
  }).timeout(60_000);
});

/** The demo takes session roles by TLS alone. */
function encrypted(up: RunningUp): string {
  const url = new URL(up.json.demo.database_url);
  url.hostname = 'localhost';
  url.searchParams.set('sslmode', 'verify-full');
  url.searchParams.set('sslrootcert', join(up.state, 'postgres-ca.pem'));
  return url.href;
}
