import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { ListEntriesRequest_FilterSchema as FilterSchema } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { entryInit, TD } from '../../test/fixtures/registry-world.ts';
import { entryPredicate } from './entry-filters.ts';

type FilterInit = MessageInitShape<typeof FilterSchema>;

const MATCH = { exact: 0, subset: 1, superset: 2, any: 3 } as const;

const ENTRIES = [
  entryInit({ path: '/a', selectors: ['s:1'], more: { id: '1', hint: 'h', federatesWith: ['x'] } }),
  entryInit({ path: '/b', selectors: ['s:1', 's:2'], more: { id: '12', downstream: true } }),
  entryInit({
    path: '/c',
    parent: '/p',
    selectors: ['s:1', 's:2', 's:3'],
    more: { id: '123', federatesWith: ['x', 'y'] },
  }),
  entryInit({ path: '/d', selectors: ['s:4'], more: { id: '4' } }),
].map((init) => create(EntrySchema, init));

describe('entryPredicate', () => {
  const found = (filter?: FilterInit) => {
    const isWanted = entryPredicate(filter && create(FilterSchema, filter), TD);
    return ENTRIES.filter(isWanted).map(({ id }) => id);
  };
  const selectors = ['1', '2'].map((value) => ({ type: 's', value }));

  const cases: [string, FilterInit | undefined, string[]][] = [
    ['everything without a filter', undefined, ['1', '12', '123', '4']],
    ['exactly the set of selectors', { bySelectors: { selectors, match: MATCH.exact } }, ['12']],
    [
      'the same when a selector stands there twice',
      { bySelectors: { selectors: [...selectors, ...selectors], match: MATCH.exact } },
      ['12'],
    ],
    ['what lies within the set', { bySelectors: { selectors, match: MATCH.subset } }, ['1', '12']],
    ['what contains the set', { bySelectors: { selectors, match: MATCH.superset } }, ['12', '123']],
    [
      'what shares one with the set',
      { bySelectors: { selectors, match: MATCH.any } },
      ['1', '12', '123'],
    ],
    [
      'exactly the federated trust domains',
      { byFederatesWith: { trustDomains: ['x'], match: MATCH.exact } },
      ['1'],
    ],
    [
      "a federated trust domain by its ID, as SPIRE's CLI sends it",
      { byFederatesWith: { trustDomains: ['spiffe://x'], match: MATCH.exact } },
      ['1'],
    ],
    [
      'no entry without any as a subset',
      { byFederatesWith: { trustDomains: ['x', 'z'], match: MATCH.subset } },
      ['1'],
    ],
    [
      'federated supersets',
      { byFederatesWith: { trustDomains: ['x'], match: MATCH.superset } },
      ['1', '123'],
    ],
    [
      'any federated one',
      { byFederatesWith: { trustDomains: ['y', 'z'], match: MATCH.any } },
      ['123'],
    ],
    ['a SPIFFE ID', { bySpiffeId: { trustDomain: TD, path: '/d' } }, ['4']],
    ['a parent', { byParentId: { trustDomain: TD, path: '/p' } }, ['123']],
    ['a hint', { byHint: 'h' }, ['1']],
    ['nothing by an empty hint', { byHint: '' }, ['1', '12', '123', '4']],
    ['downstream entries', { byDownstream: true }, ['12']],
    [
      'all entries where downstream is false, as SPIRE does',
      { byDownstream: false },
      ['1', '12', '123', '4'],
    ],
    ['what fulfils all conditions', { byHint: 'h', byDownstream: true }, []],
  ];
  for (const [what, filter, ids] of cases) {
    it(`finds ${what}`, () => assert.deepEqual(found(filter), ids));
  }

  const wrong: [string, FilterInit][] = [
    ['an empty selector set', { bySelectors: { selectors: [] } }],
    ['an empty trust domain set', { byFederatesWith: { trustDomains: [] } }],
    ['a selector without value', { bySelectors: { selectors: [{ type: 's', value: '' }] } }],
    ['an unknown match behavior', { bySelectors: { selectors, match: 9 as 0 } }],
    ['an ID of another trust domain', { bySpiffeId: { trustDomain: 'other.org', path: '/a' } }],
    ['a malformed parent', { byParentId: { trustDomain: TD, path: '/a/' } }],
  ];
  for (const [what, filter] of wrong) {
    it(`refuses ${what}`, () => {
      assert.throws(() => found(filter), { code: 'INVALID_ARGUMENT' });
    });
  }
});
