import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { CRL_REASON, isCrlOf, parseCrl } from '../../identity/x509/crl.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { createLogger } from '../../runtime/log.ts';
import { OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { Locks } from '../access/locks.ts';
import { Resources } from '../access/resources.ts';
import type { RevocationInit } from '../access/revocations.ts';
import type { IdentityStatus } from '../registry/identity-records.ts';
import { CRL_VALIDITY_MS } from './crl-writer.ts';
import { Crls } from './crls.ts';

const WEB = SpiffeId.parse(`spiffe://${TD}/web`);
const signal = new AbortController().signal;
const log = createLogger({ process: 'server', level: 'silent' });

describe('Crls', () => {
  let world: RegistryWorld;
  let crls: Crls;
  beforeEach(async () => {
    world = await RegistryWorld.open();
    crls = await open();
  });
  afterEach(async () => {
    await crls[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  const open = () => Crls.open({ ...worldParts(), log });
  const worldParts = () => {
    const { store, authority, authorities, revocations, clock } = world;
    return { store, authority, authorities, revocations, clock };
  };

  /** The serial of a new leaf of `/web`, of the entry `e` and the agent `a`. */
  async function leaf(kind: 'x509' | 'agent' | 'server' = 'x509', id = WEB): Promise<string> {
    const spki = spkiOf(await generateKey('ec-p256'));
    const notAfter = new Date(world.clock.now().getTime() + 7_200_000);
    const asked = { kind, id, spki, notAfter, actor: OPERATOR, entryId: 'e', agentId: 'a' };
    const signed = await world.store.transaction((tx) => world.authority.signX509(tx, asked));
    return signed.serial;
  }

  function revoke(
    kind: RevocationInit['subject']['kind'],
    value: string,
    cause = 'entry.delete',
  ): Promise<bigint> {
    const init = { subject: { kind, value }, cause, reason: 'gone' };
    return world.store.transaction((tx) => world.revocations.revoke(tx, init));
  }

  async function revoked(): Promise<Map<string, number>> {
    const [first] = await crls.upToDate(signal);
    const { revoked: entries } = parseCrl(first?.der ?? Buffer.of());
    return new Map([...entries].map(([serial, { reason }]) => [serial, reason]));
  }

  it('has a list of the active authority from the start, signed by it', async () => {
    const [first, ...none] = crls.lists;
    assert.deepEqual(none, []);
    const crl = parseCrl(first?.der ?? Buffer.of());
    const [signer] = world.authority.caSigners();
    assert.equal(first?.authorityId, signer?.id);
    assert.ok(isCrlOf(crl, parseCertificate(signer?.certificate ?? Buffer.of())));
    assert.equal(crl.nextUpdate.getTime() - crl.thisUpdate.getTime(), CRL_VALIDITY_MS);
    assert.equal(crl.revoked.size, 0);
  });

  for (const [kind, value] of [
    ['entry_id', 'e'],
    ['spiffe_id', String(WEB)],
    ['agent_id', 'a'],
  ] as const) {
    it(`names the leaves that a revocation by ${kind} ends, and not those issued after it`, async () => {
      const [one, other] = [await leaf(), await leaf()];
      await revoke(kind, value);
      await leaf();
      assert.deepEqual([...(await revoked()).keys()].sort(), [one, other].sort());
    });
  }

  it('names one serial, and an agent by its SPIFFE ID', async () => {
    const agent = SpiffeId.parse(`spiffe://${TD}/spire/agent/x509pop/a`);
    const [serial, own] = [await leaf(), await leaf('agent', agent)];
    await leaf();
    await revoke('serial', serial, 'whatever');
    await revoke('agent_id', String(agent), 'agent.ban');
    assert.deepEqual(
      await revoked(),
      new Map(
        [
          [serial, CRL_REASON.unspecified] as const,
          [own, CRL_REASON.privilegeWithdrawn] as const,
        ].sort(([a], [b]) => (a < b ? -1 : 1)),
      ),
    );
  });

  it('names nothing for what ends sessions alone', async () => {
    await leaf();
    await revoke('grant', 'e', 'grant.delete');
    assert.equal((await revoked()).size, 0);
  });

  for (const [kind, value] of [
    ['spiffeId', String(WEB)],
    ['agentId', 'a'],
  ] as const) {
    it(`holds back the leaves that a lock by ${kind} bars, until it is lifted or has run out`, async () => {
      const { store, clock, audit, revocations } = world;
      const locks = new Locks({
        store,
        clock,
        audit,
        revocations,
        resources: new Resources(store),
      });
      const lock = (ttlSeconds: number) => {
        const target = { case: kind, value };
        return locks.create({ target, reason: 'look', ttlSeconds, createdBy: 'uid:0' }, OPERATOR);
      };
      const anew = async () => {
        await revoke('grant', 'any', 'grant.delete');
        return revoked();
      };
      const serial = await leaf();
      const held = new Map([[serial, CRL_REASON.certificateHold]]);
      const { name } = await lock(0);
      assert.deepEqual(await revoked(), held);
      await locks.delete(name, OPERATOR);
      assert.equal((await anew()).size, 0);
      await lock(60);
      assert.deepEqual(await revoked(), held);
      clock.advance(60_000);
      assert.equal((await anew()).size, 0);
      await lock(0);
      await revoke('entry_id', 'e');
      assert.deepEqual(await revoked(), new Map([[serial, CRL_REASON.cessationOfOperation]]));
    });
  }

  it('names the leaves of a suspended identity, also when it is active again', async () => {
    await world.createEntry({
      spiffeId: { trustDomain: TD, path: '/web' },
      parentId: { trustDomain: TD, path: '/spire/agent/x509pop/a' },
      selectors: [{ type: 'unix', value: 'uid:1' }],
    });
    const serial = await leaf();
    const set = (status: IdentityStatus) =>
      world.identities.setStatus(WEB, { status, reason: '' }, OPERATOR);
    await set('suspended');
    await set('active');
    await leaf();
    assert.deepEqual(await revoked(), new Map([[serial, CRL_REASON.privilegeWithdrawn]]));
    await set('retired');
    assert.equal((await revoked()).get(serial), CRL_REASON.privilegeWithdrawn);
    assert.equal((await revoked()).size, 2);
  });

  it('leaves out what ends first where more is revoked than lists hold', async () => {
    const now = world.clock.now().getTime();
    const columns = ['serial', 'kind', 'spiffe_id', 'issued_at_ms', 'not_after_ms', 'entry_id'];
    const rows = Array.from({ length: 40_001 }, (_, at) => {
      const serial = (0x1000_0000 + at).toString(16);
      return [serial, 'x509', String(WEB), now, now + 3_600_000 + at, 'e'];
    });
    await world.store.transaction((tx) => tx.insertMany({ table: 'ledger', columns, rows }));
    await revoke('entry_id', 'e');
    const serials = await revoked();
    assert.equal(serials.size, 40_000);
    assert.ok(!serials.has('10000000') && serials.has('10000001'));
  });

  it('numbers lists upwards, over a restart too, and keeps those that would say the same', async () => {
    const number = () => crls.lists[0]?.number ?? 0n;
    const first = number();
    await revoke('grant', 'any', 'grant.delete');
    await crls.upToDate(signal);
    assert.equal(number(), first);
    await leaf();
    await revoke('entry_id', 'e');
    await crls.upToDate(signal);
    const second = number();
    assert.ok(second > first);
    await crls[Symbol.asyncDispose]();
    crls = await open();
    assert.ok(number() > second);
    assert.equal((await revoked()).size, 1);
  });

  it('makes them anew when half of their time has passed, and drops what has long ended', async () => {
    await leaf();
    await revoke('entry_id', 'e');
    assert.equal((await revoked()).size, 1);
    const { number } = crls.lists[0] ?? { number: 0n };
    world.clock.advance(4 * CRL_VALIDITY_MS);
    await revoke('grant', 'any', 'grant.delete');
    assert.equal((await revoked()).size, 0);
    assert.ok((crls.lists[0]?.number ?? 0n) > number);
    assert.ok((crls.lists[0]?.nextUpdate ?? 0) > world.clock.now());
  });

  it('has a list for an authority that has been replaced, until that ends', async () => {
    const serial = await leaf();
    const { id } = await world.authorities.prepare('x509', OPERATOR, signal);
    await world.authorities.activate({ kind: 'x509', id }, OPERATOR);
    await revoke('entry_id', 'e');
    const lists = await crls.upToDate(signal);
    assert.equal(lists.length, 2);
    const [, old] = lists;
    assert.equal(lists[0]?.authorityId, id);
    assert.deepEqual([...parseCrl(old?.der ?? Buffer.of()).revoked.keys()], [serial]);
    assert.equal(lists[0]?.revoked, 0);
  });
});
