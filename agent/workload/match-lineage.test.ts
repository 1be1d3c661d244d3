import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import type { Identity } from '../svid/cache.ts';
import { matchLineage } from './match-lineage.ts';

const identity = (id: string, selectors: string[], more: Partial<Identity> = {}): Identity => ({
  entry: {
    id,
    spiffeId: SpiffeId.parse(`spiffe://example.org/${id}`),
    selectors,
    hint: '',
    revision: 0n,
    createdAt: 0n,
    federatesWith: [],
    onDemand: false,
    freshJwt: false,
  },
  svid: undefined,
  lack: 'pending',
  ...more,
});
const named = (spiffePath: string, of: Identity): Identity => ({
  ...of,
  entry: { ...of.entry, spiffeId: SpiffeId.parse(`spiffe://example.org${spiffePath}`) },
});
const held = (...selectors: string[]) => new Set(['unix:uid:5', ...selectors]);

describe('matchLineage', () => {
  const SSH = held('unix:path:/usr/bin/ssh', 'unix:supplementary_gid:7');
  const SCRIPT = held('unix:path:/opt/deploy', 'unix:sha256:ab');
  const RUNNER = held('unix:path:/opt/runner');
  const ids = (identities: Identity[], lineage = [SSH, SCRIPT, RUNNER]) =>
    matchLineage(identities, lineage).map(({ entry }) => entry.id);

  it('matches an entry that names a program with whichever process runs it', () => {
    assert.deepEqual(ids([identity('a', ['unix:path:/opt/runner'])]), ['a']);
    assert.deepEqual(ids([identity('a', ['unix:sha256:ab'])]), ['a']);
    assert.deepEqual(ids([identity('a', ['unix:path:/opt/other'])]), []);
  });

  it('wants all selectors of an entry at one process', () => {
    const both = ['unix:path:/opt/deploy', 'unix:sha256:ab', 'unix:uid:5'];
    assert.deepEqual(ids([identity('a', both)]), ['a']);
    assert.deepEqual(ids([identity('a', ['unix:path:/opt/runner', 'unix:sha256:ab'])]), []);
    const ofSsh = ['unix:path:/opt/deploy', 'unix:supplementary_gid:7'];
    assert.deepEqual(ids([identity('a', ofSsh)]), []);
  });

  it('matches an entry that names no program with the caller alone', () => {
    assert.deepEqual(ids([identity('a', ['unix:supplementary_gid:7'])]), ['a']);
    const lineage = [SCRIPT, SSH];
    assert.deepEqual(ids([identity('a', ['unix:supplementary_gid:7'])], lineage), []);
  });

  it('puts those of programs first, the nearest first, and the others by their id', () => {
    const identities = [
      identity('a', ['unix:uid:5']),
      identity('b', ['unix:path:/opt/runner']),
      identity('c', ['unix:path:/opt/deploy', 'unix:uid:5']),
      identity('d', ['unix:path:/usr/bin/ssh']),
      identity('e', ['unix:sha256:ab']),
      identity('f', ['unix:uid:5']),
    ];
    assert.deepEqual(ids(identities), ['d', 'c', 'e', 'b', 'a', 'f']);
  });

  it('gives a SPIFFE ID that several entries have once, by the nearest', () => {
    const identities = [
      named('/same', identity('a', ['unix:uid:5'])),
      named('/same', identity('b', ['unix:path:/opt/deploy'])),
    ];
    assert.deepEqual(ids(identities), ['b']);
  });

  it('gives nothing reserved, and nothing that the server has refused', () => {
    const identities = [
      named('/writ/gateway/main', identity('a', ['unix:uid:5'])),
      named('/spire/server', identity('b', ['unix:path:/opt/deploy'])),
      identity('c', ['unix:uid:5'], { lack: 'refused' }),
      identity('d', ['unix:uid:5'], { lack: 'unavailable' }),
    ];
    assert.deepEqual(ids(identities), ['d']);
  });
});
