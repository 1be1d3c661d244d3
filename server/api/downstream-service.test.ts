import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { svidRefusal, verifySvid } from '../../identity/verify.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { parseCrl } from '../../identity/x509/crl.ts';
import { CrlView } from '../../identity/x509/crl-view.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { leafSigner } from '../../identity/x509/leaf.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import type { RpcChannel } from '../../runtime/grpc-client.ts';
import { svidOfNewEntry } from '../../test/fixtures/nested-server.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';

const INVALID = { status: 'INVALID_ARGUMENT' };
const DENIED = { status: 'PERMISSION_DENIED' };
const DOMAIN = SpiffeId.parse(`spiffe://${TD}`);

describe('downstreamService', () => {
  let server: RunningServer;
  let nested: RpcChannel;
  let entryId: string;
  let agentId: string;
  before(async () => {
    server = await RunningServer.start();
    const first = await svidOfNewEntry(server, '/nested', { downstream: true });
    ({ entryId, agentId } = first);
    nested = await server.dial(first.svid);
  });
  after(() => server[Symbol.asyncDispose]());

  const mint = (key: KeyObject, preferredTtl = 0, channel = nested) =>
    channel
      .client(SVID)
      .newDownstreamX509CA({ csr: createCsr(key, { uri: DOMAIN }), preferredTtl }, CALL);
  const secondsLeft = (der: Uint8Array | undefined) =>
    (parseCertificate(der ?? Buffer.of()).notAfter.getTime() - Date.now()) / 1000;

  it('signs an authority whose SVIDs verify against the bundle, and tells the roots', async () => {
    const key = await generateKey('ec-p256');
    const { caCertChain, x509Authorities } = await mint(key);
    const [certificate = Buffer.of()] = caCertChain;
    const bundle = await server.bundle();
    assert.deepEqual(x509Authorities.map(Buffer.from), bundle.x509Authorities.map(rawOf));
    const leaf = leafSigner({ certificate, privateKey: key }).sign({
      ...{ spki: spkiOf(await generateKey('ec-p256')), dnsNames: [], now: new Date() },
      uri: SpiffeId.parse(`spiffe://${TD}/below`),
      notAfter: new Date(Date.now() + 60_000),
    });
    const { id } = verifySvid([leaf.der, ...caCertChain], () => bundle, new Date());
    assert.equal(id.path, '/below');
  });

  it('records it with the nested server and its entry', async () => {
    const { caCertChain } = await mint(await generateKey('ec-p256'));
    const { serial } = parseCertificate(caCertChain[0] ?? Buffer.of());
    const told = (await server.events()).find(({ svidSerial }) => svidSerial === serial);
    assert.deepEqual(
      [told?.type, told?.actor?.kind, told?.actor?.spiffeId, told?.entryId, told?.agentId],
      ['identity.svid.issued', 'downstream', `spiffe://${TD}/nested`, entryId, agentId],
    );
    assert.equal(told?.attributes.use, 'downstream_ca');
  });

  it('lets it live as long as it wishes, but not beyond its issuer', async () => {
    const key = await generateKey('ec-p384');
    const short = secondsLeft((await mint(key, 90)).caCertChain[0]);
    assert.ok(short > 60 && short <= 90, `${short} s`);
    const issuerEnd = (await server.bundle()).x509Authorities[0]?.certificate.notAfter;
    const { caCertChain } = await mint(key, 10 * 24 * 3600);
    assert.deepEqual(parseCertificate(caCertChain[0] ?? Buffer.of()).notAfter, issuerEnd);
    await assert.rejects(mint(key, -1), INVALID);
  });

  it('lets it live no longer than the entry', async () => {
    const expiresAt = BigInt(Math.floor(Date.now() / 1000) + 300);
    const more = { downstream: true, expiresAt };
    const { svid } = await svidOfNewEntry(server, '/nested-for-now', more);
    const { caCertChain } = await mint(await generateKey('ec-p256'), 3600, await server.dial(svid));
    const { notAfter } = parseCertificate(caCertChain[0] ?? Buffer.of());
    assert.equal(notAfter.getTime(), Number(expiresAt) * 1000);
  });

  it('refuses a request that its key has not signed, another trust domain, and none', async () => {
    const ask = (csr: Uint8Array) => nested.client(SVID).newDownstreamX509CA({ csr }, CALL);
    const key = await generateKey('ec-p256');
    const broken = Uint8Array.from(createCsr(key));
    const last = broken.length - 1;
    broken[last] = (broken[last] ?? 0) ^ 1;
    const foreign = createCsr(key, { uri: SpiffeId.parse('spiffe://other.org') });
    const workload = createCsr(key, { uri: SpiffeId.parse(`spiffe://${TD}/a`) });
    for (const csr of [broken, foreign, workload, Buffer.of(), Buffer.from('garbage')])
      await assert.rejects(ask(csr), INVALID);
  });

  it('puts the JWT key of a nested server into the bundle and tells them all', async () => {
    const publicKey = createPublicKey(await generateKey('ec-p256'));
    const expiresAt = BigInt(Math.floor(Date.now() / 1000) + 3600);
    const jwtAuthority = { keyId: 'nested-1', publicKey: spkiOf(publicKey), expiresAt };
    const publish = (message: object) =>
      nested.client(Bundle).publishJWTAuthority({ jwtAuthority: message }, CALL);
    const { jwtAuthorities } = await publish(jwtAuthority);
    const bundled = (await server.admin(Bundle).getBundle({}, CALL)).jwtAuthorities;
    assert.deepEqual(jwtAuthorities, bundled);
    assert.equal(jwtAuthorities.length, 2);
    assert.ok(
      jwtAuthorities.some((one) => one.keyId === 'nested-1' && one.expiresAt === expiresAt),
    );
    const [own] = jwtAuthorities.filter(({ keyId }) => keyId !== 'nested-1');
    for (const wrong of [
      { ...jwtAuthority, keyId: own?.keyId },
      { ...jwtAuthority, keyId: '' },
      { ...jwtAuthority, publicKey: Buffer.from('garbage') },
      {
        ...jwtAuthority,
        keyId: 'weak',
        publicKey: spkiOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey),
      },
      {
        ...jwtAuthority,
        keyId: 'no JWK',
        publicKey: spkiOf(
          generateKeyPairSync('dsa', { modulusLength: 1024, divisorLength: 160 }).publicKey,
        ),
      },
    ])
      await assert.rejects(publish(wrong), INVALID);
    await assert.rejects(nested.client(Bundle).publishJWTAuthority({}, CALL), INVALID);
    await assert.rejects(nested.client(Bundle).publishWITAuthority({}, CALL), {
      status: 'UNIMPLEMENTED',
    });
  });

  it('is revoked with its entry, and so is all that it signs', async () => {
    const { svid, entryId: id } = await svidOfNewEntry(server, '/left', { downstream: true });
    const privateKey = await generateKey('ec-p256');
    const { caCertChain } = await mint(privateKey, 0, await server.dial(svid));
    const leaf = leafSigner({ certificate: caCertChain[0] ?? Buffer.of(), privateKey }).sign({
      ...{ spki: spkiOf(await generateKey('ec-p256')), dnsNames: [], now: new Date() },
      uri: SpiffeId.parse(`spiffe://${TD}/below`),
      notAfter: new Date(Date.now() + 60_000),
    });
    const bundle = await server.bundle();
    const { channel } = await server.newAgent();
    const verdict = async () => {
      const { crls } = await channel.client(AgentService).getCrl({}, CALL);
      const view = new CrlView({ clock: systemClock, onBad: () => assert.fail() });
      view.offer(crls.map(parseCrl));
      try {
        verifySvid([leaf.der, ...caCertChain], () => bundle, new Date(), view.status);
        return undefined;
      } catch (error) {
        return svidRefusal(error);
      }
    };
    assert.equal(await verdict(), undefined);
    await server.admin(Entry).batchDeleteEntry({ ids: [id] }, CALL);
    assert.equal(await verdict(), 'revoked by its authority');
  });

  it('serves no workload without a downstream entry, and none whose entry is gone', async () => {
    const key = await generateKey('ec-p256');
    const plain = await svidOfNewEntry(server, '/plain');
    await assert.rejects(mint(key, 0, await server.dial(plain.svid)), DENIED);
    await assert.rejects(mint(key, 0, await server.dial()), DENIED);
    const gone = await svidOfNewEntry(server, '/gone', { downstream: true });
    const channel = await server.dial(gone.svid);
    await mint(key, 0, channel);
    await server.admin(Entry).batchDeleteEntry({ ids: [gone.entryId] }, CALL);
    await assert.rejects(mint(key, 0, channel), DENIED);
  });
});

function rawOf({ der }: { readonly der: Uint8Array }): Buffer {
  return Buffer.from(der);
}
