import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import {
  absolutePath,
  durationSeconds,
  formatHostPort,
  hostPort,
  loadConfig,
  parseYamlDocuments,
} from './config.ts';
import type { Fault } from './fault.ts';

const schema = v.strictObject({
  listen: v.strictObject({ postgres: hostPort }),
  ttl: v.optional(durationSeconds(3600), '1h'),
  names: v.optional(v.array(v.string()), []),
  state_dir: absolutePath,
});

const failure = async (run: () => unknown): Promise<string[]> => {
  try {
    await run();
  } catch (error) {
    assert.equal((error as Fault).code, 'CONFIG_INVALID');
    return (error as Fault).message.split('\n');
  }
  return assert.fail('nothing was thrown');
};

describe('loadConfig', () => {
  let directory: string;
  let file: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-config-'));
    file = join(directory, 'c.yaml');
  });

  after(async () => rm(directory, { recursive: true }));

  const load = async (text: string) => {
    await writeFile(file, text);
    return loadConfig(file, schema);
  };

  it('gives the checked values, with their defaults', async () => {
    const config = await load('listen: { postgres: "[::1]:6432" }\nstate_dir: /var/lib/writ\n');
    assert.deepEqual(config, {
      listen: { postgres: { host: '::1', port: 6432 } },
      ttl: 3600,
      names: [],
      state_dir: '/var/lib/writ',
    });
  });

  it('names file, line, dot path and what was expected, for every problem', async () => {
    const problems = await failure(() =>
      load('listen:\n  postgres: 6432\n  mysql: x\nttl: 2h\n\nnames: [a, 7]\nstate_dir: here\n'),
    );
    assert.deepEqual(problems, [
      `${file}:2: listen.postgres: expected a text, got 6432`,
      `${file}:3: listen.mysql: expected no such key, got one that is unknown here`,
      `${file}:4: ttl: expected a duration up to 1h, such as 90s, 10m or 2h, got "2h"`,
      `${file}:6: names.1: expected a text, got 7`,
      `${file}:7: state_dir: expected an absolute path, got "here"`,
    ]);
  });

  it('names the missing keys of an empty file', async () => {
    assert.deepEqual(await failure(() => load('# nothing\n')), [
      `${file}:1: listen: expected this key, got nothing`,
      `${file}:1: state_dir: expected this key, got nothing`,
    ]);
  });

  it('refuses a list, a second document and a file that is not there', async () => {
    assert.deepEqual(await failure(() => load('- 1\n')), [`${file}:1: expected a map, got a list`]);
    assert.deepEqual(await failure(() => load('word\n')), [
      `${file}:1: expected a map, got "word"`,
    ]);
    assert.deepEqual(await failure(() => load('a: 1\n---\nb: 2\n')), [
      `${file}:3: expected one document, got another`,
    ]);
    assert.deepEqual(await failure(() => loadConfig(`${file}.no`, schema)), [
      `${file}.no:1: expected a file that can be read, got ENOENT`,
    ]);
  });

  it('shows no more than a little of a long value', async () => {
    const text = `listen: { postgres: ${'x'.repeat(10_000)} }\nstate_dir: /\n`;
    const [problem] = await failure(() => load(text));
    assert.ok((problem?.length ?? 999) < 300);
  });
});

describe('parseYamlDocuments', () => {
  it('gives each document with its own places, and leaves out empty ones', () => {
    const documents = parseYamlDocuments('f', '# hello\n---\na: 1\n---\nb:\n  - c: 2\n---\n');
    assert.deepEqual(
      documents.map(({ value }) => value),
      [{ a: 1 }, { b: [{ c: 2 }] }],
    );
    assert.deepEqual(documents[1]?.locate(['b', 0, 'c']), { line: 6, column: 5 });
    assert.deepEqual(documents[1]?.locate(['b', 0, 'none']), { line: 6, column: 5 });
    assert.deepEqual(documents[0]?.locate([]), { line: 3, column: 1 });
  });

  it('leaves dates and times as the texts they are', () => {
    const [document] = parseYamlDocuments('f', 'at: 2027-03-31T00:00:00Z\nfor: 8h\n');
    assert.deepEqual(document?.value, { at: '2027-03-31T00:00:00Z', for: '8h' });
  });

  const refused = {
    'a duplicate key': ['a: 1\na: 2\n', 2],
    'a duplicate key deep down': ['a:\n  - b: 1\n    c: 2\n    b: 3\n', 4],
    'broken syntax': ['a: 1\nb: [1, 2\n', 3],
    'an unknown tag': ['a: 1\nb: !!js/function x\n', 2],
    'an unknown alias': ['a: *none\n', 1],
    'a key that is no text': ['? [1, 2]\n: x\n', 1],
    'aliases that multiply': [
      `${Array.from({ length: 9 }, (_, n) => `k${n}: &a${n} [${Array(9).fill(n === 0 ? 'x' : `*a${n - 1}`)}]`).join('\n')}\n`,
      1,
    ],
    'brackets without end': ['['.repeat(200_000), 1],
    'a list in a list without end': ['- '.repeat(200_000), 1],
    'a key in a key without end': ['? '.repeat(200_000), 1],
    'a text above 1 MiB': [`a: ${'x'.repeat(1024 * 1024)}\n`, 1],
  } as const;
  for (const [name, [text, line]] of Object.entries(refused)) {
    it(`refuses ${name}`, async () => {
      const [problem] = await failure(() => parseYamlDocuments('f.yaml', text));
      assert.ok(problem?.startsWith(`f.yaml:${line}: `), problem);
    });
  }

  it('bounds its time and its words for hostile texts', async function () {
    this.timeout(10_000);
    const many = Array.from({ length: 50_000 }, (_, n) => `k${n}: 1`).join('\n');
    assert.equal(parseYamlDocuments('f', many).length, 1);
    const problems = await failure(() => parseYamlDocuments('f', `[${','.repeat(5000)}`));
    assert.equal(problems.length, 20);
  });

  it('keeps a key named __proto__ from becoming a prototype', () => {
    const [document] = parseYamlDocuments('f', '__proto__: { admin: true }\n');
    assert.deepEqual(Object.keys(document?.value ?? {}), ['__proto__']);
    assert.equal(Object.getPrototypeOf(document?.value), Object.prototype);
    assert.equal(v.safeParse(v.strictObject({}), document?.value).success, false);
  });
});

describe('hostPort', () => {
  for (const text of ['127.0.0.1:8081', 'db.internal:5432', '[::1]:0']) {
    it(`reads ${text}, and formatHostPort writes it`, () => {
      assert.equal(formatHostPort(v.parse(hostPort, text)), text);
    });
  }

  for (const text of ['8081', 'localhost', ':1', '::1:80', 'a:70000', 'a b:1', 'a:1 ', 'a:-1']) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.equal(v.safeParse(hostPort, text).success, false);
    });
  }
});
