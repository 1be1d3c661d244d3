import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { registrarInit } from '../../test/fixtures/registrar-init.ts';
import { OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { joinTokenHandle } from './join-token-ids.ts';
import { findRegistrar, listRegistrars } from './registrars.ts';

const CI = SpiffeId.parse(`spiffe://${TD}/ci`);
const at = (path: string) => `spiffe://${TD}${path}`;

describe('Registrars', () => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const put = (more: Parameters<typeof registrarInit>[0] = {}) =>
    world.registrars.put(registrarInit(more), OPERATOR);

  it('keeps a record, changes it, deletes it, and tells each', async () => {
    const defaults = {
      ...{ owner: 'ana', purpose: 'builds', environment: 'test', kind: 'ci' },
      expiresInSeconds: 60,
    };
    const made = await put({ dnsNames: ['*.Apps.example.org'], defaults });
    assert.deepEqual(await findRegistrar(world.store, CI), made);
    assert.deepEqual([made.dnsNames, made.defaults?.kind], [['*.apps.example.org'], 'ci']);
    world.clock.advance(1000);
    const changed = await put({ hint: true });
    assert.deepEqual([changed.createdAt, changed.defaults], [made.createdAt, undefined]);
    assert.deepEqual(await listRegistrars(world.store), [changed]);
    await world.registrars.delete(CI, OPERATOR);
    assert.deepEqual(await listRegistrars(world.store), []);
    await assert.rejects(world.registrars.delete(CI, OPERATOR), { code: 'NOT_FOUND' });
    const told = (await world.events()).filter(({ spiffeId }) => spiffeId === CI.toString());
    assert.deepEqual(
      told.map(({ type, actor }) => [type, actor?.uid]),
      [
        ['registrar.created', 7],
        ['registrar.updated', 7],
        ['registrar.deleted', 7],
      ],
    );
  });

  it('knows an agent by the handle of its token', async () => {
    const { parents } = await put({ parents: [at('/spire/agent/join_token/secret')] });
    assert.deepEqual(parents, [at(`/spire/agent/join_token/${joinTokenHandle('secret')}`)]);
  });

  const wrong: [string, RegExp, Parameters<typeof registrarInit>[0]][] = [
    ['a registrar of another trust domain', /spiffe_id/, { spiffeId: 'spiffe://other.org/ci' }],
    ['a reserved registrar', /spiffe_id/, { spiffeId: at('/writ/gateway/a') }],
    ['no SPIFFE IDs', /spiffe_ids/, { spiffeIds: [] }],
    ['no parents', /parents/, { parents: [] }],
    ['no selectors', /selectors/, { selectors: [] }],
    ['SPIFFE IDs of another trust domain', /spiffe_ids/, { spiffeIds: ['spiffe://other.org/*'] }],
    ['half a segment', /spiffe_ids/, { spiffeIds: [at('/apps*')] }],
    ['an asterisk in the middle', /spiffe_ids/, { spiffeIds: [at('/apps/*/web')] }],
    ['IDs of gateways', /spiffe_ids.*reserved/, { spiffeIds: [at('/writ/gateway/*')] }],
    ['IDs of agents', /spiffe_ids.*reserved/, { spiffeIds: [at('/spire/*')] }],
    ['gateways as parents', /parents.*reserved/, { parents: [at('/writ/*')] }],
    ['parents that take in the server', /parents/, { parents: [at('/spire/*')] }],
    ['a selector without a value', /^selectors: /, { selectors: ['unix:'] }],
    ['a DNS name with two asterisks', /dns_names/, { dnsNames: ['*.*.example.org'] }],
    ['every DNS name', /dns_names/, { dnsNames: ['*'] }],
    ['its own trust domain', /federates_with/, { federatesWith: [TD] }],
    ['a TTL of more than 7 days', /max_x509_svid_ttl/, { maxX509SvidTtlSeconds: 604_801 }],
    ['defaults without an owner', /defaults.owner/, { defaults: { kind: 'ci' } }],
    ['257 parents', /parents/, { parents: Array.from({ length: 257 }, (_, n) => at(`/n${n}`)) }],
  ];
  for (const [what, message, more] of wrong) {
    it(`S15: refuses ${what}`, async () => {
      await assert.rejects(put(more), { code: 'INVALID_ARGUMENT', message });
      assert.deepEqual(await listRegistrars(world.store), []);
    });
  }
});
