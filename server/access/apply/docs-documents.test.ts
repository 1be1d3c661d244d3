import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AccessWorld } from '../../../test/fixtures/access-world.ts';
import { ROOT } from '../../../test/fixtures/programs.ts';

describe('documents in docs/postgres.md', () => {
  it('are what apply takes, each by itself', async () => {
    const text = await readFile(join(ROOT, 'docs/postgres.md'), 'utf8');
    const blocks = [...text.matchAll(/^```yaml\n(kind: [\s\S]*?)^```$/gm)].map(([, body]) => body);
    assert.ok(blocks.length >= 4);
    for (const block of blocks) {
      const world = await AccessWorld.create();
      await world.apply(block ?? '', { dryRun: true });
    }
  });
});
