import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { createLogger } from '../../runtime/log.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import { OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { pruneAgents } from './agent-pruning.ts';
import { listAgents } from './agent-records.ts';

const DAY_MS = 24 * 3_600_000;
const DAY = { oneTimeSeconds: 86_400, reattestableSeconds: undefined };
const BOTH = { ...DAY, reattestableSeconds: 2 * 86_400 };

onEachStore('pruneAgents', (fresh) => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open({ store: await fresh().open() });
  });
  afterEach(() => world[Symbol.asyncDispose]());

  /** An agent whose SVID ends in an hour. */
  const attest = async (type: string, name: string, canReattest = false) => {
    const id = SpiffeId.fromSegments(TD, 'spire', 'agent', type, name);
    const notAfter = new Date(world.clock.now().getTime() + 3_600_000);
    await world.store.transaction((tx) =>
      world.agents.admit(tx, {
        ...{ id, type, selectors: [], canReattest, serial: `${type}${name}`, notAfter },
      }),
    );
    return id.toString();
  };
  const left = async () =>
    (await listAgents(world.store)).map(({ id }) => id.slice(`spiffe://${TD}/spire/agent/`.length));
  const pruned = async () =>
    (await world.events()).filter(({ type }) => type === 'agent.pruned').map((one) => one.agentId);
  const passDays = (days: number) => world.clock.advance(3_600_000 + days * DAY_MS);

  it('forgets what cannot come back at the end of its time, and not a moment before', async () => {
    const ids = [await attest('join_token', 'a'), await attest('oidc', 'b')];
    passDays(1);
    world.clock.advance(-1);
    assert.equal(await world.agents.prune(DAY, 50), 0);
    world.clock.advance(1);
    assert.equal(await world.agents.prune(DAY, 50), 2);
    assert.deepEqual(await left(), []);
    assert.deepEqual((await pruned()).sort(), ids);
    assert.deepEqual(await world.revoked(), []);
  });

  it('keeps agents that the first use of their evidence is remembered by', async () => {
    for (const type of ['aws_iid', 'gcp_iit', 'azure_msi', 'of_a_plugin']) await attest(type, 'a');
    passDays(3650);
    assert.equal(await world.agents.prune(BOTH, 50), 0);
    assert.equal((await left()).length, 4);
  });

  it('keeps who can attest again, unless it is told when to forget them', async () => {
    await attest('k8s_psat', 'a', true);
    passDays(2);
    assert.equal(await world.agents.prune(DAY, 50), 0);
    assert.equal(await world.agents.prune(BOTH, 50), 1);
  });

  it('never forgets who is banned', async () => {
    await world.agents.ban(await attest('oidc', 'a'), OPERATOR);
    await world.agents.ban(await attest('x509pop', 'b', true), OPERATOR);
    passDays(3650);
    assert.equal(await world.agents.prune(BOTH, 50), 0);
  });

  it('keeps an agent whose renewed SVID still lives', async () => {
    const id = await attest('join_token', 'a');
    const end = new Date(world.clock.now().getTime() + 3 * DAY_MS);
    await world.store.transaction((tx) => world.agents.renew(tx, id, 'next', end));
    passDays(2);
    assert.equal(await world.agents.prune(DAY, 50), 0);
  });

  it('keeps an agent while an SVID that it was given lives', async () => {
    const id = await attest('oidc', 'a');
    const until = world.clock.now().getTime() + 7 * DAY_MS;
    await world.store.transaction((tx) =>
      tx.run(
        `insert into ledger (serial, kind, spiffe_id, entry_id, agent_id, issued_at_ms, not_after_ms)
         values ('s', 'x509', ?, 'e', ?, 0, ?)`,
        ...[`spiffe://${TD}/web`, id, until],
      ),
    );
    passDays(6);
    assert.equal(await world.agents.prune(DAY, 50), 0);
    passDays(1);
    assert.equal(await world.agents.prune(DAY, 50), 1);
  });

  it('takes the alias of a join token along, and leaves what an operator has put below the node', async () => {
    const alias = SpiffeId.parse(`spiffe://${TD}/node`);
    const { handle } = await world.joinTokens.create({ ttlSeconds: 60, alias }, OPERATOR);
    await attest('join_token', handle);
    const parent = `/spire/agent/join_token/${handle}`;
    const own = await world.createEntry({
      ...{
        spiffeId: { trustDomain: TD, path: '/web' },
        parentId: { trustDomain: TD, path: parent },
      },
      selectors: [{ type: 'unix', value: 'uid:1' }],
    });
    passDays(1);
    await world.agents.prune(DAY, 50);
    const rows = await world.store.all('select id from entries');
    assert.deepEqual(rows, [{ id: own.id }]);
  });

  it('forgets no more in one turn than it is told, and all of them in the end', async () => {
    for (let at = 0; at < 60; at += 1) await attest('oidc', String(at));
    passDays(2);
    assert.equal(await world.agents.prune(DAY, 7), 7);
    const { agents, clock } = world;
    const log = createLogger({ process: 'server', level: 'silent' });
    const turns: number[] = [];
    let finish = () => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const counted = {
      async prune(...args: Parameters<typeof agents.prune>) {
        const count = await agents.prune(...args);
        turns.push(count);
        if (count < 50) finish();
        return count;
      },
    };
    await using _ = pruneAgents({ agents: counted, clock, log, periods: DAY });
    await finished;
    assert.deepEqual(turns, [50, 3]);
    assert.deepEqual(await left(), []);
  });
});
