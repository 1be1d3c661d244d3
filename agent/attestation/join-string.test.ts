import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readJoinString } from './join-string.ts';

const TOKEN = 'A'.repeat(43);
const PIN = '0a'.repeat(32);

describe('readJoinString', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-join-'));
  });
  after(() => rm(directory, { recursive: true }));

  const read = async (text: string) => {
    const file = join(directory, 'join');
    await writeFile(file, text);
    return await readJoinString(file);
  };

  it('takes token and pin apart', async () => {
    assert.deepEqual(await read(`writ1.${TOKEN}.${PIN}\n`), { token: TOKEN, pins: [PIN] });
    const next = PIN.replaceAll('a', 'b');
    const two = await read(`writ1.${TOKEN}.${PIN}.${next}`);
    assert.deepEqual(two, { token: TOKEN, pins: [PIN, next] });
  });

  for (const bad of [
    '',
    `${TOKEN}.${PIN}`,
    `writ2.${TOKEN}.${PIN}`,
    `writ1.${TOKEN}.${PIN.slice(2)}`,
    `writ1.${TOKEN}.${PIN.toUpperCase()}`,
    `writ1.${TOKEN} .${PIN}`,
    `writ1.${TOKEN}.${PIN}\nwrit1.${TOKEN}.${PIN}`,
    `${' '.repeat(1024)}writ1.${TOKEN}.${PIN}`,
  ]) {
    it(`refuses ${JSON.stringify(bad.slice(0, 30))} and does not repeat it`, async () => {
      await assert.rejects(read(bad), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'CONFIG_INVALID');
        assert.ok(!error.message.includes(TOKEN));
        return true;
      });
    });
  }

  it('names a file that is not there', async () => {
    await assert.rejects(
      readJoinString(join(directory, 'none')),
      /none: the join string cannot be read/,
    );
  });
});
