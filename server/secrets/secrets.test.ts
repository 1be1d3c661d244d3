import assert from 'node:assert/strict';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import { SecretWorld } from '../../test/fixtures/secret-world.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { memoryKeyManager } from '../plugins/key-manager/memory.ts';
import { findVersion, listSecrets } from './secret-rows.ts';
import { SecretSeal } from './secret-seal.ts';

const OPERATOR = { kind: 'operator', uid: 0 };

onEachStore('Secrets', (fresh) => {
  let store: Datastore;
  let world: SecretWorld;
  beforeEach(async () => {
    store = await fresh().open();
    world = new SecretWorld(store);
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const states = async (name: string) =>
    (await listSecrets(store))
      .filter((secret) => secret.name === name)
      .flatMap(({ versions }) => versions.map(({ version, state }) => `${version} ${state}`));

  const openedValue = async (name: string, state: 'current' | 'previous') => {
    const version = await findVersion(store, name, state);
    return version && (await world.seal.open(version));
  };

  it('keeps the current version and the one before', async () => {
    for (const [index, value] of ['one', 'two', 'three'].entries())
      assert.equal(await world.put('shop', value), index + 1);
    assert.deepEqual(await states('shop'), ['3 current', '2 previous']);
    assert.equal(await openedValue('shop', 'current'), 'three');
    assert.equal(await openedValue('shop', 'previous'), 'two');
  });

  it('keeps nothing that could be read without the key manager', async () => {
    const value = 'correct-horse-battery';
    await world.put('shop', value);
    const rows = await store.all('select * from secret_versions');
    const events = await store.all('select body from audit_events');
    const bytes = Buffer.concat(
      [...rows, ...events].flatMap((row) =>
        Object.values(row).map((cell) =>
          cell instanceof Uint8Array ? Buffer.from(cell) : Buffer.from(String(cell)),
        ),
      ),
    );
    for (const encoding of ['utf8', 'base64', 'hex'] as const)
      assert.ok(!bytes.includes(Buffer.from(value).toString(encoding)), encoding);
    const [version] = (await listSecrets(store))[0]?.versions ?? [];
    assert.ok(version);
    const other = new SecretSeal({ ...world, keys: memoryKeyManager() });
    await assert.rejects(other.open(version), { code: 'STATE_UNUSABLE', message: /kek-/ });
  });

  it('has a key of its own for each version', async () => {
    await world.put('shop', 'same');
    await world.put('shop', 'same');
    const rows = await store.all('select sealed, wrapped_key from secret_versions');
    const distinct = new Set(rows.flatMap((row) => Object.values(row).map(String)));
    assert.equal(distinct.size, 4);
  });

  describe('tells each change', () => {
    it('in one transaction with it', async () => {
      await world.put('shop', 'one');
      await world.put('shop', 'two');
      await world.secrets.retire('shop', OPERATOR);
      await world.secrets.delete('shop', OPERATOR);
      const told = (await world.events()).map(
        ({ type, attributes }) => `${type} ${attributes.secret} ${attributes.version}`,
      );
      assert.deepEqual(told, [
        ...['secret.created shop 1', 'secret.updated shop 2'],
        ...['secret.retired shop 2', 'secret.deleted shop 2'],
      ]);
    });

    it('to gateways, by a new revision', async () => {
      const before = world.resources.revision.value;
      await world.put('shop', 'one');
      assert.ok(world.resources.revision.value > before);
    });

    it('and does nothing if the event cannot be written', async () => {
      await world.run('drop table audit_events');
      await assert.rejects(world.put('shop', 'one'));
      assert.deepEqual(await states('shop'), []);
    });
  });

  it('retires the version before the current one', async () => {
    await world.put('shop', 'one');
    await world.put('shop', 'two');
    await world.secrets.retire('shop', OPERATOR);
    assert.deepEqual(await states('shop'), ['2 current']);
    await assert.rejects(world.secrets.retire('stock', OPERATOR), { code: 'NOT_FOUND' });
  });

  it('is not deleted while a backend names it', async () => {
    await world.put('shop', 'one');
    await world.addBackend('orders', 'shop');
    await assert.rejects(world.secrets.delete('shop', OPERATOR), {
      code: 'FAILED_PRECONDITION',
      message: 'backend orders names this secret',
    });
    await world.addBackend('orders', undefined);
    await world.secrets.delete('shop', OPERATOR);
    assert.deepEqual(await states('shop'), []);
    await assert.rejects(world.secrets.delete('shop', OPERATOR), { code: 'NOT_FOUND' });
  });

  it('uses no number of a version twice, even after it was deleted', async () => {
    await world.put('shop', 'one');
    await world.secrets.delete('shop', OPERATOR);
    assert.equal(await world.put('shop', 'two'), 2);
  });

  it('gives each of two that are put at once a number of its own', async () => {
    const versions = await Promise.all(['a', 'b', 'c'].map((value) => world.put('shop', value)));
    assert.deepEqual(versions.sort(), [1, 2, 3]);
    assert.deepEqual(await states('shop'), ['3 current', '2 previous']);
  });

  for (const column of ['sealed', 'wrapped_key'])
    it(`does not open a row with the ${column} of another`, async () => {
      await world.put('shop', 'one');
      await world.put('stock', 'two');
      await world.run(
        `update secret_versions set ${column} =
           (select ${column} from secret_versions where name = 'stock') where name = 'shop'`,
      );
      await assert.rejects(openedValue('shop', 'current'), { code: 'STATE_UNUSABLE' });
    });

  it('does not open a row that was moved whole, or renumbered', async () => {
    await world.put('shop', 'one');
    await world.put('stock', 'two');
    await world.run(`delete from secret_versions where name = 'shop'`);
    await world.run(`update secret_versions set name = 'shop' where name = 'stock'`);
    await assert.rejects(openedValue('shop', 'current'), { code: 'STATE_UNUSABLE' });
    await world.put('third', 'one');
    await world.run(`update secret_versions set version = 7 where name = 'third'`);
    await assert.rejects(openedValue('third', 'current'), { code: 'STATE_UNUSABLE' });
    await world.put('fourth', 'one');
    await world.run(`update secret_versions set login = 'postgres' where name = 'fourth'`);
    await assert.rejects(openedValue('fourth', 'current'), { code: 'STATE_UNUSABLE' });
  });

  for (const name of ['', 'UP', 'a/b', '-a', 'a'.repeat(64)])
    it(`refuses the name ${JSON.stringify(name).slice(0, 12)}`, async () => {
      await assert.rejects(world.put(name, 'one'), { code: 'INVALID_ARGUMENT', message: /^name/ });
    });

  const values: readonly [string, Uint8Array][] = [
    ['nothing', Buffer.alloc(0)],
    ['two lines', Buffer.from('sesame\nopen')],
    ['a zero byte', Buffer.from('sesame\0')],
    ['too much', Buffer.alloc(4097, 'a')],
    ['no UTF-8', Buffer.from([0xff, 0xfe])],
  ];
  for (const [what, value] of values)
    it(`refuses ${what} as a value, and does not repeat it`, async () => {
      const putting = world.secrets.put('shop', value, OPERATOR);
      await assert.rejects(putting, (error: Error) => {
        assert.match(error.message, /^value: 1 to 4096 bytes/);
        return !error.message.includes('sesame');
      });
    });
});
