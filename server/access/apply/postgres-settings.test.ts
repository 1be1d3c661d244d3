import assert from 'node:assert/strict';
import { Fault } from '../../../runtime/fault.ts';
import { AccessWorld, BACKEND, documents, grantYaml } from '../../../test/fixtures/access-world.ts';
import { listResources } from '../resources.ts';

const backend = (lines: string) => `${BACKEND.trimEnd()}\n${lines}`;

describe('settings of a PostgreSQL backend, by what apply says', () => {
  let world: AccessWorld;
  before(async () => {
    world = await AccessWorld.create();
  });

  const dryRun = (...parts: string[]) =>
    world.apply(documents(...parts), { dryRun: true }).then(
      () => undefined,
      (error: unknown) => Fault.from(error).message,
    );

  const refused: readonly [what: string, settings: string, expected: RegExp][] = [
    ['a pinned one', 'settings_allowed: [app.a, client_encoding]', /settings_allowed.*not pinned/],
    ['the role', 'settings_allowed: [role]', /not pinned/],
    ["a superuser's", 'settings_allowed: [temp_file_limit]', /guards nothing, in lower case/],
    ["a superuser's", 'settings_allowed: [session_replication_role]', /guards nothing/],
    ['one that loads code', 'settings_allowed: [local_preload_libraries]', /guards nothing/],
    ["one of Writ's", 'settings_allowed: [writ.reason]', /guards nothing/],
    ['one in capitals', 'settings_allowed: [App.Locale]', /in lower case/],
    ['one twice', 'settings_allowed: [app.a, app.a]', /each setting once/],
    ['a ceiling for another setting', 'setting_ceilings: { search_path: 1s }', /one of /],
    ['a time that is none', 'setting_ceilings: { statement_timeout: 30 m }', /a time such as 30s/],
    ['no limit at all', 'setting_ceilings: { statement_timeout: 0 }', /a time such as 30s/],
    ['too much memory', 'setting_ceilings: { work_mem: 9TB }', /an amount of memory/],
  ];
  for (const [what, settings, expected] of refused) {
    it(`P11 refuses ${what}: ${settings}`, async () => {
      const message = await dryRun(backend(`  ${settings}`));
      assert.match(message ?? 'accepted', expected);
      // File, line and field.
      assert.match(message ?? '', /^\S+:\d+: postgres\.setting/m);
    });
  }

  it('keeps names, and ceilings in the units of the server', async () => {
    const lines =
      'settings_allowed: [work_mem, app.locale]\n  setting_ceilings: { work_mem: 64MB, lock_timeout: 30s }';
    await world.apply(documents(backend(`  ${lines}`)));
    const [resource] = await listResources(world.store, 'Backend');
    assert.ok(resource?.body.case === 'backend' && resource.body.value.type.case === 'postgres');
    const { settingsAllowed, settingCeilings } = resource.body.value.type.value;
    assert.deepEqual(settingsAllowed, ['app.locale', 'work_mem']);
    assert.deepEqual(settingCeilings, { lock_timeout: 30_000n, work_mem: 65_536n });
  });

  it('P8 refuses to let sessions change what a grant sets for its row policies', async () => {
    const grant = grantYaml('g', { postgres: 'select: [public.orders], settings: { app.a: "7" }' });
    const message = await dryRun(backend('  settings_allowed: [app.a]'), grant);
    assert.match(
      message ?? 'accepted',
      /postgres\.settings\.app\.a: sessions may change app\.a by/,
    );
    assert.equal(await dryRun(backend('  settings_allowed: [app.b]'), grant), undefined);
  });
});
