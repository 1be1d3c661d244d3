import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { runProgram, startUp } from '../fixtures/writ-up.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');

describe('docs/postgres.md', () => {
  it('works as it is written, command by command', async function () {
    if (!hasProgram('psql')) skipWithout(this, 'psql');
    await using up = await startUp();
    const folder = await mkdtemp(join(tmpdir(), 'writ-docs-'));
    const page = await readFile(join(ROOT, 'docs/postgres.md'), 'utf8');
    const blocks = [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? '');
    assert.ok(blocks.length >= 5);
    const port = up.json.gateway.postgres.split(':')[1] ?? '';
    const script = blocks.join('\n').replaceAll('port=6432', `port=${port}`);
    await mkdir(join(folder, 'bin'));
    const shim = join(folder, 'bin/writ');
    await writeFile(shim, `#!/bin/sh\nexec node ${join(ROOT, 'dist/cli/main.js')} "$@"\n`);
    await chmod(shim, 0o755);
    const env = {
      ...process.env,
      PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
      WRIT_ADMIN_SOCKET: up.json.server.admin_socket,
      SPIFFE_ENDPOINT_SOCKET: up.json.agent.workload_api,
    };
    const outcome = await runProgram('bash', ['-euo', 'pipefail', '-c', script], {
      cwd: folder,
      env,
    });
    await rm(folder, { recursive: true, force: true });
    const all = outcome.stdout + outcome.stderr;
    assert.equal(outcome.status, 0, all);
    for (const piece of [
      'ana@example.org',
      'refused by the gateway',
      'record verified',
      'unbroken',
    ]) {
      assert.ok(all.includes(piece), `${piece} in\n${all}`);
    }
    assert.doesNotMatch(all, /\b9\d\d-\d\d-\d{4}\b/);
  }).timeout(120_000);
});
