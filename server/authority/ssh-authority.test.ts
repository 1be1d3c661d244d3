import assert from 'node:assert/strict';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { verifySshCertificate } from '../../identity/ssh/verify-certificate.ts';
import { AuthorityWorld, idOf } from '../../test/fixtures/authority-world.ts';
import { OPERATOR, TD } from '../../test/fixtures/registry-world.ts';
import { newSshKey } from '../../test/fixtures/ssh-world.ts';
import { AUTHORITY_KINDS, SSH_KINDS, type SshKind } from './authority-rows.ts';
import type { SshAuthority, SshRequest } from './ssh-authority.ts';

const YEAR_MS = 365 * 24 * 3_600_000;
const ID = `spiffe://${TD}/ci`;

describe('SshAuthority', () => {
  let world: AuthorityWorld;
  beforeEach(async () => {
    world = await AuthorityWorld.create();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const open = async () => world.ssh(await world.open());
  const inMs = (milliseconds: number) => world.inSeconds(milliseconds / 1000);
  const request = (kind: SshKind, change: Partial<SshRequest> = {}): SshRequest => ({
    ...{ kind, keyId: ID, principals: [ID], spiffeId: ID, entryId: 'e', agentId: 'g' },
    ...{ publicKey: newSshKey().publicKey, notAfter: inMs(60_000), event: { actor: OPERATOR } },
    ...change,
  });
  const sign = (authority: SshAuthority, kind: SshKind, change: Partial<SshRequest> = {}) =>
    world.store.transaction((tx) => authority.sign(tx, request(kind, change)));

  it('makes a key for each kind once, told in the audit log, and takes them up again', async () => {
    const { user, host, gateway } = (await open()).authorities.value;
    assert.deepEqual((await open()).authorities.value, { user, host, gateway });
    const all = [...user, ...host, ...gateway].map((key) => Buffer.from(key).toString('hex'));
    assert.deepEqual([all.length, new Set(all).size], [3, 3]);
    const rows = await world.store.all(
      `select kind, state, not_after_ms from authorities where kind like 'ssh-%' order by kind`,
    );
    const not_after_ms = world.clock.now().getTime() + 10 * YEAR_MS;
    assert.deepEqual(
      rows,
      ['ssh-gateway', 'ssh-host', 'ssh-user'].map((kind) => ({
        ...{ kind, state: 'active', not_after_ms },
      })),
    );
    const events = await world.store.all(
      `select 1 from audit_events where type = 'authority.created'`,
    );
    assert.equal(events.length, AUTHORITY_KINDS.length);
  });

  for (const kind of SSH_KINDS) {
    it(`signs ${kind} with the key of that kind alone`, async () => {
      const authority = await open();
      const { certificate, serial, notAfter } = await sign(authority, kind);
      const { user, host, gateway } = authority.authorities.value;
      const type = kind === 'ssh-host' ? 'host' : 'user';
      const takenBy = Object.entries({ user, host, gateway }).filter(([, authorities]) => {
        try {
          verifySshCertificate(certificate, { type, authorities, now: world.clock.now() });
          return true;
        } catch {
          return false;
        }
      });
      assert.deepEqual(
        takenBy.map(([name]) => `ssh-${name}`),
        [kind],
      );
      const parsed = parseSshCertificate(certificate);
      assert.deepEqual([String(parsed.serial), parsed.validBefore], [serial, notAfter]);
      assert.ok(parsed.serial < 1n << 63n);
    });
  }

  it('has each certificate in the ledger and the audit log before it is given out, and none that rolled back', async () => {
    const authorities = await world.open();
    const authority = world.ssh(authorities);
    const { serial, notAfter } = await sign(authority, 'ssh-user');
    const expected = {
      authority_id: idOf(authorities, 'ssh-user', 'active'),
      ...{ serial, kind: 'ssh-user', spiffe_id: ID, entry_id: 'e', agent_id: 'g' },
      ...{ issued_at_ms: world.clock.now().getTime(), not_after_ms: notAfter.getTime() },
      ...{ revoked_at_ms: null, revocation_reason: null },
    };
    assert.deepEqual(await world.store.all('select * from ledger'), [expected]);
    const broken = world.store.transaction(async (tx) => {
      await authority.sign(tx, request('ssh-user'));
      throw new Error('no');
    });
    await assert.rejects(broken, { message: 'no' });
    assert.deepEqual(await world.store.all('select * from ledger'), [expected]);
    const events = `select 1 from audit_events where type = 'identity.ssh_certificate.issued'`;
    assert.equal((await world.store.all(events)).length, 1);
    assert.deepEqual(world.issued, ['ssh-user']);
  });

  it('gives nothing out whose event cannot be written', async () => {
    const authority = await open();
    await world.store.transaction((tx) =>
      tx.run(
        `create trigger full before insert on audit_events begin select raise(abort, 'full'); end`,
      ),
    );
    await assert.rejects(sign(authority, 'ssh-user'), /full/);
    assert.deepEqual([await world.store.all('select 1 from ledger'), world.issued], [[], []]);
  });

  it('signs nothing past the end of its authority, and nothing that has ended', async () => {
    const authority = await open();
    const { notAfter } = await sign(authority, 'ssh-host', { notAfter: inMs(11 * YEAR_MS) });
    assert.equal(notAfter.getTime(), world.clock.now().getTime() + 10 * YEAR_MS);
    world.clock.advance(500);
    // Whole seconds: what is left of this one is gone.
    const late = sign(authority, 'ssh-user', { notAfter: inMs(499) });
    await assert.rejects(late, { code: 'FAILED_PRECONDITION' });
  });

  it('trusts a lost key no more, but for the hosts that it has certified', async () => {
    const first = await open();
    const host = await sign(first, 'ssh-host');
    for (const kind of SSH_KINDS) world.lose(kind);
    const next = await open();
    for (const kind of ['user', 'gateway'] as const) {
      assert.equal(next.authorities.value[kind].length, 1);
      assert.notDeepEqual(next.authorities.value[kind], first.authorities.value[kind]);
    }
    assert.deepEqual(next.authorities.value.host.slice(1), first.authorities.value.host);
    const rule = {
      type: 'host',
      authorities: next.authorities.value.host,
      now: world.clock.now(),
    } as const;
    assert.ok(verifySshCertificate(host.certificate, rule));
    const renewed = parseSshCertificate((await sign(next, 'ssh-host')).certificate);
    assert.ok(renewed.authority.equals(next.authorities.value.host[0] ?? Buffer.of()));
    world.clock.advance(10 * YEAR_MS);
    const last = await world.open();
    await world.rotate(last);
    assert.equal(world.ssh(last).authorities.value.host.length, 1);
  });

  for (const kind of SSH_KINDS)
    it(`changes ${kind} with overlap: both are trusted until the old one is revoked`, async () => {
      const authorities = await world.open();
      const authority = world.ssh(authorities);
      const of = () => {
        const { user, host, gateway } = authority.authorities.value;
        return { 'ssh-user': user, 'ssh-host': host, 'ssh-gateway': gateway }[kind];
      };
      const type = kind === 'ssh-host' ? 'host' : 'user';
      const isTaken = ({ certificate }: { readonly certificate: Uint8Array }) => {
        try {
          verifySshCertificate(certificate, { type, authorities: of(), now: world.clock.now() });
          return true;
        } catch {
          return false;
        }
      };
      const before = await sign(authority, kind);
      const { id } = await world.prepare(authorities, kind);
      assert.equal(of().length, 2);
      await authorities.activate({ kind, id }, OPERATOR);
      const after = await sign(authority, kind);
      assert.deepEqual([of().length, isTaken(before), isTaken(after)], [2, true, true]);
      assert.ok(parseSshCertificate(after.certificate).authority.equals(of()[0] ?? Buffer.of()));
      const old = idOf(authorities, kind, 'old');
      await authorities.revoke({ kind, id: old }, OPERATOR);
      assert.deepEqual([of().length, isTaken(before), isTaken(after)], [1, false, true]);
    });

  it('does not sign with a key that is not the one on record', async () => {
    const first = await open();
    for (const id of world.keys.keys()) world.keys.set(id, newSshKey().key);
    const next = await open();
    assert.notDeepEqual(next.authorities.value.gateway, first.authorities.value.gateway);
    const { certificate } = await sign(next, 'ssh-gateway');
    const rule = {
      type: 'user',
      authorities: next.authorities.value.gateway,
      now: world.clock.now(),
    } as const;
    assert.ok(verifySshCertificate(certificate, rule));
  });
});
