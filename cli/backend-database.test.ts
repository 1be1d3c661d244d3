import assert from 'node:assert/strict';
import { Fault } from '../runtime/fault.ts';
import { backendDatabase, urlOfDatabase } from './backend-database.ts';

const SHOP = { database: 'shop_db', databases: { billing: 'billing_db' } };
const URL_OF_SHOP = 'postgresql://admin@db.internal/shop_db?sslmode=verify-full';

describe('backendDatabase', () => {
  it("is the backend's own unless --database names another", () => {
    assert.deepEqual(backendDatabase({}, 'shop', SHOP), { database: '', name: 'shop_db' });
    const flags = { database: 'billing' };
    const billing = backendDatabase(flags, 'shop', SHOP);
    assert.deepEqual(billing, { database: 'billing', name: 'billing_db' });
    assert.equal(
      urlOfDatabase(URL_OF_SHOP, flags, billing.name),
      'postgresql://admin@db.internal/billing_db?sslmode=verify-full',
    );
  });

  it('leaves the URL alone without the flag', () => {
    assert.equal(urlOfDatabase(URL_OF_SHOP, {}, 'other'), URL_OF_SHOP);
  });

  it('names those that there are', () => {
    assert.throws(
      () => backendDatabase({ database: 'constructor' }, 'shop', SHOP),
      (error) => {
        assert.ok(error instanceof Fault);
        assert.equal(error.code, 'NOT_FOUND');
        assert.equal(error.message, 'backend shop has no database constructor, but shop, billing');
        return true;
      },
    );
  });
});
