import assert from 'node:assert/strict';
import { localSigner } from '../../identity/signer.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { verifySvid } from '../../identity/verify.ts';
import { type CaIssuer, createCaCsr, selfSignedCa, subordinateCa } from '../../identity/x509/ca.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { leafSigner } from '../../identity/x509/leaf.ts';
import { x509Svid } from '../../identity/x509-svid.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { AuthorityWorld } from '../../test/fixtures/authority-world.ts';
import { handMadeCertificate } from '../../test/fixtures/hand-made-certificate.ts';
import { MemoryUpstream } from '../../test/fixtures/memory-upstream.ts';
import { svidOfNewEntry } from '../../test/fixtures/nested-server.ts';
import { OPERATOR, START, TD } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';
import type { Authorities } from './authorities.ts';
import { isIssuedHere } from './issued-here.ts';

const END = new Date(START.getTime() + 3_600_000);

/** An SVID of an agent below an authority that is not ours. */
async function svidBelow(...issuers: readonly [CaIssuer & { key: Key }, ...CaIssuer[]]) {
  const [{ certificate, key: privateKey }] = issuers;
  const leaf = leafSigner({ certificate, privateKey }).sign({
    ...{ spki: spkiOf(await generateKey('ec-p256')), dnsNames: [], now: START, notAfter: END },
    uri: SpiffeId.parse(`spiffe://${TD}/spire/agent/join_token/a`),
  });
  return [leaf.der, ...issuers.map((one) => one.certificate)];
}

type Key = Awaited<ReturnType<typeof generateKey>>;

async function caBelow(issuer: CaIssuer) {
  const key = await generateKey('ec-p256');
  const init = { trustDomain: TD, now: START, notAfter: END, unit: 'TEST' };
  const { certificate } = await subordinateCa(init, spkiOf(key), issuer);
  return { certificate, signer: localSigner(key), key };
}

describe('OwnIssuers', () => {
  it('refuses an agent whom a server below has given the name and serial of another', async () => {
    await using server = await RunningServer.start();
    const { svid } = await server.newAgent();
    const nested = await svidOfNewEntry(server, '/nested', { downstream: true });
    const key = await generateKey('ec-p256');
    const channel = await server.dial(nested.svid);
    const csr = await createCaCsr(TD, localSigner(key));
    const { caCertChain } = await channel
      .client(SVID)
      .newDownstreamX509CA({ csr, preferredTtl: 600 }, CALL);
    const [certificate = Buffer.of()] = caCertChain;
    const stolen = handMadeCertificate({
      ...{ uris: [svid.id.toString()], serial: Buffer.from(svid.serial, 'hex') },
      issuer: { der: Buffer.from(certificate), key, parts: {} },
      issuerName: parseCertificate(certificate).subject,
    });
    const forged = x509Svid([stolen.der, ...caCertChain], stolen.key);
    assert.deepEqual([forged.serial, String(forged.id)], [svid.serial, String(svid.id)]);
    const thief = await server.dial(forged);
    await assert.rejects(thief.client(Entry).getAuthorizedEntries({}, CALL), {
      status: 'PERMISSION_DENIED',
      message: /another server/,
    });
  });
});

describe('isIssuedHere', () => {
  let world: AuthorityWorld;
  let authorities: Authorities;
  const judge = (chain: readonly Uint8Array[]) => {
    const { bundle } = authorities.state.value;
    verifySvid(chain, () => bundle, world.clock.now());
    return isIssuedHere(chain, authorities.state.value);
  };
  /** The issuer that signs in this server now. */
  const active = (): CaIssuer => {
    const found = authorities.state.value.authorities.find(
      ({ row }) => row.kind === 'x509' && row.state === 'active',
    );
    assert.ok(found?.row.certificate !== undefined && found.signer !== undefined);
    return { certificate: found.row.certificate, signer: found.signer };
  };
  const start = async (upstream?: MemoryUpstream) => {
    world = await AuthorityWorld.create(upstream === undefined ? {} : { upstream });
    authorities = await world.open();
  };
  afterEach(() => world[Symbol.asyncDispose]());

  it('takes what its own authorities have signed, old ones too', async () => {
    await start();
    const before = await world.sign(world.signing(authorities));
    const { id } = await world.prepare(authorities, 'x509');
    await authorities.activate({ kind: 'x509', id }, OPERATOR);
    const after = await world.sign(world.signing(authorities));
    assert.deepEqual([judge(before.chain), judge(after.chain)], [true, true]);
  });

  it('takes nothing of a server below, in whatever order its chain comes', async () => {
    await start();
    const below = await caBelow(active());
    const chain = await svidBelow(below);
    assert.equal(judge(chain), false);
    const [leaf = Buffer.of(), ca = Buffer.of()] = chain;
    assert.equal(judge([leaf, ca, active().certificate]), false);
    assert.equal(isIssuedHere([leaf, active().certificate, ca], authorities.state.value), false);
  });

  it('takes under an upstream what it has signed, and nothing of a server beside or below it', async () => {
    const upstream = new MemoryUpstream();
    await upstream.newRoot();
    await start(upstream);
    assert.equal(judge((await world.sign(world.signing(authorities))).chain), true);
    const own = active();
    const below = await caBelow(own);
    assert.equal(judge(await svidBelow(below, own)), false);
    assert.ok(upstream.issuer !== undefined);
    assert.equal(judge(await svidBelow(await caBelow(upstream.issuer))), false);
  });

  it('takes what stands below a root that an operator has appended', async () => {
    await start();
    const key = await generateKey('ec-p256');
    const signer = localSigner(key);
    const { certificate } = await selfSignedCa(
      { trustDomain: TD, now: START, notAfter: END },
      signer,
    );
    const moved = { certificate, signer, key };
    await world.store.transaction((tx) =>
      authorities.append(tx, { x509: [certificate], jwt: [] }, OPERATOR),
    );
    const [leaf = Buffer.of()] = await svidBelow(moved);
    assert.equal(judge([leaf]), true);
    const between = await caBelow(moved);
    assert.equal(judge(await svidBelow(between)), true);
    assert.equal(judge(await svidBelow(await caBelow(between), between)), false);
  });
});
