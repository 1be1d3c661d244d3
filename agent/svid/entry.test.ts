import assert from 'node:assert/strict';
import { create, type Message, type MessageInitShape } from '@bufbuild/protobuf';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import {
  entryMatches,
  namesProgram,
  parseEntry,
  selectorKinds,
  withoutRepeatedHints,
} from './entry.ts';

const td = parseTrustDomain('example.org');
type EntryInit = Exclude<MessageInitShape<typeof EntrySchema>, Message>;
const parse = (init: EntryInit) =>
  parseEntry(
    create(EntrySchema, {
      id: 'e1',
      spiffeId: { trustDomain: 'example.org', path: '/web' },
      selectors: [{ type: 'unix', value: 'uid:1000' }],
      ...init,
    }),
    td,
  );

describe('parseEntry', () => {
  it('reads what an agent needs', () => {
    const entry = parse({ hint: 'h', revisionNumber: 3n, createdAt: 9n });
    assert.equal(String(entry?.spiffeId), 'spiffe://example.org/web');
    assert.deepEqual(entry?.selectors, ['unix:uid:1000']);
    assert.deepEqual([entry?.hint, entry?.revision, entry?.createdAt], ['h', 3n, 9n]);
  });

  const unserved: [string, EntryInit][] = [
    ['store_svid', { storeSvid: true }],
    ['no id', { id: '' }],
    ['no selector', { selectors: [] }],
    ['a selector without value', { selectors: [{ type: 'unix', value: '' }] }],
    ['a selector type with a colon', { selectors: [{ type: 'unix:uid', value: '0' }] }],
    ['another trust domain', { spiffeId: { trustDomain: 'other.org', path: '/web' } }],
    ['no path', { spiffeId: { trustDomain: 'example.org', path: '' } }],
    ['a malformed path', { spiffeId: { trustDomain: 'example.org', path: '/a/../b' } }],
  ];
  for (const [name, init] of unserved) {
    it(`drops an entry with ${name}`, () => assert.equal(parse(init), undefined));
  }
});

describe('entryMatches', () => {
  it('asks for all selectors of the entry and no more', () => {
    const entry = parse({
      selectors: [
        { type: 'unix', value: 'uid:1' },
        { type: 'unix', value: 'path:/bin/cat' },
      ],
    });
    assert.ok(entry);
    assert.equal(entryMatches(entry, new Set(['unix:uid:1', 'unix:path:/bin/cat', 'x:y'])), true);
    assert.equal(entryMatches(entry, new Set(['unix:uid:1'])), false);
    assert.equal(entryMatches(entry, new Set()), false);
  });
});

describe('namesProgram', () => {
  it('is true of a path or a hash among the selectors, and of nothing that looks like one', () => {
    const names = (...selectors: { type: string; value: string }[]) => {
      const entry = parse({ selectors });
      assert.ok(entry);
      return namesProgram(entry);
    };
    const uid = { type: 'unix', value: 'uid:5' };
    assert.ok(names(uid, { type: 'unix', value: 'path:/opt/deploy' }));
    assert.ok(names({ type: 'unix', value: 'sha256:ab' }, uid));
    assert.ok(!names(uid, { type: 'other', value: 'unix:path:/opt/deploy' }));
    assert.ok(!names(uid, { type: 'unix', value: 'paths:/opt/deploy' }));
  });
});

describe('withoutRepeatedHints', () => {
  const identity = (id: string, hint: string, createdAt: bigint) => {
    const entry = parse({ id, hint, createdAt });
    assert.ok(entry);
    return { entry };
  };

  it('keeps the oldest of each hint, and all without one', () => {
    const kept = withoutRepeatedHints([
      identity('a', 'x', 20n),
      identity('b', 'x', 10n),
      identity('c', '', 1n),
      identity('d', '', 1n),
      identity('f', 'y', 5n),
      identity('e', 'y', 5n),
    ]);
    assert.deepEqual(
      kept.map(({ entry }) => entry.id),
      ['b', 'c', 'd', 'e'],
    );
  });
});

describe('selectorKinds', () => {
  it('tells what selectors are about, each once', () => {
    const values = ['uid:1', 'path:/bin/a:b', 'path:/bin/c', 'plain'];
    const entry = parse({ selectors: values.map((value) => ({ type: 'unix', value })) });
    assert.ok(entry !== undefined);
    const kinds = selectorKinds([entry, entry]);
    assert.deepEqual([...kinds], ['unix:uid', 'unix:path', 'unix:plain']);
  });
});
