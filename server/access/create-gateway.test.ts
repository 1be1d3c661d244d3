import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { AccessWorld, AGENT, OPERATOR } from '../../test/fixtures/access-world.ts';
import { SSH_BACKEND } from '../../test/fixtures/ssh-access.ts';
import type { Entries } from '../registry/entries.ts';
import { createGateway, type GatewayInit, type GatewayRegistry } from './create-gateway.ts';
import { findGateway, gatewayNames, mayServe } from './gateways.ts';

describe('createGateway', () => {
  let world: AccessWorld;
  let registry: GatewayRegistry;
  let made: { spiffeId: unknown; allowReserved: unknown; dnsNames: unknown }[];
  beforeEach(async () => {
    world = await AccessWorld.create();
    made = [];
    const create = (async (_tx, entry, change) => {
      const { spiffeId, dnsNames } = entry;
      made.push({ spiffeId, dnsNames, allowReserved: change.allowReserved });
      return { entry: {}, isNew: true };
    }) as Entries['create'];
    registry = { ...world, store: world.store, entries: { create } };
  });

  const ID = SpiffeId.parse('spiffe://example.org/writ/gateway/edge');
  const init = (change: Partial<GatewayInit> = {}): GatewayInit => ({
    name: 'edge',
    spiffeId: ID,
    parentId: SpiffeId.parse(AGENT),
    selectors: [{ type: 'unix', value: 'uid:0' }],
    backends: ['shop'],
    names: ['db.example.org', '127.0.0.1'],
    ...change,
  });

  it('S1 makes the record and the entry in one transaction, with an event', async () => {
    const record = await createGateway(registry, init(), OPERATOR);
    assert.deepEqual(await findGateway(world.store, ID.toString()), record);
    const spiffeId = { trustDomain: 'example.org', path: '/writ/gateway/edge' };
    assert.deepEqual(made, [{ spiffeId, dnsNames: undefined, allowReserved: true }]);
    assert.equal((await world.events('gateway.created'))[0]?.spiffeId, ID.toString());
    await assert.rejects(createGateway(registry, init(), OPERATOR), { code: 'ALREADY_EXISTS' });
  });

  it('S1 leaves no record if the entry cannot be made', async () => {
    const create = async () => assert.fail('no defaults');
    const failing = { ...registry, entries: { create } };
    await assert.rejects(createGateway(failing, init(), OPERATOR));
    assert.equal(await findGateway(world.store, ID.toString()), undefined);
  });

  it('takes the names of the SVID from the record alone', async () => {
    await createGateway(registry, init(), OPERATOR);
    assert.deepEqual(await gatewayNames(world.store, ID), {
      dnsNames: ['db.example.org'],
      ipAddresses: ['127.0.0.1'],
    });
    const workload = SpiffeId.parse('spiffe://example.org/reporting');
    assert.equal(await gatewayNames(world.store, workload), undefined);
  });

  it('S1 serves the backends of its record', async () => {
    const record = await createGateway(registry, init(), OPERATOR);
    assert.equal(mayServe(record, 'shop'), true);
    assert.equal(mayServe(record, 'stock'), false);
    assert.equal(mayServe({ ...record, backends: ['*'] }, 'stock'), true);
  });

  it('S2 refuses a name that is an SSH backend, whose target could pass for the gateway', async () => {
    await world.apply(SSH_BACKEND);
    const named = createGateway(registry, init({ names: ['gw.internal', 'web-1'] }), OPERATOR);
    await assert.rejects(named, { code: 'FAILED_PRECONDITION', message: /web-1 is a backend/ });
    assert.equal(await findGateway(world.store, ID.toString()), undefined);
  });

  for (const path of ['ssh', 'node', 'java', 'bash', 'sh', 'python', 'python3', 'python3.11']) {
    it(`S14 refuses a gateway that is whoever runs ${path}`, async () => {
      const only = { type: 'unix', value: `path:/usr/bin/${path}` };
      const bare = createGateway(registry, init({ selectors: [only] }), OPERATOR);
      await assert.rejects(bare, { code: 'INVALID_ARGUMENT', message: /add who runs it/ });
      await createGateway(
        registry,
        init({ selectors: [only, { type: 'unix', value: 'uid:0' }] }),
        OPERATOR,
      );
    });
  }

  it('S14 refuses a gateway without selectors', async () => {
    await assert.rejects(createGateway(registry, init({ selectors: [] }), OPERATOR), {
      code: 'INVALID_ARGUMENT',
    });
  });
});
