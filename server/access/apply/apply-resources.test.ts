import assert from 'node:assert/strict';
import { Fault } from '../../../runtime/fault.ts';
import {
  AccessWorld,
  BACKEND,
  CLASSES,
  documents,
  grantYaml,
  OPERATOR,
} from '../../../test/fixtures/access-world.ts';
import { findResource, listGrants, listResources } from '../resources.ts';

const SHOP = documents(BACKEND, CLASSES, grantYaml('reads', {}));

describe('ResourceApplier', () => {
  let world: AccessWorld;
  beforeEach(async () => {
    world = await AccessWorld.create();
  });

  const actions = (changes: readonly { name: string; action: string }[]) =>
    changes.map(({ name, action }) => `${name} ${action}`);

  const refusal = async (applying: Promise<unknown>): Promise<string[]> => {
    const error = await applying.then(
      () => assert.fail('it was applied'),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof Fault && error.code === 'CONFIG_INVALID', String(error));
    return error.message.split('\n');
  };

  const revoked = async () =>
    (await world.revocations.since(0n)).map(({ cause, subject }) => [
      cause,
      subject?.subject.value,
    ]);

  it('applies files as a whole, one event for each change', async () => {
    const changes = await world.apply(SHOP);
    const all = ['shop created', 'national-id created', 'shop-people created', 'reads created'];
    assert.deepEqual(actions(changes), all);
    const events = await world.events('resource.created');
    assert.deepEqual(
      events.map(({ attributes }) => `${attributes.kind}/${attributes.name}`),
      ['Backend/shop', 'ColumnClass/national-id', 'Columns/shop-people', 'Grant/reads'],
    );
    assert.equal(events[3]?.grant, 'reads');
    assert.equal(events[0]?.actor?.kind, 'operator');
  });

  describe('names the roles of a grant', () => {
    const roleOf = async () => {
      const [grant] = await listGrants(world.store);
      assert.ok(grant?.rights.case === 'postgres');
      const { groupRole, viewSchema } = grant.rights.value;
      assert.match(groupRole, /^writ_g_[0-9a-f]{16}$/);
      assert.equal(viewSchema, groupRole.replace('writ_g_', 'writ_v_'));
      return groupRole;
    };

    it('by what they give, the same for the same', async () => {
      await world.apply(SHOP);
      const role = await roleOf();
      await world.apply(SHOP);
      assert.equal(await roleOf(), role);
    });

    const changes: readonly [string, string][] = [
      ['rights', grantYaml('reads', { postgres: 'select: [public.orders, public.items]' })],
      ['masks', "kind: ColumnClass\nname: national-id\nmask: 'null'\n"],
    ];
    for (const [what, yaml] of changes) {
      it(`anew when its ${what} change, and ends its sessions`, async () => {
        await world.apply(SHOP);
        const role = await roleOf();
        await world.apply(yaml);
        assert.notEqual(await roleOf(), role);
        const [revocation] = await world.revocations.since(0n);
        assert.deepEqual(revocation?.subject?.subject, { case: 'grant', value: 'reads' });
      });
    }
  });

  it('leaves what has not changed alone, and counts the changes of what has', async () => {
    await world.apply(SHOP);
    const revision = world.resources.revision.value;
    const again = await world.apply(SHOP);
    assert.ok(again.every(({ action }) => action === 'unchanged'));
    assert.equal(world.resources.revision.value, revision);
    const wider = grantYaml('reads', { postgres: 'select: [public.orders, public.items]' });
    const [change] = await world.apply(wider);
    assert.deepEqual(change?.differences, [
      'postgres.select: ["public.orders"] -> ["public.orders","public.items"]',
    ]);
    assert.equal((await findResource(world.store, 'Grant', 'reads'))?.generation, 2n);
    assert.ok(world.resources.revision.value > revision);
  });

  it('changes nothing if one document of many is wrong', async () => {
    const wrong = grantYaml('reads', { expires: '2020-01-01T00:00:00Z' });
    await refusal(world.apply(documents(BACKEND, CLASSES, wrong)));
    assert.deepEqual(await listResources(world.store), []);
    assert.deepEqual(await world.events(), []);
  });

  it('changes nothing if an event cannot be written', async () => {
    await world.run('drop table audit_events');
    await assert.rejects(world.apply(SHOP));
    assert.deepEqual(await listResources(world.store), []);
  });

  it('tells of a dry run what would change, and changes nothing', async () => {
    const changes = await world.apply(SHOP, { dryRun: true });
    assert.equal(changes.length, 4);
    assert.deepEqual(await listResources(world.store), []);
    assert.deepEqual(await world.events(), []);
    await refusal(world.apply(grantYaml('reads', {}), { dryRun: true }));
  });

  it('deletes what the files no longer name if told to', async () => {
    await world.apply(SHOP);
    const kept = await world.apply(documents(BACKEND, CLASSES));
    assert.ok(!actions(kept).includes('reads deleted'));
    const pruned = await world.apply(documents(BACKEND, CLASSES), { prune: true });
    assert.ok(actions(pruned).includes('reads deleted'));
    assert.deepEqual(await revoked(), [['grant.delete', 'reads']]);
    const lines = await refusal(world.apply(CLASSES, { prune: true }));
    assert.deepEqual(lines, ['shop.yaml:8: backend: no backend shop is declared']);
  });

  describe('sessions of a grant that changes', () => {
    const narrower: readonly [string, string][] = [
      ['a right', grantYaml('reads', { postgres: 'select: [public.items]' })],
      ['its identity', grantYaml('reads', { identity: 'other' })],
      ['time', grantYaml('reads', { expires: '2098-01-01T00:00:00Z' })],
      ['session time', grantYaml('reads', {}).replace('maximum: 1h', 'maximum: 30m')],
      ['rows', grantYaml('reads', {}).replace('maximum: 1h', 'maximum: 1h, rows: 10')],
    ];
    for (const [what, changed] of narrower) {
      it(`ends them if it loses ${what}`, async () => {
        await world.apply(SHOP);
        await world.apply(changed);
        assert.deepEqual(await revoked(), [['grant.update', 'reads']]);
      });
    }

    it('leaves them alone if it only lasts longer, or its words change', async () => {
      await world.apply(SHOP);
      const longer = grantYaml('reads', { expires: '2099-06-01T00:00:00Z' });
      await world.apply(longer);
      await world.apply(longer.replace('nightly', 'weekly'));
      assert.deepEqual(await revoked(), []);
    });
  });

  describe('delete', () => {
    it('ends the sessions of a grant and of a backend, once nothing points at it', async () => {
      await world.apply(documents(BACKEND, grantYaml('reads', {})));
      const early = world.applier.delete('Backend', 'shop', OPERATOR);
      await assert.rejects(early, {
        code: 'FAILED_PRECONDITION',
        message: 'stored Grant reads: backend: no backend shop is declared',
      });
      await world.applier.delete('Grant', 'reads', OPERATOR);
      await world.applier.delete('Backend', 'shop', OPERATOR);
      assert.deepEqual(await revoked(), [
        ['grant.delete', 'reads'],
        ['backend.delete', 'shop'],
      ]);
      assert.equal((await world.events('resource.deleted')).length, 2);
    });

    it('refuses a class that columns belong to, and what is not there', async () => {
      await world.apply(SHOP);
      const used = world.applier.delete('ColumnClass', 'national-id', OPERATOR);
      await assert.rejects(used, { code: 'FAILED_PRECONDITION' });
      const none = world.applier.delete('Grant', 'nothing', OPERATOR);
      await assert.rejects(none, { code: 'NOT_FOUND' });
    });
  });

  it('says how many problems there are beyond those that fit into a message', async () => {
    const grants = Array.from({ length: 200 }, (_, n) => grantYaml(`grant-${n}`, {}));
    const lines = await refusal(world.apply(documents(...grants)));
    assert.ok(Buffer.byteLength(lines.join('\n')) < 2048);
    assert.match(lines.at(-1) ?? '', /^and 1\d\d more problems$/);
  });
});
