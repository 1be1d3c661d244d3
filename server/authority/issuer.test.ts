import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { Fault } from '../../runtime/fault.ts';
import {
  anyCsr,
  type EntryInit,
  entryInit,
  OPERATOR,
  RegistryWorld,
  TD,
} from '../../test/fixtures/registry-world.ts';
import type { AgentRecord } from '../attestation/agent-records.ts';
import type { IssuedX509 } from './issuer.ts';

describe('Issuer', () => {
  let world: RegistryWorld;
  let agent: AgentRecord;
  beforeEach(async () => {
    world = await RegistryWorld.open();
    agent = await world.attest('a');
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const ask = async (entryId: string): Promise<IssuedX509 | Fault> => {
    const [outcome] = await world.issuer.newX509(
      agent,
      [{ entryId, csr: await anyCsr() }],
      OPERATOR,
    );
    assert.ok(outcome);
    return outcome;
  };
  const issue = async (entryId: string): Promise<IssuedX509> => {
    const outcome = await ask(entryId);
    if (outcome instanceof Fault) throw outcome;
    return outcome;
  };
  const make = async (more: EntryInit = {}, path = '/web') =>
    (await world.createEntry(entryInit({ path, more }), { allowReserved: true })).id;
  const secondsLeft = ({ notAfter }: { notAfter: Date }) =>
    (notAfter.getTime() - world.clock.now().getTime()) / 1000;
  const addGateway = (...names: string[]) =>
    world.store.transaction((tx) =>
      tx.run(
        'insert into gateways (id, name, backends, names, created_at_ms) values (?, ?, ?, ?, 0)',
        `spiffe://${TD}/writ/gateway/a`,
        'a',
        '["*"]',
        JSON.stringify(names),
      ),
    );

  it('takes the TTL of the entry, or else the default', async () => {
    assert.equal(secondsLeft(await issue(await make())), 3600);
    assert.equal(secondsLeft(await issue(await make({ x509SvidTtl: 60 }, '/b'))), 60);
    const entryId = await make({ jwtSvidTtl: 7 }, '/c');
    const jwt = await world.issuer.newJwt(agent, { entryId, audience: ['db'] }, OPERATOR);
    assert.equal((jwt.expiresAt.getTime() - world.clock.now().getTime()) / 1000, 7);
  });

  it('lets no SVID outlive the identity record or the entry', async () => {
    const entryId = await make({ expiresAt: BigInt(world.clock.now().getTime() / 1000 + 90) });
    assert.equal(secondsLeft(await issue(entryId)), 90);
    await world.store.transaction((tx) =>
      world.identities.put(
        tx,
        SpiffeId.parse(`spiffe://${TD}/web`),
        {
          ...{ owner: 'a', purpose: 'b', environment: 'c', kind: 'service', labels: {} },
          expiresAt: new Date(world.clock.now().getTime() + 30_000),
        },
        OPERATOR,
      ),
    );
    assert.equal(secondsLeft(await issue(entryId)), 30);
    world.clock.advance(30_000);
    assert.equal(((await ask(entryId)) as Fault).code, 'NOT_FOUND');
  });

  it('gives a banned agent nothing, though its call was admitted before', async () => {
    const entryId = await make();
    await world.agents.ban(agent.id, OPERATOR);
    await assert.rejects(ask(entryId), { code: 'PERMISSION_DENIED' });
    assert.equal((await world.store.all('select 1 from ledger')).length, 0);
  });

  it('takes the names of a gateway from its record alone', async () => {
    await addGateway('gw.example.org', '10.0.0.7');
    const entryId = await make({ dnsNames: ['evil.example.org'] }, '/writ/gateway/a');
    const { chain } = await issue(entryId);
    const { subjectAltName } = new X509Certificate(chain[0] ?? Buffer.alloc(0));
    assert.equal(
      subjectAltName,
      `URI:spiffe://${TD}/writ/gateway/a, DNS:gw.example.org, IP Address:10.0.0.7`,
    );
  });

  it("S1: gives no gateway's SVID without its record, and its names to nobody else", async () => {
    const entryId = await make({}, '/writ/gateway/a');
    assert.equal(((await ask(entryId)) as Fault).code, 'PERMISSION_DENIED');
    const early = await make({ dnsNames: ['gw.example.org'] });
    await addGateway('gw.example.org');
    assert.equal(((await ask(early)) as Fault).code, 'PERMISSION_DENIED');
  });

  it('refuses audiences that are none', async () => {
    const entryId = await make();
    for (const audience of [[], [''], ['x'.repeat(2049)], Array(33).fill('a')])
      await assert.rejects(world.issuer.newJwt(agent, { entryId, audience }, OPERATOR), {
        code: 'INVALID_ARGUMENT',
      });
  });

  it('mints for an operator only what has, or can have, an active identity record', async () => {
    const uri = `spiffe://${TD}/minted`;
    await world.issuer.mintX509(await anyCsr(uri), 0, OPERATOR);
    const change = { status: 'suspended', reason: '' } as const;
    await world.identities.setStatus(SpiffeId.parse(uri), change, OPERATOR);
    await assert.rejects(world.issuer.mintX509(await anyCsr(uri), 0, OPERATOR), {
      code: 'PERMISSION_DENIED',
    });
    const noUri = createCsr(await generateKey('ec-p256'));
    for (const [csr, ttl] of [
      [noUri, 0],
      [await anyCsr(uri), -1],
    ] as const)
      await assert.rejects(world.issuer.mintX509(csr, ttl, OPERATOR), {
        code: /INVALID|PERMISSION/,
      });
  });
});
