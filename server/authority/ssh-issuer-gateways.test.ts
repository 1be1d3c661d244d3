import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey, fingerprint } from '../../identity/ssh/public-key.ts';
import { verifySshCertificate } from '../../identity/ssh/verify-certificate.ts';
import { BACKEND } from '../../test/fixtures/access-world.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { OPERATOR, TD } from '../../test/fixtures/registry-world.ts';
import { SSH_BACKEND, sshGrantYaml } from '../../test/fixtures/ssh-access.ts';
import { listedBySshKeygen } from '../../test/fixtures/ssh-keygen.ts';
import { newSshKey, SshWorld } from '../../test/fixtures/ssh-world.ts';
import { createGateway } from '../access/create-gateway.ts';
import type { SignedSsh } from './ssh-authority.ts';

const CI = `spiffe://${TD}/ci`;
const OTHER = `spiffe://${TD}/writ/gateway/other`;
const ACTOR = { kind: 'gateway', spiffeId: OTHER };

describe('SshIssuer: certificates of gateways and targets', () => {
  let world: SshWorld;
  beforeEach(async () => {
    world = await SshWorld.open();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const now = () => world.registry.clock.now();
  const secondsLeft = ({ notAfter }: SignedSsh) => (notAfter.getTime() - now().getTime()) / 1000;
  const eventsOf = async (type: string) =>
    (await world.registry.events()).filter((event) => event.type === type);
  /** Ends the sessions of that instant, so the next is a second later. */
  const narrow = async (grant: Parameters<typeof sshGrantYaml>[1]) => {
    await world.apply(SSH_BACKEND, sshGrantYaml('release', grant));
    world.registry.clock.advance(1000);
  };
  const addOther = (backends: readonly string[], names: readonly string[]) =>
    createGateway(
      world.registry,
      {
        ...{ name: 'other', spiffeId: SpiffeId.parse(OTHER), backends, names },
        parentId: SpiffeId.parse(world.agent.id),
        selectors: [{ type: 'unix', value: 'uid:999' }],
      },
      OPERATOR,
    );

  describe('for one login of a session', () => {
    it('S2 names backend and login, binds to its address, and lives for a minute', async () => {
      const { sessionId, serial } = await world.openSession();
      const { publicKey } = newSshKey();
      const signed = await world.signLogin(sessionId, { publicKey });
      const authorities = world.registry.sshIssuer.authorities.gateway;
      const rule = { type: 'user', authorities, now: now(), principal: 'web-1/deploy' } as const;
      for (const sourceAddress of ['10.0.0.7', '192.0.2.7'])
        assert.ok(verifySshCertificate(signed.certificate, { ...rule, sourceAddress }));
      const elsewhere = { ...rule, sourceAddress: '192.0.2.8' };
      assert.throws(() => verifySshCertificate(signed.certificate, elsewhere));
      const found = parseSshCertificate(signed.certificate);
      assert.deepEqual(found.principals, ['web-1/deploy']);
      assert.equal(found.keyId, `${CI} session=${sessionId} serial=${serial}`);
      assert.deepEqual([...found.criticalOptions.keys()], ['source-address']);
      assert.deepEqual([...found.extensions.keys()], ['permit-pty']);
      assert.equal(secondsLeft(signed), 60);
    });

    it('reads to ssh-keygen as it was meant', async function () {
      if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
      const ssh = 'logins: [deploy], channels: { sftp: true }';
      await narrow({ ssh });
      const { sessionId, serial } = await world.openSession();
      const { publicKey } = newSshKey();
      const signed = await world.signLogin(sessionId, { publicKey });
      const [authority = Buffer.of()] = world.registry.sshIssuer.authorities.gateway;
      assert.deepEqual(listedBySshKeygen(signed.certificate), [
        'Type: ssh-ed25519-cert-v01@openssh.com user certificate',
        `Public key: ED25519-CERT ${fingerprint(publicKey)}`,
        `Signing CA: ED25519 ${fingerprint(authority)} (using ssh-ed25519)`,
        `Key ID: "${CI} session=${sessionId} serial=${serial}"`,
        `Serial: ${signed.serial}`,
        'Valid: from 2025-12-31T23:59:31 to 2026-01-01T00:01:01',
        'Principals:',
        'web-1/deploy',
        'Critical Options:',
        'force-command internal-sftp',
        'source-address 10.0.0.7,192.0.2.7',
        'Extensions: (none)',
      ]);
    });

    it('stands in the ledger and the audit log on the ground of its session', async () => {
      const { sessionId, serial } = await world.openSession();
      const { publicKey } = newSshKey();
      const signed = await world.signLogin(sessionId, { publicKey });
      const rows = await world.registry.store.all(
        `select serial, spiffe_id, entry_id, agent_id from ledger where kind = 'ssh-gateway'`,
      );
      assert.deepEqual(rows, [
        {
          ...{ serial: signed.serial, spiffe_id: CI },
          ...{ entry_id: world.entryId, agent_id: world.agent.id },
        },
      ]);
      const event = (await eventsOf('identity.ssh_certificate.issued')).at(-1);
      assert.deepEqual(
        [event?.svidSerial, event?.sessionId, event?.grant, event?.backend, event?.spiffeId],
        [signed.serial, sessionId, 'release', 'web-1', CI],
      );
      assert.deepEqual(event?.actor?.spiffeId, world.gateway.id);
      assert.deepEqual(event?.attributes, {
        ...{ kind: 'ssh-gateway', principals: 'web-1/deploy', login: 'deploy' },
        ...{ client_serial: serial, source_address: '10.0.0.7,192.0.2.7' },
        ...{ not_after: signed.notAfter.toISOString(), public_key: fingerprint(publicKey) },
      });
    });

    it('ends with the session', async () => {
      await narrow({ session: 'maximum: 20s' });
      const { sessionId } = await world.openSession();
      world.registry.clock.advance(15_000);
      assert.equal(secondsLeft(await world.signLogin(sessionId)), 5);
      world.registry.clock.advance(5_000);
      await assert.rejects(world.signLogin(sessionId), { code: 'PERMISSION_DENIED' });
    });

    it("ends with the gateway's own identity", async () => {
      const { sessionId } = await world.openSession();
      const end = now().getTime() + 10_000;
      const change = 'update identities set expires_at_ms = ? where spiffe_id = ?';
      await world.run(change, end, world.gateway.id);
      assert.equal(secondsLeft(await world.signLogin(sessionId)), 10);
    });

    it('certifies an Ed25519 key alone', async () => {
      const { sessionId } = await world.openSession();
      const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const asked = world.signLogin(sessionId, { publicKey: encodePublicKey(publicKey) });
      await assert.rejects(asked, { code: 'INVALID_ARGUMENT' });
      const garbage = world.signLogin(sessionId, { publicKey: Buffer.from('garbage') });
      await assert.rejects(garbage, { code: 'SSH_INVALID' });
      assert.deepEqual(await world.ledger('ssh-gateway'), []);
    });

    const changes: Record<string, (world: SshWorld, sessionId: string) => Promise<unknown>> = {
      'the session is killed': ({ sessions }, id) => sessions.kill(id, 'enough', OPERATOR),
      'the session is closed': ({ sessions, gateway }, sessionId) =>
        sessions.close(gateway.id, {
          ...{ $typeName: 'writ.gateway.v1.CloseSessionRequest', sessionId, reason: 'done' },
          ...{ bytesUp: 0n, bytesDown: 0n, rows: 0n, statements: 0n, recordingHash: Buffer.of() },
        }),
      'the agent of the workload is banned': ({ registry, agent }) =>
        registry.agents.ban(agent.id, OPERATOR),
      'the entry is deleted': ({ registry, entryId }) =>
        registry.store.transaction((tx) =>
          registry.entries.delete(tx, entryId, { actor: OPERATOR }),
        ),
      'the identity is suspended': ({ registry }) =>
        registry.identities.setStatus(
          SpiffeId.parse(CI),
          { status: 'suspended', reason: '' },
          OPERATOR,
        ),
      'the identity is locked': ({ locks }) => lock(locks, { case: 'spiffeId', value: CI }),
      'the backend is locked': ({ locks }) => lock(locks, { case: 'backend', value: 'web-1' }),
      'the grant is locked': ({ locks }) => lock(locks, { case: 'grant', value: 'release' }),
      'the login is no longer granted': (self) =>
        self.apply(SSH_BACKEND, sshGrantYaml('release', { ssh: 'logins: [admin]' })),
      'the gateway is locked': ({ locks, gateway }) =>
        lock(locks, { case: 'spiffeId', value: gateway.id }),
      "the gateway's record is gone": (self) => self.run('delete from gateways'),
    };
    for (const [what, change] of Object.entries(changes)) {
      it(`S2 gives nothing when ${what} between the call and its transaction`, async () => {
        const { sessionId } = await world.openSession();
        const changed = change(world, sessionId);
        await assert.rejects(world.signLogin(sessionId), { code: 'PERMISSION_DENIED' });
        await changed;
        assert.deepEqual(await world.ledger('ssh-gateway'), []);
        assert.ok(!world.registry.issued.includes('ssh-gateway'));
      });
    }

    it('S2 gives a gateway nothing for a session of another, nor for one that is not there', async () => {
      await addOther(['*'], ['other.example.org']);
      const { sessionId } = await world.openSession();
      const stolen = world.signLogin(sessionId, { gateway: OTHER });
      await assert.rejects(stolen, {
        code: 'PERMISSION_DENIED',
        message: 'no such session is open',
      });
      const invented = world.signLogin('s_no_such_session');
      await assert.rejects(invented, { code: 'PERMISSION_DENIED' });
      assert.deepEqual(await world.ledger('ssh-gateway'), []);
    });

    it('tells of a refusal in the audit log, once a minute', async () => {
      await addOther(['*'], ['other.example.org']);
      const { sessionId } = await world.openSession();
      for (const id of [sessionId, 's_1', 's_2'])
        await assert.rejects(world.signLogin(id, { gateway: OTHER }));
      await world.sessions.kill(sessionId, 'enough', OPERATOR);
      await assert.rejects(world.signLogin(sessionId));
      const told = (await eventsOf('session.denied')).map((event) => [
        event.actor?.spiffeId,
        event.sessionId,
        event.attributes.cause,
      ]);
      assert.deepEqual(told, [
        [OTHER, sessionId, 'session.unknown'],
        [world.gateway.id, sessionId, 'session.revoked'],
      ]);
    });

    it('gives nothing out whose event cannot be written', async () => {
      const { sessionId } = await world.openSession();
      await world.run(
        `create trigger full before insert on audit_events begin select raise(abort, 'full'); end`,
      );
      await assert.rejects(world.signLogin(sessionId), /full/);
      assert.deepEqual(await world.ledger('ssh-gateway'), []);
    });
  });

  describe("for a gateway's host key", () => {
    const ask = (backend: string, id = world.gateway.id) => {
      const wish = { backend, publicKey: newSshKey().publicKey };
      return world.registry.sshIssuer.newHostCertificate({ id }, wish, ACTOR);
    };
    const verified = ({ certificate }: SignedSsh) => {
      const authorities = world.registry.sshIssuer.authorities.host;
      return verifySshCertificate(certificate, { type: 'host', authorities, now: now() });
    };

    it('names what its record names, for a day', async () => {
      const signed = await ask('');
      const { principals, keyId } = verified(signed);
      assert.deepEqual(principals, ['gw.example.org', '10.0.0.7']);
      assert.deepEqual([keyId, secondsLeft(signed)], [world.gateway.id, 86_400]);
      const row = await world.registry.store.get(
        'select kind, spiffe_id from ledger where serial = ?',
        signed.serial,
      );
      assert.deepEqual(row, { kind: 'ssh-host', spiffe_id: world.gateway.id });
      const [event] = await eventsOf('identity.ssh_certificate.issued');
      assert.deepEqual(
        [event?.svidSerial, event?.attributes.principals],
        [signed.serial, 'gw.example.org 10.0.0.7'],
      );
    });

    it('names a backend that is reached through it, and nothing else', async () => {
      const { principals, keyId } = verified(await ask('web-1'));
      assert.deepEqual(principals, ['web-1']);
      assert.equal(keyId, `${world.gateway.id} backend=web-1`);
    });

    it('S2 names no backend that the gateway may not serve, none that is not declared, none of another type', async () => {
      await addOther(['elsewhere'], ['other.example.org']);
      await assert.rejects(ask('web-1', OTHER), { code: 'PERMISSION_DENIED' });
      await assert.rejects(ask('web-2'), { code: 'NOT_FOUND' });
      await world.apply(BACKEND);
      await assert.rejects(ask('shop'), { code: 'FAILED_PRECONDITION' });
      assert.deepEqual(await world.ledger('ssh-host'), []);
    });

    it('S2 takes no name that is both of a gateway and of a backend', async () => {
      await addOther(['*'], ['gw-2.internal']);
      // As a store may have it from before that could not be declared.
      await world.registry.store.transaction((tx) =>
        tx.run('update gateways set names = ? where id = ?', '["web-1"]', OTHER),
      );
      await assert.rejects(ask('', OTHER), { code: 'FAILED_PRECONDITION' });
      await assert.rejects(ask('web-1'), { code: 'FAILED_PRECONDITION' });
      const wish = { backend: 'web-1', publicKey: newSshKey().publicKey, ttlSeconds: 0 };
      const target = world.registry.sshIssuer.newTargetCertificate(wish, OPERATOR);
      await assert.rejects(target, { code: 'FAILED_PRECONDITION' });
      assert.deepEqual(await world.ledger('ssh-host'), []);
    });

    it('is not given to a gateway whose record is gone, or which is locked', async () => {
      await assert.rejects(ask('', OTHER), { code: 'PERMISSION_DENIED' });
      const locking = lock(world.locks, { case: 'spiffeId', value: world.gateway.id });
      await assert.rejects(ask(''), { code: 'PERMISSION_DENIED' });
      await locking;
      assert.deepEqual(await world.ledger('ssh-host'), []);
    });
  });

  describe("for a target's host key", () => {
    const enrol = (wish: { readonly backend?: string; readonly ttlSeconds?: number } = {}) =>
      world.registry.sshIssuer.newTargetCertificate(
        { backend: 'web-1', ttlSeconds: 0, publicKey: newSshKey().publicKey, ...wish },
        OPERATOR,
      );

    it('names its backend, for 90 days, and tells which principals each account lets in', async () => {
      const signed = await enrol();
      const { type, principals, keyId } = parseSshCertificate(signed.certificate);
      assert.deepEqual([type, principals, keyId], ['host', ['web-1'], 'backend=web-1']);
      assert.equal(secondsLeft(signed), 90 * 86_400);
      assert.deepEqual(
        [...signed.principals],
        [
          ['root', ['web-1/admin']],
          ['deploy', ['web-1/deploy']],
        ],
      );
      const row = await world.registry.store.get(
        'select kind, spiffe_id, entry_id from ledger where serial = ?',
        signed.serial,
      );
      assert.deepEqual(row, { kind: 'ssh-host', spiffe_id: '', entry_id: null });
      const event = (await eventsOf('identity.ssh_certificate.issued')).at(-1);
      assert.deepEqual(
        [event?.svidSerial, event?.backend, event?.actor?.uid],
        [signed.serial, 'web-1', OPERATOR.uid],
      );
    });

    it('lists under one account all logins that are it', async () => {
      const logins = 'logins: { deploy: {}, release: { account: deploy } }';
      await world.apply(SSH_BACKEND.replace(/logins: .*/, logins), sshGrantYaml('release', {}));
      const { principals } = await enrol();
      assert.deepEqual([...principals], [['deploy', ['web-1/deploy', 'web-1/release']]]);
    });

    it('lives as long as asked, up to a year', async () => {
      assert.equal(secondsLeft(await enrol({ ttlSeconds: 60 })), 60);
      assert.equal(secondsLeft(await enrol({ ttlSeconds: 365 * 86_400 })), 365 * 86_400);
      const longer = enrol({ ttlSeconds: 365 * 86_400 + 1 });
      await assert.rejects(longer, { code: 'INVALID_ARGUMENT' });
    });

    it('is given for a backend of type ssh alone', async () => {
      await world.apply(BACKEND);
      await assert.rejects(enrol({ backend: 'shop' }), { code: 'FAILED_PRECONDITION' });
      await assert.rejects(enrol({ backend: 'web-2' }), { code: 'NOT_FOUND' });
      assert.deepEqual(await world.ledger('ssh-host'), []);
    });
  });
});

function lock(locks: SshWorld['locks'], target: Parameters<typeof locks.create>[0]['target']) {
  return locks.create({ target, reason: 'audit', ttlSeconds: 0, createdBy: 'uid:0' }, OPERATOR);
}
