import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { Fault } from '../../runtime/fault.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import {
  anyCsr,
  DEFAULTS,
  type EntryInit,
  entryInit,
  OPERATOR,
  RegistryWorld,
  TD,
} from '../../test/fixtures/registry-world.ts';
import { newSshKey } from '../../test/fixtures/ssh-world.ts';
import type { AgentRecord } from '../attestation/agent-records.ts';
import type { IdentityInit } from '../registry/identities.ts';
import type { IssuedX509 } from './issuer.ts';

onEachStore('Issuer', (fresh) => {
  let world: RegistryWorld;
  let agent: AgentRecord;
  beforeEach(async () => {
    world = await RegistryWorld.open({ store: await fresh().open() });
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

  const identityOf = (more: Partial<IdentityInit>, path = '/web') => {
    const { expiresInSeconds, ...rest } = DEFAULTS;
    const expiresAt = new Date(world.clock.now().getTime() + expiresInSeconds * 1000);
    const id = SpiffeId.parse(`spiffe://${TD}${path}`);
    const init = { ...rest, labels: {}, expiresAt, ...more };
    return world.store.transaction((tx) => world.identities.put(tx, id, init, OPERATOR));
  };
  const refusedEvents = async () => {
    await world.refusals.flush();
    const events = await world.events();
    return events
      .filter(({ type }) => type === 'identity.svid.refused')
      .map(({ spiffeId, agentId, attributes }) => [spiffeId, agentId, attributes]);
  };
  const sshKey = () => newSshKey().publicKey;
  const denied = { code: 'PERMISSION_DENIED' };

  describe('of an identity that ends within the minute', () => {
    /** Every way to a credential, as Unix milliseconds of its end. */
    const ways: [string, (entryId: string) => Promise<number>][] = [
      ['an X509-SVID', async (entryId) => (await issue(entryId)).notAfter.getTime()],
      [
        'a JWT-SVID',
        async (entryId) => {
          const asked = { entryId, audience: ['db'] };
          return (await world.issuer.newJwt(agent, asked, OPERATOR)).expiresAt.getTime();
        },
      ],
      [
        'an SSH certificate',
        async (entryId) => {
          const wish = { entryId, publicKey: sshKey() };
          const signed = await world.sshIssuer.newUserCertificate(agent, wish, OPERATOR);
          return signed.notAfter.getTime();
        },
      ],
      [
        'a minted X509-SVID',
        async () => {
          const csr = await anyCsr(`spiffe://${TD}/web`);
          return (await world.issuer.mintX509(csr, 7200, OPERATOR)).notAfter.getTime();
        },
      ],
      [
        'a minted JWT-SVID',
        async () => {
          const id = SpiffeId.parse(`spiffe://${TD}/web`);
          const asked = { id, audience: ['db'], ttlSeconds: 7200 };
          return (await world.issuer.mintJwt(asked, OPERATOR)).expiresAt.getTime();
        },
      ],
    ];
    for (const [what, end] of ways) {
      it(`lets ${what} end with it to the second, and gives none from then on`, async () => {
        const entryId = await make();
        const expiresAt = new Date(world.clock.now().getTime() + 50_000);
        await identityOf({ expiresAt });
        assert.equal(await end(entryId), expiresAt.getTime());
        world.clock.advance(49_999);
        assert.ok((await end(entryId)) <= expiresAt.getTime());
        world.clock.advance(1);
        await assert.rejects(end(entryId), { code: /^(NOT_FOUND|PERMISSION_DENIED)$/ });
      });

      it(`gives ${what} no longer once the identity is suspended`, async () => {
        const entryId = await make();
        await end(entryId);
        const change = { status: 'suspended', reason: '' } as const;
        await world.identities.setStatus(SpiffeId.parse(`spiffe://${TD}/web`), change, OPERATOR);
        await assert.rejects(end(entryId), { code: /^(NOT_FOUND|PERMISSION_DENIED)$/ });
      });
    }
  });

  describe('of an identity with a list of audiences', () => {
    it('signs tokens for those alone, an operator too', async () => {
      const entryId = await make();
      await identityOf({ jwtAudiences: ['db', 'queue'] });
      const ask = (...audience: string[]) =>
        world.issuer.newJwt(agent, { entryId, audience }, OPERATOR);
      await ask('db');
      await ask('queue', 'db');
      await assert.rejects(ask('db', 'vault'), denied);
      const id = SpiffeId.parse(`spiffe://${TD}/web`);
      const asked = { id, audience: ['vault'], ttlSeconds: 0 };
      await assert.rejects(world.issuer.mintJwt(asked, OPERATOR), denied);
      assert.deepEqual(await refusedEvents(), [
        [id.toString(), agent.id, { cause: 'jwt_audiences', credential: 'jwt_svid', count: '1' }],
        [id.toString(), '', { cause: 'jwt_audiences', credential: 'jwt_svid', count: '1' }],
      ]);
      await issue(entryId);
    });
  });

  describe('of an identity with a bound on agents', () => {
    const ALIAS = '/node';
    let other: AgentRecord;
    let entryId: string;
    beforeEach(async () => {
      const init = { parent: '/spire/server', selectors: ['x509pop:subject:cn:n'] };
      await world.createEntry(entryInit({ ...init, path: ALIAS }));
      agent = await world.attest('a', ['subject:cn:n']);
      other = await world.attest('b', ['subject:cn:n']);
      entryId = (await world.createEntry(entryInit({ parent: ALIAS }))).id;
    });
    const askAs = async (record: AgentRecord, of = entryId) => {
      const csr = await anyCsr();
      const [outcome] = await world.issuer.newX509(record, [{ entryId: of, csr }], OPERATOR);
      return outcome instanceof Fault ? outcome.code : 'issued';
    };

    it('refuses the agents beyond it, in every form, and tells it', async () => {
      await identityOf({ maxAgents: 1 });
      assert.equal(await askAs(agent), 'issued');
      assert.equal(await askAs(other), 'PERMISSION_DENIED');
      const asked = { entryId, audience: ['db'] };
      const message = /^another agent holds this identity.*max_agents: 1/;
      await assert.rejects(world.issuer.newJwt(other, asked, OPERATOR), { ...denied, message });
      const wish = { entryId, publicKey: sshKey() };
      await assert.rejects(world.sshIssuer.newUserCertificate(other, wish, OPERATOR), denied);
      assert.equal(await askAs(agent), 'issued');
      await world.issuer.newJwt(agent, asked, OPERATOR);
      const told = await refusedEvents();
      assert.deepEqual(told, [
        [
          `spiffe://${TD}/web`,
          other.id,
          { cause: 'max_agents', credential: 'x509_svid', count: '3' },
        ],
      ]);
    });

    it('gives a place free when what its agent holds expires or is taken away', async () => {
      await identityOf({ maxAgents: 1 });
      await world.issuer.newJwt(agent, { entryId, audience: ['db'] }, OPERATOR);
      assert.equal(await askAs(other), 'PERMISSION_DENIED');
      world.clock.advance(300_000);
      assert.equal(await askAs(other), 'issued');
      assert.equal(await askAs(agent), 'PERMISSION_DENIED');
      await world.agents.ban(other.id, OPERATOR);
      assert.equal(await askAs(agent), 'issued');
    });

    it('gives a place free when the identity was suspended meanwhile', async () => {
      await identityOf({ maxAgents: 1 });
      assert.equal(await askAs(agent), 'issued');
      const id = SpiffeId.parse(`spiffe://${TD}/web`);
      for (const status of ['suspended', 'active'] as const)
        await world.identities.setStatus(id, { status, reason: '' }, OPERATOR);
      assert.equal(await askAs(other), 'issued');
    });

    it('goes to one of two agents that ask at the same time', async () => {
      await identityOf({ maxAgents: 1 });
      const outcomes = await Promise.all([askAs(agent), askAs(other)]);
      assert.deepEqual(outcomes.sort(), ['PERMISSION_DENIED', 'issued']);
    });

    it('counts what an entry gave until the entry is deleted', async () => {
      const second = entryInit({ parent: ALIAS, selectors: ['unix:uid:2'] });
      const secondId = (await world.createEntry(second)).id;
      await identityOf({ maxAgents: 1 });
      assert.equal(await askAs(agent), 'issued');
      assert.equal(await askAs(other, secondId), 'PERMISSION_DENIED');
      await world.store.transaction((tx) => world.entries.delete(tx, entryId, { actor: OPERATOR }));
      assert.equal(await askAs(other, secondId), 'issued');
    });

    it('takes no place for what an operator mints, and none if there is no bound', async () => {
      await identityOf({ maxAgents: 1 });
      await world.issuer.mintX509(await anyCsr(`spiffe://${TD}/web`), 0, OPERATOR);
      assert.equal(await askAs(agent), 'issued');
      await identityOf({});
      assert.equal(await askAs(other), 'issued');
    });
  });

  describe('under a TTL policy', () => {
    it('cuts every credential at the maximum of its environment and kind', async () => {
      await world[Symbol.asyncDispose]();
      world = await RegistryWorld.open({
        store: await fresh().open(),
        ttlRules: [
          { x509_svid_max: 1800, jwt_svid_max: 200 },
          { environment: 'prod', x509_svid_max: 600 },
          { environment: 'prod', kind: 'ci', ssh_certificate_max: 30 },
        ],
      });
      agent = await world.attest('a');
      const entryId = await make({ x509SvidTtl: 3000, jwtSvidTtl: 250 });
      const lives = async () => {
        const jwt = await world.issuer.newJwt(agent, { entryId, audience: ['db'] }, OPERATOR);
        const wish = { entryId, publicKey: sshKey() };
        const ssh = await world.sshIssuer.newUserCertificate(agent, wish, OPERATOR);
        const minted = await world.issuer.mintX509(
          await anyCsr(`spiffe://${TD}/web`),
          9000,
          OPERATOR,
        );
        const { expiresAt: notAfter } = jwt;
        return [await issue(entryId), { notAfter }, ssh, minted].map(secondsLeft);
      };
      assert.deepEqual(await lives(), [1800, 200, 300, 1800]);
      await identityOf({ environment: 'prod' });
      assert.deepEqual(await lives(), [600, 200, 300, 600]);
      await identityOf({ environment: 'prod', kind: 'ci' });
      assert.deepEqual(await lives(), [600, 200, 30, 600]);
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
