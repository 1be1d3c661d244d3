import assert from 'node:assert/strict';
import { chmodSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { openStateDir } from '../../cli/up/state-dir.ts';
import { MIGRATIONS } from '../../server/plugins/datastore/migrations.ts';
import { openSqlite } from '../../server/plugins/datastore/sqlite.ts';
import { temporaryDir } from '../fixtures/running-server.ts';
import { startUp } from '../fixtures/writ-up.ts';

describe('writ up on the state of an older writ', () => {
  it('M1: upgrades its store after a backup beside the state, in one line', async () => {
    using folder = temporaryDir();
    chmodSync(folder.path, 0o755);
    const path = join(folder.path, 'state');
    {
      await using state = await openStateDir(path);
      await using store = await openSqlite(state.in('server', 'server.db'), MIGRATIONS.slice(0, 2));
      const domain = `insert into meta (key, value) values ('trust_domain', 'example.org')`;
      await store.transaction((tx) => tx.run(domain));
    }
    await using up = await startUp({ state: path });
    const backups = readdirSync(path).filter((name) => name.endsWith('.backup'));
    assert.equal(backups.length, 1);
    const [backup = ''] = backups;
    assert.equal(statSync(join(path, backup)).mode & 0o777, 0o600);
    const told = up.output().split('\n');
    assert.equal(told.filter((line) => line.includes(join(path, backup))).length, 1, up.output());
    assert.match(
      (await up.writ('audit', 'tail', '--last', '10000')).stdout,
      / server\.upgraded ok /,
    );
  }).timeout(120_000);
});
