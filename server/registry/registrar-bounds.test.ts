import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { registrarInit } from '../../test/fixtures/registrar-init.ts';
import { type EntryInit, entryInit, TD } from '../../test/fixtures/registry-world.ts';
import { brokenBound, matchesId } from './registrar-bounds.ts';

const AGENTS = '/spire/agent/x509pop';
const TTLS = { x509Seconds: 3600, jwtSeconds: 300 };

describe('matchesId', () => {
  const cases: [string, string, boolean][] = [
    ['/apps/web', '/apps/web', true],
    ['/apps/web', '/apps/web/x', false],
    ['/apps/web', '/apps/we', false],
    ['/apps/*', '/apps/web', true],
    ['/apps/*', '/apps/web/x', true],
    ['/apps/*', '/apps', false],
    ['/apps/*', '/apps-evil/web', false],
    ['/apps/*', '/appsweb', false],
    ['/*', '/apps/web', true],
    ['/*', '/spire/agent/x509pop/a', false],
    ['/*', '/spire/server', false],
    ['/*', '/writ/gateway/a', false],
    ['/*', '/spirelike/a', true],
    ['/spire/agent/*', '/spire/agent/x509pop/a', true],
    ['/spire/agent/x509pop/*', '/spire/agent/k8s_psat/a', false],
    ['/spire/server', '/spire/server', true],
  ];
  for (const [pattern, path, is] of cases) {
    it(`S15: ${pattern} ${is ? 'takes in' : 'leaves out'} ${path}`, () => {
      assert.equal(matchesId(`spiffe://${TD}${pattern}`, `spiffe://${TD}${path}`), is);
    });
  }

  it('S15: takes no ID of another trust domain', () => {
    assert.equal(matchesId(`spiffe://${TD}/*`, `spiffe://${TD}.evil/apps`), false);
    assert.equal(matchesId(`spiffe://${TD}/*`, 'spiffe://other.org/apps'), false);
  });
});

describe('brokenBound', () => {
  const record = {
    ...registrarInit({
      selectors: ['unix:uid:1000', 'unix', 'k8s:ns:apps'],
      dnsNames: ['apps.example.org', '*.apps.example.org'],
      federatesWith: ['other.org'],
      maxX509SvidTtlSeconds: 600,
    }),
  };
  const good = {
    path: '/apps/web',
    parent: `${AGENTS}/a`,
    selectors: ['unix:uid:1000', 'k8s:ns:apps'],
    more: { x509SvidTtl: 600 } as EntryInit,
  };
  const bound = (init: Partial<typeof good>, more: EntryInit = {}, bounds: object = record) => {
    const entry = entryInit({ ...good, ...init, more: { ...good.more, ...more } });
    return brokenBound({ ...record, ...bounds }, create(EntrySchema, entry), TTLS)?.bound;
  };

  it('S15: lets through what keeps all of them', () => {
    assert.equal(bound({}), undefined);
    const more = { dnsNames: ['apps.example.org', 'A.apps.example.org', '*.apps.example.org'] };
    assert.equal(
      bound({}, { ...more, federatesWith: ['other.org', 'spiffe://other.org'], jwtSvidTtl: 300 }),
      undefined,
    );
    assert.equal(bound({ selectors: [...good.selectors, 'unix:gid:3'] }), undefined);
    assert.equal(bound({}, { hint: 'h' }, { hint: true }), undefined);
  });

  const broken: [string, string, Partial<typeof good>, EntryInit?][] = [
    ['a SPIFFE ID beside the prefix', 'spiffe_ids', { path: '/other/web' }],
    ['a SPIFFE ID that only begins like it', 'spiffe_ids', { path: '/apps-x/web' }],
    ['a parent of another attestor', 'parents', { parent: '/spire/agent/join_token/a' }],
    ['the server as parent', 'parents', { parent: '/spire/server' }],
    ['a selector that no bound names', 'selectors', { selectors: [...good.selectors, 'k8s:ns:b'] }],
    ['no selector of a bound', 'selectors', { selectors: ['unix:uid:1000'] }],
    ['a value that is not the bound’s', 'selectors', { selectors: ['unix:uid:0', 'k8s:ns:apps'] }],
    ['a DNS name that no bound names', 'dns_names', {}, { dnsNames: ['example.org'] }],
    ['a DNS name two labels down', 'dns_names', {}, { dnsNames: ['a.b.apps.example.org'] }],
    ['a DNS name that ends like it', 'dns_names', {}, { dnsNames: ['a.xapps.example.org'] }],
    ['another trust domain', 'federates_with', {}, { federatesWith: ['other.org', 'third.org'] }],
    ['a hint', 'hint', {}, { hint: 'h' }],
    ['an X509-SVID TTL beyond the maximum', 'max_x509_svid_ttl', {}, { x509SvidTtl: 601 }],
    ['the default TTL where it is beyond the maximum', 'max_x509_svid_ttl', {}, { x509SvidTtl: 0 }],
    ['a JWT-SVID TTL beyond the default', 'max_jwt_svid_ttl', {}, { jwtSvidTtl: 301 }],
    ['admin', 'admin', {}, { admin: true }],
    ['downstream', 'downstream', {}, { downstream: true }],
    ['store_svid', 'store_svid', {}, { storeSvid: true }],
  ];
  for (const [what, name, init, more] of broken)
    it(`S15: refuses ${what}`, () => assert.equal(bound(init, more), name));
});
