import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { verifyJwtSvid } from '../../identity/jwt-svid.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { verifySvid } from '../../identity/verify.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { entryInit, TD } from '../../test/fixtures/registry-world.ts';
import { CALL, firstSync, RunningServer } from '../../test/fixtures/running-server.ts';

describe('svidService', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  it('signs tokens that verify by its JWT keys, each with a jti of its own', async () => {
    const { svid, channel } = await server.newAgent();
    const { id } = await server.entryUnder(svid, '/jwt');
    const { jwtAuthorities, trustDomain } = await server.admin(Bundle).getBundle({}, CALL);
    const bundle = {
      ...(await server.bundle()),
      jwtAuthorities: jwtAuthorities.map(({ keyId, publicKey }) => ({
        ...{ keyId, expiresAt: undefined, tainted: false },
        publicKey: createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }),
      })),
    };
    const tokens = [];
    for (let n = 0; n < 2; n += 1) {
      const { svid: jwt } = await channel
        .client(SVID)
        .newJWTSVID({ entryId: id, audience: ['db'] }, CALL);
      tokens.push(verifyJwtSvid(jwt?.token ?? '', 'db', () => bundle, new Date()));
    }
    assert.equal(trustDomain, TD);
    assert.deepEqual(
      tokens.map(({ id: subject }) => subject.path),
      ['/jwt', '/jwt'],
    );
    assert.notEqual(tokens[0]?.claims.jti, tokens[1]?.claims.jti);
  });

  it('answers each item of a batch by itself, in order, and refuses 0 and 501', async () => {
    const { svid, channel } = await server.newAgent();
    const mine = await server.entryUnder(svid, '/batch');
    const other = await server.createEntry(
      entryInit({ path: '/batch', parent: '/spire/agent/x/other' }),
    );
    const csr = createCsr(await generateKey('ec-p256'));
    const broken = Uint8Array.from(csr);
    const last = broken.length - 1;
    broken[last] = (broken[last] ?? 0) ^ 1;
    const ask = (params: { entryId: string; csr: Uint8Array }[]) =>
      channel.client(SVID).batchNewX509SVID({ params }, CALL);
    const { results } = await ask([
      { entryId: mine.id, csr },
      { entryId: other.id, csr },
      { entryId: mine.id, csr: Buffer.from('garbage') },
      { entryId: mine.id, csr: broken },
      { entryId: mine.id, csr },
    ]);
    assert.deepEqual(
      results.map(({ status }) => status?.code),
      [0, 5, 3, 3, 0],
    );
    await assert.rejects(ask([]), { status: 'INVALID_ARGUMENT' });
    const many = (count: number) =>
      Array.from({ length: count }, () => ({ entryId: mine.id, csr }));
    await assert.rejects(ask(many(501)), { status: 'RESOURCE_EXHAUSTED' });
    assert.equal(
      (await ask(many(500))).results.filter(({ status }) => status?.code === 0).length,
      500,
    );
  });

  it('issues nothing for an identity that is suspended', async () => {
    const { svid, channel } = await server.newAgent();
    const { id } = await server.entryUnder(svid, '/suspended');
    const spiffeId = `spiffe://${TD}/suspended`;
    const change = { spiffeId, status: 'suspended', reason: 'owner left' };
    await server.admin(IdentityService).setIdentityStatus(change, CALL);
    const params = [{ entryId: id, csr: createCsr(await generateKey('ec-p256')) }];
    const { results } = await channel.client(SVID).batchNewX509SVID({ params }, CALL);
    assert.notEqual(results[0]?.status?.code, 0);
    assert.deepEqual((await firstSync(channel)).entries, []);
  });

  it('lets no SVID outlive its entry, and issues nothing from its end on', async () => {
    const { svid, channel } = await server.newAgent();
    const expiresAt = BigInt(Math.floor(Date.now() / 1000) + 2);
    const { id } = await server.entryUnder(svid, '/short', { expiresAt });
    const ask = async () => {
      const params = [{ entryId: id, csr: createCsr(await generateKey('ec-p256')) }];
      return (await channel.client(SVID).batchNewX509SVID({ params }, CALL)).results[0];
    };
    assert.equal((await ask())?.svid?.expiresAt, expiresAt);
    await systemClock.waitUntil(new Date(Number(expiresAt) * 1000), CALL.signal);
    assert.equal((await ask())?.status?.code, 5);
  });

  it('offers no WIT-SVIDs', async () => {
    const unimplemented = { status: 'UNIMPLEMENTED' };
    const id = { trustDomain: TD, path: '/wit' };
    await assert.rejects(server.admin(SVID).mintWITSVID({ id }, CALL), unimplemented);
    const { channel } = await server.newAgent();
    await assert.rejects(channel.client(SVID).batchNewWITSVID({}, CALL), unimplemented);
  });

  it('mints for an operator from a CSR, within the rules', async () => {
    const mint = async (uri: string, ttl = 0) => {
      const key = await generateKey('ec-p256');
      const csr = createCsr(key, { uri: SpiffeId.parse(uri) });
      return (await server.admin(SVID).mintX509SVID({ csr, ttl }, CALL)).svid;
    };
    const svid = await mint(`spiffe://${TD}/minted`, 60);
    const bundle = await server.bundle();
    assert.equal(verifySvid(svid?.certChain ?? [], () => bundle, new Date()).id.path, '/minted');
    for (const uri of [
      `spiffe://${TD}/spire/server`,
      `spiffe://${TD}/writ/gateway/a`,
      'spiffe://other.org/a',
    ])
      await assert.rejects(mint(uri), { status: 'INVALID_ARGUMENT' });
    const id = { trustDomain: TD, path: '/minted' };
    const jwt = await server.admin(SVID).mintJWTSVID({ id, audience: ['a'], ttl: 5 }, CALL);
    assert.equal((jwt.svid?.expiresAt ?? 0n) - (jwt.svid?.issuedAt ?? 0n), 5n);
    await assert.rejects(server.admin(SVID).mintJWTSVID({ id, audience: [] }, CALL), {
      status: 'INVALID_ARGUMENT',
    });
  });
});
