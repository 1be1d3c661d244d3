import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifySvid } from '../../../identity/verify.ts';
import { encodePem } from '../../../identity/x509/pem.ts';
import { AuthorityWorld } from '../../../test/fixtures/authority-world.ts';
import {
  type HandMade,
  handMadeCa,
  handMadeCertificate,
  newKey,
  type Parts,
  USAGE,
} from '../../../test/fixtures/hand-made-certificate.ts';
import { ManualClock, OPERATOR, START, TD } from '../../../test/fixtures/registry-world.ts';
import { RunningServer, temporaryDir } from '../../../test/fixtures/running-server.ts';
import { diskUpstream } from './disk.ts';

const DAY_MS = 24 * 3_600_000;
const VALID = {
  notBefore: new Date(START.getTime() - DAY_MS),
  notAfter: new Date(START.getTime() + 30 * DAY_MS),
};

describe('diskUpstream', () => {
  let dir: ReturnType<typeof temporaryDir>;
  beforeEach(() => {
    dir = temporaryDir();
  });
  afterEach(() => dir[Symbol.dispose]());

  const certFile = () => join(dir.path, 'ca.pem');
  const keyFile = () => join(dir.path, 'ca.key');
  const bundleFile = () => join(dir.path, 'roots.pem');
  const hold = (chain: readonly HandMade[], key: KeyObject, roots?: readonly HandMade[]) => {
    writeFileSync(certFile(), pemOf(chain));
    writeFileSync(keyFile(), key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    if (roots !== undefined) writeFileSync(bundleFile(), pemOf(roots));
  };
  const open = ({ withBundle = false } = {}) =>
    diskUpstream({
      ...{ trustDomain: TD, clock: new ManualClock() },
      files: {
        ...{ certFile: certFile(), keyFile: keyFile() },
        bundleFile: withBundle ? bundleFile() : undefined,
      },
    });
  const root = (parts: Parts = {}) => handMadeCa({ ...VALID, ...parts });
  const problems = async (opening: Promise<unknown>): Promise<string[]> => {
    const error = await opening.then(
      () => assert.fail('the files were taken'),
      (reason: unknown) => reason as { code?: string; message: string },
    );
    assert.equal(error.code, 'CONFIG_INVALID');
    return error.message.split('\n').map((line) => {
      assert.match(line, /^upstream_authority\.disk: /);
      return line.slice('upstream_authority.disk: '.length).replaceAll(`${dir.path}/`, '');
    });
  };

  it('signs below a root, which alone goes into the bundle', async () => {
    const ca = root();
    hold([ca], ca.key);
    await using world = await AuthorityWorld.create({ upstream: await open() });
    const authority = world.signing(await world.open());
    const { chain } = await world.sign(authority);
    const bundle = authority.bundle.value;
    assert.deepEqual(
      bundle.x509Authorities.map(({ der }) => Buffer.from(der)),
      [ca.der],
    );
    assert.equal(chain.length, 2);
    verifySvid(chain, () => bundle, world.clock.now());
  });

  it('signs below an intermediate, with what leads to the roots of the bundle file', async () => {
    const top = root();
    const between = root({ name: 'Between', issuer: top });
    const ca = root({ name: 'Signing', issuer: between });
    const other = root({ name: 'Other' });
    for (const sent of [
      [ca, between],
      [ca, between, top],
    ]) {
      hold(sent, ca.key, [other, top]);
      await using world = await AuthorityWorld.create({
        upstream: await open({ withBundle: true }),
      });
      const authority = world.signing(await world.open());
      const { chain } = await world.sign(authority);
      assert.deepEqual(chain.slice(2).map(Buffer.from), [ca.der, between.der]);
      const bundle = authority.bundle.value;
      assert.equal(bundle.x509Authorities.length, 2);
      verifySvid(chain, () => bundle, world.clock.now());
    }
  });

  it('takes up other files at the next preparation, and the old root stays good', async () => {
    const [first, second] = [root(), root({ name: 'Second' })];
    hold([first], first.key);
    await using world = await AuthorityWorld.create({ upstream: await open() });
    const authorities = await world.open();
    const authority = world.signing(authorities);
    const before = await world.sign(authority);
    hold([second], second.key);
    const { id } = await world.prepare(authorities, 'x509');
    assert.equal(authority.bundle.value.x509Authorities.length, 2);
    await authorities.activate({ kind: 'x509', id }, OPERATOR);
    const after = await world.sign(authority);
    const bundle = authority.bundle.value;
    for (const { chain } of [before, after]) verifySvid(chain, () => bundle, world.clock.now());
    // Files that are half swapped sign nothing, and what there was goes on.
    hold([first], second.key);
    await assert.rejects(world.prepare(authorities, 'x509'), { code: 'FAILED_PRECONDITION' });
    await world.sign(authority);
  });

  it('says in one line each what is wrong with the files', async () => {
    const ca = root();
    hold([ca], newKey());
    assert.deepEqual(await problems(open()), [
      'ca.key is not the key of the first certificate of ca.pem',
    ]);
    const ended = new Date(START.getTime() - 1000);
    const leaf = handMadeCertificate({ ...VALID, uris: [], notAfter: ended });
    hold([leaf], newKey());
    assert.deepEqual(await problems(open()), [
      'ca.key is not the key of the first certificate of ca.pem',
      'ca.pem: certificate 1 is none of an authority (CA:TRUE)',
      'ca.pem: certificate 1 may not sign certificates (keyCertSign)',
      `ca.pem: certificate 1 has expired at ${whole(ended)}`,
    ]);
    writeFileSync(certFile(), 'garbage');
    writeFileSync(keyFile(), 'garbage');
    assert.deepEqual(await problems(open({ withBundle: true })), [
      'ca.pem: PEM CERTIFICATE: a block is missing or malformed',
      'ca.key holds no private key in PEM that is not encrypted',
      'roots.pem cannot be read: ENOENT',
    ]);
  });

  const organisations: [string, () => HandMade][] = [
    ['with the SPIFFE ID of another trust domain', () => root({ uris: ['spiffe://local'] })],
    ['without SPIFFE ID or key usage', () => root({ uris: [], keyUsage: null })],
    [
      'on P-521',
      () => root({ key: generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey }),
    ],
  ];
  for (const [what, make] of organisations)
    it(`signs below a root ${what}, such as an organisation has`, async () => {
      const ca = make();
      hold([ca], ca.key);
      await using world = await AuthorityWorld.create({ upstream: await open() });
      const authority = world.signing(await world.open());
      const { chain } = await world.sign(authority);
      verifySvid(chain, () => authority.bundle.value, world.clock.now());
    });

  const early = new Date(START.getTime() + 1000);
  const top = root();
  const unfit: [string, () => HandMade[], RegExp, HandMade[]?][] = [
    [
      'a chain without its root',
      () => [root({ issuer: top, name: 'A' })],
      /does not end with a root/,
    ],
    ['one that begins later', () => [root({ notBefore: early })], /is not valid before/],
    ['a root that may have no authority below', () => [root({ pathLength: 0 })], /path length/],
    [
      'the authority of another trust domain',
      () => [root({ issuer: top, name: 'A', uris: ['spiffe://other.org'] }), top],
      /another trust domain/,
    ],
    [
      'usage that is not critical below the root',
      () => [root({ issuer: top, name: 'A', keyUsageCritical: false }), top],
      /lacks keyCertSign/,
    ],
    [
      'an authority below the root without usage',
      () => [root({ issuer: top, name: 'A', keyUsage: null }), top],
      /lacks keyCertSign/,
    ],
    ['usage without keyCertSign', () => [root({ keyUsage: USAGE.cRLSign })], /keyCertSign/],
    [
      'roots that did not sign it',
      () => [root({ issuer: top, name: 'A' })],
      /no trusted authority/,
      [root({ name: 'Other' })],
    ],
  ];
  for (const [what, make, says, roots] of unfit)
    it(`refuses ${what}`, async () => {
      const chain = make();
      hold(chain, chain[0]?.key ?? newKey(), roots);
      const lines = await problems(open({ withBundle: roots !== undefined }));
      assert.equal(lines.length, 1);
      assert.match(lines[0] ?? '', says);
    });

  it('refuses a key that others can read', async () => {
    const ca = root();
    hold([ca], ca.key);
    chmodSync(keyFile(), 0o640);
    assert.deepEqual(await problems(open()), [
      'ca.key can be read by others: its mode must be 0600',
    ]);
  });

  it('is what a server starts with, or not at all', async () => {
    const ca = handMadeCa();
    hold([ca], ca.key);
    const config = {
      upstream_authority: { disk: { cert_file: certFile(), key_file: keyFile() } },
    };
    await using server = await RunningServer.start({ config });
    const { svid } = await server.newAgent();
    const bundle = await server.bundle();
    assert.deepEqual(
      bundle.x509Authorities.map(({ der }) => Buffer.from(der)),
      [ca.der],
    );
    verifySvid(svid.chain, () => bundle, new Date());
    hold([ca], newKey());
    await assert.rejects(RunningServer.start({ config }), { code: 'CONFIG_INVALID' });
  });
});

function pemOf(certificates: readonly HandMade[]): string {
  return certificates.map(({ der }) => encodePem('CERTIFICATE', der)).join('');
}

function whole(at: Date): string {
  return new Date(Math.floor(at.getTime() / 1000) * 1000).toISOString();
}
