import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AuditService, ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;
const GOOD = 'kind: ColumnClass\nname: fresh\nmask: last4\n';

describe('writ apply of a file with a good and a bad document', () => {
  let up: RunningUp;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
  });

  const wrong: readonly [string, string, readonly RegExp[]][] = [
    [
      'wrong values',
      `${GOOD}---\nkind: ColumnClass\nname: Bad Name\nmask: rot13\ncolour: blue\n`,
      [/:6: name: expected /, /:7: mask: expected /, /:8: colour: expected /],
    ],
    [
      'a reference to nothing',
      `${GOOD}---\nkind: Columns\nname: lost\nbackend: nowhere\ntables:\n  public.t:\n    a: absent\n`,
      [/:7: backend: /, /:10: tables\.public\.t\.a: /],
    ],
    ['an unknown kind', `${GOOD}---\nkind: Nonsense\nname: x\n`, [/:5: kind: expected /]],
    ['no YAML', `${GOOD}---\nkind: "ColumnClass\n`, [/:\d+: /]],
    ['the same name twice', `${GOOD}---\n${GOOD}`, [/:\d: /]],
  ];
  for (const [name, text, problems] of wrong) {
    it(`names file, line and path, and leaves everything as it was: ${name}`, async () => {
      const file = join(up.state, 'wrong.yaml');
      await writeFile(file, text);
      const was = await everything(up);
      const { status, stdout, stderr } = await up.writ('apply', '-f', file);
      assert.equal(status, 2, stderr);
      assert.equal(stdout, '');
      const lines = stderr.trim().split('\n');
      assert.equal(lines.length, problems.length, stderr);
      for (const [at, problem] of problems.entries()) {
        const line = lines[at] ?? '';
        assert.match(line, problem);
        assert.ok(line.replace(/^writ: /, '').startsWith(`${file}:`), line);
      }
      assert.deepEqual(await everything(up), was);
    });
  }

  it('changes nothing either where another file of the same command is wrong', async () => {
    const files = [join(up.state, 'good.yaml'), join(up.state, 'wrong.yaml')] as const;
    await writeFile(files[0], GOOD);
    await writeFile(files[1], 'kind: ColumnClass\nname: other\nmask: 7\n');
    const was = await everything(up);
    const { status, stderr } = await up.writ('apply', '-f', files[0], '-f', files[1]);
    assert.equal(status, 2, stderr);
    assert.ok(stderr.startsWith(`writ: ${files[1]}:3: mask: expected `), stderr);
    assert.deepEqual(await everything(up), was);
    const good = await up.writ('apply', '-f', files[0]);
    assert.equal(good.status, 0, good.stderr);
    assert.match(good.stdout, /^ColumnClass fresh created$/m);
  });
});

/** Every resource, and how many events tell of one. */
async function everything(up: RunningUp): Promise<unknown> {
  const kinds = ['Backend', 'ColumnClass', 'Columns', 'Grant'];
  const lists = kinds.map((kind) =>
    up.admin(ResourceService).listResources({ kind }, { signal: never }),
  );
  const resources = (await Promise.all(lists)).map((list) => list.resources);
  let events = 0;
  const tail = up.admin(AuditService).tailEvents({ last: 1000 }, { signal: never });
  for await (const { event } of tail) {
    if (event !== undefined && Buffer.from(event.body).includes('resource.')) events += 1;
  }
  return { resources, events };
}
