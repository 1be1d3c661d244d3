import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { verifySshCertificate } from '../../identity/ssh/verify-certificate.ts';
import { createLogger } from '../../runtime/log.ts';
import { ManualClock, memoryKeyManager, OPERATOR, TD } from '../../test/fixtures/registry-world.ts';
import { newSshKey } from '../../test/fixtures/ssh-world.ts';
import { AuditLog } from '../audit/audit-log.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { openSqlite } from '../plugins/datastore/sqlite.ts';
import { Authority } from './authority.ts';
import { SSH_KINDS, type SshKind } from './authority-rows.ts';
import { SshAuthority, type SshRequest } from './ssh-authority.ts';

const YEAR_MS = 365 * 24 * 3_600_000;
const ID = `spiffe://${TD}/ci`;

describe('SshAuthority', () => {
  let clock: ManualClock;
  let store: Datastore;
  let keys: Map<string, KeyObject>;
  let issued: string[];
  beforeEach(async () => {
    clock = new ManualClock();
    store = await openSqlite(':memory:');
    keys = new Map();
    issued = [];
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const options = () => ({
    ...{ store, clock, trustDomain: TD },
    audit: new AuditLog(store, clock),
    keys: memoryKeyManager(keys),
    log: createLogger({ process: 'server', level: 'silent' }),
    onIssued: (kind: string) => void issued.push(kind),
  });
  const open = () => SshAuthority.open(options());
  const inMs = (milliseconds: number) => new Date(clock.now().getTime() + milliseconds);
  const request = (kind: SshKind, change: Partial<SshRequest> = {}): SshRequest => ({
    ...{ kind, keyId: ID, principals: [ID], spiffeId: ID, entryId: 'e', agentId: 'g' },
    ...{ publicKey: newSshKey().publicKey, notAfter: inMs(60_000), event: { actor: OPERATOR } },
    ...change,
  });
  const sign = (authority: SshAuthority, kind: SshKind, change: Partial<SshRequest> = {}) =>
    store.transaction((tx) => authority.sign(tx, request(kind, change)));
  const lose = (kind: SshKind) => {
    for (const id of keys.keys()) if (id.startsWith(kind)) keys.delete(id);
  };

  it('makes a key for each kind once, told in the audit log, and takes them up again', async () => {
    const { user, host, gateway } = (await open()).authorities;
    assert.deepEqual((await open()).authorities, { user, host, gateway });
    const all = [...user, ...host, ...gateway].map((key) => Buffer.from(key).toString('hex'));
    assert.deepEqual([all.length, new Set(all).size], [3, 3]);
    const rows = await store.all('select kind, state, not_after_ms from authorities order by kind');
    const not_after_ms = clock.now().getTime() + 10 * YEAR_MS;
    assert.deepEqual(
      rows,
      ['ssh-gateway', 'ssh-host', 'ssh-user'].map((kind) => ({
        ...{ kind, state: 'active', not_after_ms },
      })),
    );
    const events = await store.all(`select 1 from audit_events where type = 'authority.created'`);
    assert.equal(events.length, 3);
  });

  it('leaves the bundle of SVIDs as it is', async () => {
    const before = (await Authority.open(options())).bundle.value;
    await open();
    const { sequenceNumber, jwtAuthorities } = (await Authority.open(options())).bundle.value;
    assert.deepEqual([sequenceNumber, jwtAuthorities.length], [before.sequenceNumber, 1]);
  });

  for (const kind of SSH_KINDS) {
    it(`signs ${kind} with the key of that kind alone`, async () => {
      const authority = await open();
      const { certificate, serial, notAfter } = await sign(authority, kind);
      const { user, host, gateway } = authority.authorities;
      const type = kind === 'ssh-host' ? 'host' : 'user';
      const takenBy = Object.entries({ user, host, gateway }).filter(([, authorities]) => {
        try {
          verifySshCertificate(certificate, { type, authorities, now: clock.now() });
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
    const authority = await open();
    const { serial, notAfter } = await sign(authority, 'ssh-user');
    const expected = {
      ...{ serial, kind: 'ssh-user', spiffe_id: ID, entry_id: 'e', agent_id: 'g' },
      ...{ issued_at_ms: clock.now().getTime(), not_after_ms: notAfter.getTime() },
    };
    assert.deepEqual(await store.all('select * from ledger'), [expected]);
    const broken = store.transaction(async (tx) => {
      await authority.sign(tx, request('ssh-user'));
      throw new Error('no');
    });
    await assert.rejects(broken, { message: 'no' });
    assert.deepEqual(await store.all('select * from ledger'), [expected]);
    const events = `select 1 from audit_events where type = 'identity.ssh_certificate.issued'`;
    assert.equal((await store.all(events)).length, 1);
    assert.deepEqual(issued, ['ssh-user']);
  });

  it('gives nothing out whose event cannot be written', async () => {
    const authority = await open();
    await store.transaction((tx) =>
      tx.run(
        `create trigger full before insert on audit_events begin select raise(abort, 'full'); end`,
      ),
    );
    await assert.rejects(sign(authority, 'ssh-user'), /full/);
    assert.deepEqual([await store.all('select 1 from ledger'), issued], [[], []]);
  });

  it('signs nothing past the end of its authority, and nothing that has ended', async () => {
    const authority = await open();
    const { notAfter } = await sign(authority, 'ssh-host', { notAfter: inMs(11 * YEAR_MS) });
    assert.equal(notAfter.getTime(), clock.now().getTime() + 10 * YEAR_MS);
    clock.advance(500);
    // Whole seconds: what is left of this one is gone.
    const late = sign(authority, 'ssh-user', { notAfter: inMs(499) });
    await assert.rejects(late, { code: 'FAILED_PRECONDITION' });
  });

  it('trusts a lost key no more, but for the hosts that it has certified', async () => {
    const first = await open();
    const host = await sign(first, 'ssh-host');
    for (const kind of SSH_KINDS) lose(kind);
    const next = await open();
    for (const kind of ['user', 'gateway'] as const) {
      assert.equal(next.authorities[kind].length, 1);
      assert.notDeepEqual(next.authorities[kind], first.authorities[kind]);
    }
    assert.deepEqual(next.authorities.host.slice(1), first.authorities.host);
    const rule = { type: 'host', authorities: next.authorities.host, now: clock.now() } as const;
    assert.ok(verifySshCertificate(host.certificate, rule));
    const renewed = parseSshCertificate((await sign(next, 'ssh-host')).certificate);
    assert.ok(renewed.authority.equals(next.authorities.host[0] ?? Buffer.of()));
    clock.advance(10 * YEAR_MS);
    assert.equal((await open()).authorities.host.length, 1);
  });

  it('does not sign with a key that is not the one on record', async () => {
    const first = await open();
    for (const id of keys.keys()) keys.set(id, newSshKey().key);
    const next = await open();
    assert.notDeepEqual(next.authorities.gateway, first.authorities.gateway);
    const { certificate } = await sign(next, 'ssh-gateway');
    const rule = { type: 'user', authorities: next.authorities.gateway, now: clock.now() } as const;
    assert.ok(verifySshCertificate(certificate, rule));
  });
});
