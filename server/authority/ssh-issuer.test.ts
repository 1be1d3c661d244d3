import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey, fingerprint } from '../../identity/ssh/public-key.ts';
import { verifySshCertificate, workloadIdentity } from '../../identity/ssh/verify-certificate.ts';
import { SshWriter } from '../../identity/ssh/wire.ts';
import { Fault } from '../../runtime/fault.ts';
import { Watched } from '../../runtime/watched.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { entryInit, OPERATOR, TD } from '../../test/fixtures/registry-world.ts';
import { listedBySshKeygen } from '../../test/fixtures/ssh-keygen.ts';
import { newSshKey, SshWorld } from '../../test/fixtures/ssh-world.ts';
import { SshIssuer, type SshIssuerOptions } from './ssh-issuer.ts';

const CI = `spiffe://${TD}/ci`;

describe('SshIssuer: certificates of workloads', () => {
  let world: SshWorld;
  beforeEach(async () => {
    world = await SshWorld.open();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const now = () => world.registry.clock.now();
  const secondsLeft = ({ notAfter }: { readonly notAfter: Date }) =>
    (notAfter.getTime() - now().getTime()) / 1000;
  const issuedEvents = async () =>
    (await world.registry.events()).filter(
      ({ type }) => type === 'identity.ssh_certificate.issued',
    );
  /** No certificate, no row, no event. */
  const refuses = async (asked: Promise<unknown>, error: object) => {
    await assert.rejects(asked, error);
    assert.deepEqual([await world.ledger('ssh-user'), await issuedEvents()], [[], []]);
    assert.ok(!world.registry.issued.includes('ssh-user'));
  };
  const sign = (entryId: string) => {
    const { publicKey } = newSshKey();
    return world.registry.sshIssuer.newUserCertificate(
      world.agent,
      { entryId, publicKey },
      OPERATOR,
    );
  };

  it('names the SPIFFE ID as key ID and only principal, and lets nothing be done by itself', async () => {
    const { publicKey } = newSshKey();
    const { certificate } = await world.signUser(publicKey);
    const authorities = world.registry.sshIssuer.authorities.user;
    const found = verifySshCertificate(certificate, { type: 'user', authorities, now: now() });
    assert.equal(
      String(workloadIdentity(found, world.registry.authority.bundle.value.trustDomain)),
      CI,
    );
    assert.deepEqual([found.keyId, found.principals], [CI, [CI]]);
    assert.deepEqual([found.criticalOptions.size, found.extensions.size], [0, 0]);
    assert.ok(found.publicKey.equals(publicKey));
  });

  it('reads to ssh-keygen as it was meant', async function () {
    if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
    const { publicKey } = newSshKey();
    const { certificate, serial } = await world.signUser(publicKey);
    const [authority = Buffer.of()] = world.registry.sshIssuer.authorities.user;
    assert.deepEqual(listedBySshKeygen(certificate), [
      'Type: ssh-ed25519-cert-v01@openssh.com user certificate',
      `Public key: ED25519-CERT ${fingerprint(publicKey)}`,
      `Signing CA: ED25519 ${fingerprint(authority)} (using ssh-ed25519)`,
      `Key ID: "${CI}"`,
      `Serial: ${serial}`,
      'Valid: from 2025-12-31T23:59:30 to 2026-01-01T00:05:00',
      'Principals:',
      CI,
      'Critical Options: (none)',
      'Extensions: (none)',
    ]);
  });

  it('stands in the ledger and the audit log by its serial in decimal', async () => {
    const { publicKey } = newSshKey();
    const { serial, notAfter } = await world.signUser(publicKey);
    assert.match(serial, /^[1-9]\d*$/);
    assert.deepEqual(await world.ledger('ssh-user'), [serial]);
    const [event, ...more] = await issuedEvents();
    assert.deepEqual(more, []);
    assert.deepEqual(
      [event?.svidSerial, event?.spiffeId, event?.entryId, event?.agentId, event?.actor?.kind],
      [serial, CI, world.entryId, world.agent.id, 'operator'],
    );
    assert.deepEqual(event?.attributes, {
      ...{ kind: 'ssh-user', principals: CI, not_after: notAfter.toISOString() },
      ...{ public_key: fingerprint(publicKey), entry_revision: '0', parent_id: world.agent.id },
    });
    assert.deepEqual(world.registry.issued, ['ssh-user']);
  });

  it('lives as long as configured, and never longer than its entry or identity', async () => {
    assert.equal(secondsLeft(await world.signUser()), 300);
    const expiresAt = BigInt(now().getTime() / 1000 + 90);
    const short = await world.registry.createEntry(entryInit({ path: '/s', more: { expiresAt } }));
    assert.equal(secondsLeft(await sign(short.id)), 90);
    const end = now().getTime() + 30_000;
    await world.run('update identities set expires_at_ms = ? where spiffe_id = ?', end, CI);
    assert.equal(secondsLeft(await world.signUser()), 30);
    world.registry.clock.advance(30_000);
    await assert.rejects(world.signUser(), { code: 'PERMISSION_DENIED' });
    world.registry.clock.advance(60_000);
    await assert.rejects(sign(short.id), { code: 'NOT_FOUND' });
  });

  const changes: Record<string, (world: SshWorld) => Promise<unknown>> = {
    'the agent is banned': ({ registry, agent }) => registry.agents.ban(agent.id, OPERATOR),
    'the agent is evicted': ({ registry, agent }) => registry.agents.evict(agent.id, OPERATOR),
    'the entry is deleted': ({ registry, entryId }) =>
      registry.store.transaction((tx) => registry.entries.delete(tx, entryId, { actor: OPERATOR })),
    'the identity is suspended': ({ registry }) =>
      registry.identities.setStatus(
        SpiffeId.parse(CI),
        { status: 'suspended', reason: '' },
        OPERATOR,
      ),
    'the identity is locked': ({ locks }) => lock(locks, { case: 'spiffeId', value: CI }),
    'the agent is locked': ({ locks, agent }) => lock(locks, { case: 'agentId', value: agent.id }),
  };
  for (const [what, change] of Object.entries(changes)) {
    it(`gives nothing when ${what} between the call and its transaction`, async () => {
      const changed = change(world);
      await refuses(world.signUser(), { code: /^(PERMISSION_DENIED|NOT_FOUND)$/ });
      await changed;
    });
  }

  it("gives nothing for another agent's entry, or one that is not there", async () => {
    await world.registry.attest('b');
    const parent = '/spire/agent/x509pop/b';
    const { id } = await world.registry.createEntry(entryInit({ path: '/ci', parent }));
    for (const entryId of [id, 'no-such-entry'])
      await refuses(sign(entryId), { code: 'NOT_FOUND' });
  });

  for (const path of ['/spire/agent/x509pop/c', '/writ/gateway/main']) {
    it(`S1 gives no workload's certificate to ${path}`, async () => {
      const init = entryInit({ path, selectors: ['unix:uid:7'] });
      const { id } = await world.registry.createEntry(init, { allowReserved: true });
      await refuses(sign(id), { code: 'PERMISSION_DENIED' });
    });
  }

  const keys: [string, () => Promise<Uint8Array> | Uint8Array][] = [
    ['nothing', () => Buffer.of()],
    ['garbage', () => Buffer.from('garbage')],
    ['more than 16 KiB', () => Buffer.alloc(16 * 1024 + 1)],
    ['RSA of 1024 bits', shortRsaKey],
    ['DSA', () => new SshWriter().string('ssh-dss').mpint(Buffer.of(5)).finish()],
    ['a key with a byte behind it', () => Buffer.concat([newSshKey().publicKey, Buffer.of(0)])],
  ];
  for (const [what, make] of keys) {
    it(`certifies no key that is ${what}`, async () => {
      await refuses(world.signUser(await make()), { code: /^(SSH_INVALID|INVALID_ARGUMENT)$/ });
    });
  }

  it('certifies no certificate', async () => {
    const { certificate } = await world.signUser();
    await assert.rejects(world.signUser(certificate), { code: 'SSH_INVALID' });
    assert.equal((await world.ledger('ssh-user')).length, 1);
  });

  for (const [type, make] of [
    ['ecdsa-sha2-nistp256', () => generateKeyPairSync('ec', { namedCurve: 'P-256' })],
    ['ecdsa-sha2-nistp521', () => generateKeyPairSync('ec', { namedCurve: 'P-521' })],
    ['ssh-rsa', () => generateKeyPairSync('rsa', { modulusLength: 2048 })],
  ] as const) {
    it(`certifies ${type}`, async () => {
      const { certificate } = await world.signUser(encodePublicKey(make().publicKey));
      assert.equal(parseSshCertificate(certificate).keyType, type);
    });
  }

  it('gives nothing out if the store fails, even at the last moment', async () => {
    const { store, clock, audit, index } = world.registry;
    const given: unknown[] = [];
    const authority: SshIssuerOptions['authority'] = {
      authorities: new Watched(world.registry.sshIssuer.authorities),
      sign: async () => {
        given.push('signed');
        return { certificate: Buffer.of(), serial: '1', notAfter: now() };
      },
    };
    const failing: SshIssuerOptions['store'] = {
      transaction: (work) =>
        store.transaction(async (tx) => {
          await work(tx);
          throw new Fault('STORE_UNAVAILABLE', 'the disk is full');
        }),
    };
    const issuer = new SshIssuer({
      ...{ store: failing, clock, audit, authority, index, userTtlSeconds: 300 },
      trustDomain: world.registry.authority.bundle.value.trustDomain,
      rules: world.registry.rules,
    });
    const wish = { entryId: world.entryId, publicKey: newSshKey().publicKey };
    const asked = issuer.newUserCertificate(world.agent, wish, OPERATOR);
    await assert.rejects(asked, { code: 'STORE_UNAVAILABLE' });
    assert.deepEqual(given, ['signed']);
  });
});

function lock(locks: SshWorld['locks'], target: Parameters<typeof locks.create>[0]['target']) {
  return locks.create({ target, reason: 'audit', ttlSeconds: 0, createdBy: 'uid:0' }, OPERATOR);
}

/** As SSH writes it; our own encoder refuses to. */
function shortRsaKey(): Buffer {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const { e = '', n = '' } = publicKey.export({ format: 'jwk' });
  const [exponent, modulus] = [Buffer.from(e, 'base64url'), Buffer.from(n, 'base64url')];
  return new SshWriter().string('ssh-rsa').mpint(exponent).mpint(modulus).finish();
}
