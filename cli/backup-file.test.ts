import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkPassphrase, readBackupFile, writeBackupFile } from './backup-file.ts';

const PASSPHRASE = 'correct horse battery staple';

describe('backup file', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'writ-backup-file-'));
    file = join(folder, 'backup');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const content = [randomBytes(100_000), Buffer.from('secret key '.repeat(1000))];
  async function* chunks() {
    yield* content;
  }
  const readAll = async (passphrase?: string) => {
    const parts: Uint8Array[] = [];
    for await (const part of readBackupFile(file, passphrase)) parts.push(part);
    return Buffer.concat(parts);
  };

  for (const passphrase of [undefined, PASSPHRASE]) {
    const way = passphrase === undefined ? 'plain' : 'encrypted';

    it(`gives back what was written, in a file for its owner alone (${way})`, async () => {
      await writeBackupFile(file, chunks(), passphrase);
      assert.deepEqual(await readAll(passphrase), Buffer.concat(content));
      assert.equal(statSync(file).mode & 0o777, 0o600);
    });

    it(`refuses a file that was cut short or changed (${way})`, async () => {
      await writeBackupFile(file, chunks(), passphrase);
      const whole = readFileSync(file);
      for (const damaged of [
        whole.subarray(0, -1),
        whole.subarray(0, whole.length / 2),
        Buffer.concat([whole.subarray(0, 60_000), Buffer.of(1, 2, 3, 4), whole.subarray(60_004)]),
      ]) {
        writeFileSync(file, damaged);
        await assert.rejects(readAll(passphrase), { code: 'STATE_UNUSABLE' });
      }
    });

    it(`leaves nothing of a backup that breaks off, and no file is overwritten (${way})`, async () => {
      const broken = async function* () {
        yield Buffer.alloc(1000);
        throw new Error('the server went away');
      };
      await assert.rejects(writeBackupFile(file, broken(), passphrase), /went away/);
      await assert.rejects(readAll(passphrase), { code: 'STATE_UNUSABLE', message: /ENOENT/ });
      writeFileSync(file, 'precious');
      await assert.rejects(writeBackupFile(file, chunks(), passphrase), {
        code: 'FAILED_PRECONDITION',
      });
      assert.equal(readFileSync(file, 'utf8'), 'precious');
    });
  }

  it('shows nothing of an encrypted backup without its passphrase', async () => {
    await writeBackupFile(file, chunks(), PASSPHRASE);
    assert.ok(!readFileSync(file).includes('secret key'));
    await assert.rejects(readAll(), { message: /--passphrase-file/ });
    await assert.rejects(readAll('another passphrase'), { code: 'STATE_UNUSABLE' });
  });

  it('refuses a file that is no backup', async () => {
    writeFileSync(file, 'SQLite format 3\0');
    await assert.rejects(readAll(), { message: /is no backup/ });
  });

  it('takes a passphrase without its line end, and none that is short', () => {
    assert.equal(checkPassphrase(`${PASSPHRASE}\n`), PASSPHRASE);
    assert.throws(() => checkPassphrase('secret\n'), { code: 'CONFIG_INVALID' });
  });
});
