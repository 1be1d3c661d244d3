import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { runWrit } from '../fixtures/writ-up.ts';

type Process = 'server' | 'agent' | 'gateway';

const CONFIGS: Readonly<Record<Process, Record<string, unknown>>> = {
  server: {
    trust_domain: 'example.org',
    state_dir: '/nonexistent/state',
    listen: '127.0.0.1:0',
    health: '127.0.0.1:0',
    log: { level: 'warn' },
  },
  agent: {
    trust_domain: 'example.org',
    state_dir: '/nonexistent/state',
    server: '127.0.0.1:1',
    workload_api: '/nonexistent/agent.sock',
    health: '127.0.0.1:0',
    log: { level: 'warn' },
  },
  gateway: {
    trust_domain: 'example.org',
    name: 'gw-1',
    state_dir: '/nonexistent/state',
    server: '127.0.0.1:1',
    workload_api: '/nonexistent/agent.sock',
    listen: { postgres: '127.0.0.1:0' },
    health: '127.0.0.1:0',
    log: { level: 'warn' },
  },
};

interface Mistake {
  readonly name: string;
  /** Of the good text. */
  make(text: string): string;
  /** What stderr says behind `writ: FILE`. */
  readonly says: (text: string) => string;
}

/** The line of the first one that begins so. */
function lineOf(text: string, start: string): number {
  return text.split('\n').findIndex((line) => line.startsWith(start)) + 1;
}

const MISTAKES: readonly Mistake[] = [
  {
    name: 'an unknown key',
    make: (text) => text.replace('  level: warn', '  level: warn\n  colour: blue'),
    says: (text) => `:${lineOf(text, '  colour')}: log.colour: expected no such key, got one`,
  },
  {
    name: 'a value of the wrong type',
    make: (text) => text.replace(/^health: .*$/m, 'health: [1]'),
    says: (text) => `:${lineOf(text, 'health')}: health: expected a text, got a list`,
  },
  {
    name: 'a value that cannot be',
    make: (text) => text.replace('level: warn', 'level: loud'),
    says: (text) => `:${lineOf(text, '  level')}: log.level: expected `,
  },
  {
    name: 'a missing key',
    make: (text) => text.replace(/^state_dir: .*\n/m, ''),
    says: () => `:1: state_dir: expected this key, got nothing`,
  },
  {
    name: 'broken YAML',
    make: (text) => text.replace('level: warn', 'level: "warn'),
    says: () => ':',
  },
  {
    name: 'a key given twice',
    make: (text) => `${text}health: 127.0.0.1:0\n`,
    says: (text) => `:${text.trim().split('\n').length}: expected each key once, got "health"`,
  },
];

describe('writ server|agent|gateway run --config', () => {
  let folder: string;
  let count = 0;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'writ-config-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  async function runWith(name: Process, text: string, ...args: readonly string[]) {
    count += 1;
    const file = join(folder, `${count}.yaml`);
    await writeFile(file, text);
    const outcome = await runWrit([name, 'run', '--config', file, ...args]);
    return { file, ...outcome };
  }

  for (const name of ['server', 'agent', 'gateway'] as const) {
    const good = stringify(CONFIGS[name]);

    for (const { name: mistake, make, says } of MISTAKES) {
      it(`${name}: names file, line, path and what it expects for ${mistake}, and exits 2`, async () => {
        const text = make(good);
        assert.notEqual(text, good);
        const { file, status, stdout, stderr } = await runWith(name, text);
        assert.equal(status, 2, stderr);
        assert.equal(stdout, '');
        assert.ok(stderr.startsWith(`writ: ${file}${says(text)}`), stderr);
        assert.match(stderr, /^writ: \S+\.yaml:\d+: \S.*\n$/);
      });
    }

    it(`${name}: names every problem, one a line`, async () => {
      const text = `${good.replace(/^health: .*$/m, 'health: 7')}more: 1\n`;
      const { file, status, stderr } = await runWith(name, text, '--check-config');
      assert.equal(status, 2);
      const lines = stderr.trim().split('\n');
      assert.equal(lines.length, 2, stderr);
      for (const line of lines) assert.ok(line.replace(/^writ: /, '').startsWith(`${file}:`), line);
    });

    it(`${name}: prints the config with its defaults for --check-config, and exits 0`, async () => {
      const { status, stdout, stderr } = await runWith(name, good, '--check-config');
      assert.equal(status, 0, stderr);
      assert.equal(stderr, '');
      const printed = parse(stdout) as Record<string, unknown>;
      assert.equal(printed.state_dir, '/nonexistent/state');
      assert.deepEqual(printed.log, { level: 'warn' });
    });
  }
});
