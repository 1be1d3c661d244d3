import assert from 'node:assert/strict';
import { checkServerNames } from './check-server-names.ts';

const gateway = (name: string, backends: string[], names: string[]) => ({
  spiffeId: `spiffe://example.org/writ/gateway/${name}`,
  backends,
  names,
});

describe('checkServerNames', () => {
  it('warns of a name that a gateway of the backend may not prove', () => {
    const found = checkServerNames(
      'shop',
      ['shop.db.internal', 'shop.eu.internal'],
      [
        gateway('all', ['*'], ['Shop.DB.internal', '*.eu.internal']),
        gateway('one', ['shop'], ['*.db.internal', '127.0.0.1']),
        gateway('other', ['legacy'], []),
      ],
    );
    assert.deepEqual(
      found.map(({ severity, check, subject, problem }) => [severity, check, subject, problem]),
      [
        [
          'warning',
          'server-name',
          'shop.eu.internal',
          'is not among the names of spiffe://example.org/writ/gateway/one: clients that verify it cannot connect there',
        ],
      ],
    );
  });
});
