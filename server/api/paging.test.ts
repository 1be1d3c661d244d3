import assert from 'node:assert/strict';
import { pageOf } from './paging.ts';

describe('pageOf', () => {
  const listed = (ids: string[]) => (id: string) =>
    ids
      .filter((one) => one > id)
      .sort()
      .map((one) => ({ id: one }));

  it('gives everything where the size is 0', () => {
    const page = pageOf({ pageSize: 0, pageToken: '' }, listed(['b', 'a']));
    assert.deepEqual(page, { items: [{ id: 'a' }, { id: 'b' }], nextPageToken: '' });
  });

  it('gives each item once while others come', () => {
    const ids = ['b', 'd', 'f', 'h'];
    const seen: string[] = [];
    let pageToken = '';
    do {
      const page = pageOf({ pageSize: 2, pageToken }, listed(ids));
      seen.push(...page.items.map(({ id }) => id));
      pageToken = page.nextPageToken;
      if (seen.length === 2) ids.push('a', 'g');
    } while (pageToken !== '');
    assert.deepEqual(seen, ['b', 'd', 'f', 'g', 'h']);
  });

  it('has no token after a last page that is full', () => {
    assert.equal(pageOf({ pageSize: 2, pageToken: '' }, listed(['a', 'b'])).nextPageToken, '');
  });

  for (const pageToken of ['***', 'YQ==', 'YR', 'x'.repeat(5000)]) {
    it(`refuses the token ${pageToken.slice(0, 8)}`, () => {
      assert.throws(() => pageOf({ pageSize: 1, pageToken }, listed([])), {
        code: 'INVALID_ARGUMENT',
      });
    });
  }

  it('gives everything for a size of 0 and, as SPIRE does, for a negative one', () => {
    for (const pageSize of [0, -1]) {
      const page = pageOf({ pageSize, pageToken: '' }, listed(['a', 'b']));
      assert.deepEqual([page.items.length, page.nextPageToken], [2, '']);
    }
  });
});
