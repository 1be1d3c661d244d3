import assert from 'node:assert/strict';
import { bundlePin } from '../../identity/bundle.ts';
import { verifyJwtSvid } from '../../identity/jwt-svid.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { verifySvid } from '../../identity/verify.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { leafSigner } from '../../identity/x509/leaf.ts';
import { AuthorityWorld, WEB } from '../../test/fixtures/authority-world.ts';
import { OPERATOR, TD } from '../../test/fixtures/registry-world.ts';
import { memoryKeyManager } from '../plugins/key-manager/memory.ts';

const DAY_MS = 24 * 3_600_000;

describe('Authority', () => {
  let world: AuthorityWorld;
  beforeEach(async () => {
    world = await AuthorityWorld.create();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const open = async () => world.signing(await world.open());

  it('takes the authorities up again after a restart, with the same bundle', async () => {
    const first = await open();
    const again = await open();
    assert.equal(bundlePin(again.bundle.value), bundlePin(first.bundle.value));
    assert.deepEqual(
      [again.bundle.value.sequenceNumber, again.bundle.value.jwtAuthorities.length],
      [2n, 1],
    );
    const [root] = first.bundle.value.x509Authorities;
    assert.equal(root?.certificate.notAfter.getTime(), world.clock.now().getTime() + DAY_MS);
  });

  it('has each SVID in the ledger and the audit log before it is given out, and none that rolled back', async () => {
    const authorities = await world.open();
    const authority = world.signing(authorities);
    const { serial, notAfter } = await world.sign(authority);
    const row = await world.store.get('select * from ledger');
    assert.deepEqual(
      [row?.serial, row?.kind, row?.spiffe_id, row?.entry_id, row?.not_after_ms],
      [serial, 'x509', WEB.toString(), 'e', notAfter.getTime()],
    );
    assert.equal(row?.authority_id, authority.caSigners()[0]?.id);
    const spki = spkiOf(await generateKey('ec-p256'));
    const broken = world.store.transaction(async (tx) => {
      const request = { id: WEB, spki, notAfter: world.inSeconds(60), actor: OPERATOR };
      await authority.signX509(tx, { kind: 'x509', ...request });
      throw new Error('no');
    });
    await assert.rejects(broken, { message: 'no' });
    assert.equal((await world.store.all('select 1 from ledger')).length, 1);
    assert.deepEqual(world.issued, ['x509']);
  });

  it('signs nothing past the end of its authority, and nothing that has ended', async () => {
    const authority = await open();
    const { notAfter } = await world.sign(authority, 2 * 24 * 3600);
    assert.equal(notAfter.getTime(), world.clock.now().getTime() + DAY_MS);
    await assert.rejects(world.sign(authority, 0), { code: 'FAILED_PRECONDITION' });
  });

  const signJwt = (
    authority: Awaited<ReturnType<typeof open>>,
    milliseconds: number,
    audience: readonly string[] = ['db'],
  ) =>
    world.store.transaction((tx) =>
      authority.signJwt(tx, {
        ...{ id: WEB, audience, actor: OPERATOR },
        notAfter: new Date(world.clock.now().getTime() + milliseconds),
      }),
    );

  it('signs no token that is too long to be read', async () => {
    const audience = Array.from({ length: 8 }, (_, at) => `${at}`.repeat(2048));
    await assert.rejects(signJwt(await open(), 60_000, audience), {
      code: 'INVALID_ARGUMENT',
      message: 'the token would be longer than 16 KiB',
    });
  });

  it('signs tokens with whole seconds that end no later than asked', async () => {
    const authority = await open();
    const jwt = await signJwt(authority, 1999);
    const { value } = authority.bundle;
    const verified = verifyJwtSvid(jwt.token, 'db', () => value, world.clock.now());
    assert.deepEqual([verified.expiresAt, verified.id.path], [world.inSeconds(1), '/web']);
    await assert.rejects(signJwt(authority, 999), { code: 'FAILED_PRECONDITION' });
  });

  for (const keyType of ['ec-p384', 'rsa-2048', 'rsa-4096'] as const)
    it(`signs with ${keyType}, in the key manager's own time too`, async () => {
      const local = memoryKeyManager();
      const slow = async (id: string) => {
        const signer = await local.find(id);
        return (
          signer && {
            ...signer,
            sign: async (...parts: Parameters<typeof signer.sign>) => signer.sign(...parts),
          }
        );
      };
      const keyManager = {
        ...local,
        find: slow,
        generate: async (...[id, type]: Parameters<typeof local.generate>) => {
          await local.generate(id, type);
          const made = await slow(id);
          assert.ok(made !== undefined);
          return made;
        },
      };
      const settings = { x509KeyType: keyType, jwtKeyType: keyType };
      await using other = await AuthorityWorld.create({ keyManager, settings });
      const authority = other.signing(await other.open());
      const svid = await other.sign(authority);
      const bundle = authority.bundle.value;
      assert.equal(verifySvid(svid.chain, () => bundle, other.clock.now()).id.path, '/web');
      const { token } = await other.store.transaction((tx) =>
        authority.signJwt(tx, {
          ...{ id: WEB, audience: ['db'], actor: OPERATOR, notAfter: other.inSeconds(60) },
        }),
      );
      verifyJwtSvid(token, 'db', () => bundle, other.clock.now());
    }).timeout(60_000);

  it('signs the authority of a server below, whose SVIDs verify and do not outlive it', async () => {
    const authority = await open();
    const key = await generateKey('ec-p256');
    const signed = await world.store.transaction((tx) =>
      authority.signDownstreamCa(tx, {
        ...{ id: WEB, spki: spkiOf(key), notAfter: world.inSeconds(10 * 24 * 3600) },
        ...{ actor: OPERATOR, entryId: 'e' },
      }),
    );
    assert.equal(signed.notAfter.getTime(), world.clock.now().getTime() + DAY_MS);
    const [certificate = new Uint8Array()] = signed.chain;
    assert.deepEqual(parseCertificate(certificate).uriSans, [`spiffe://${TD}`]);
    const leaf = leafSigner({ certificate, privateKey: key }).sign({
      ...{ spki: spkiOf(await generateKey('ec-p256')), uri: WEB, dnsNames: [] },
      ...{ notAfter: world.inSeconds(3600), now: world.clock.now() },
    });
    const bundle = authority.bundle.value;
    assert.equal(signed.roots.length, 1);
    verifySvid([leaf.der, ...signed.chain], () => bundle, world.clock.now());
    const row = await world.store.get('select * from ledger where serial = ?', signed.serial);
    assert.deepEqual([row?.kind, row?.entry_id], ['x509', 'e']);
  });

  it('gives out and records nothing that breaks a rule of X509-SVIDs', async () => {
    const authority = await open();
    const id = SpiffeId.parse(`spiffe://${TD}`);
    const spki = spkiOf(await generateKey('ec-p256'));
    const signing = world.store.transaction((tx) =>
      authority.signX509(tx, {
        ...{ kind: 'x509', id, spki, notAfter: world.inSeconds(60), actor: OPERATOR },
      }),
    );
    await assert.rejects(signing, { name: 'Error', message: /SPIFFE ID with a path/ });
    assert.deepEqual(await world.store.all('select serial from ledger'), []);
  });

  it('puts into the bundle what others sign with, once, and counts the change', async () => {
    const authority = await open();
    const before = authority.bundle.value;
    const other = await AuthorityWorld.create();
    const foreign = other.signing(await other.open()).bundle.value;
    await other[Symbol.asyncDispose]();
    const x509 = foreign.x509Authorities;
    const jwt = foreign.jwtAuthorities;
    const append = () =>
      world.store.transaction((tx) => authority.appendAuthorities(tx, { x509, jwt }, OPERATOR));
    const told = await append();
    assert.deepEqual(told.sequenceNumber, before.sequenceNumber + 1n);
    assert.deepEqual(authority.bundle.value, told);
    assert.deepEqual([told.x509Authorities.length, told.jwtAuthorities.length], [2, 2]);
    assert.equal(bundlePin(told), bundlePin(before));
    assert.deepEqual((await append()).sequenceNumber, told.sequenceNumber);
    const [key] = jwt;
    assert.ok(key !== undefined);
    const [own] = before.jwtAuthorities;
    const forged = { ...key, keyId: own?.keyId ?? '' };
    const publish = world.store.transaction((tx) => authority.publishJwtKey(tx, forged, OPERATOR));
    await assert.rejects(publish, { code: 'INVALID_ARGUMENT' });
    assert.deepEqual((await open()).bundle.value.x509Authorities.length, 2);
  });
});
