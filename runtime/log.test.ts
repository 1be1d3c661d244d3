import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fault } from './fault.ts';
import { createLogger, logDestination } from './log.ts';

describe('createLogger', () => {
  const logged = (write: (log: ReturnType<typeof createLogger>) => void, level = 'info') => {
    const lines: string[] = [];
    write(createLogger({ process: 'agent', level }, { write: (line) => lines.push(line) }));
    return lines;
  };

  it('writes one JSON line an event, with process, pid, time and level by name', () => {
    const lines = logged((log) => log.warn({ entry_id: 'e_1' }, 'An entry\nwas made'));
    assert.equal(lines.length, 1);
    assert.match(String(lines[0]), /^[^\n]*\n$/);
    const { time, ...rest } = JSON.parse(String(lines[0])) as Record<string, unknown>;
    assert.deepEqual(rest, {
      level: 'warn',
      process: 'agent',
      pid: process.pid,
      entry_id: 'e_1',
      msg: 'An entry\nwas made',
    });
    assert.ok(Math.abs(Date.parse(String(time)) - Date.now()) < 5000);
  });

  it('writes nothing below its level', () => {
    assert.deepEqual(
      logged((log) => log.info('x'), 'warn'),
      [],
    );
  });

  it('redacts secrets by the name of their field, at the top and one level down', () => {
    const text = logged((log) => {
      log.info({ token: 'S3CRET', request: { password: 'S3CRET', user: 'ana' } }, 'x');
      log.child({ join_string: 'S3CRET' }).info({ sql: 'S3CRET', parameters: ['S3CRET'] }, 'x');
      log.info({ evidence: { a: 'S3CRET' }, private_key: 'S3CRET', key: 'S3CRET' }, 'x');
    }).join('');
    assert.doesNotMatch(text, /S3CRET/);
    assert.match(text, /"user":"ana"/);
  });

  it('tells an error with its code and causes, and none of its other properties', () => {
    const driver = Object.assign(new Error('duplicate key', { cause: 'the wire' }), {
      code: '23505',
      detail: 'Key (card)=(4111) already exists',
    });
    const fault = new Fault('STORE_UNAVAILABLE', 'cannot write', {
      cause: driver,
      details: Buffer.from('details'),
    });
    const [line] = logged((log) => log.error({ err: fault }, 'x'));
    assert.doesNotMatch(String(line), /4111|details/);
    const { err } = JSON.parse(String(line)) as {
      err: Record<string, unknown> & { cause: Record<string, unknown> };
    };
    assert.deepEqual(
      [err.name, err.code, err.message],
      ['Fault', 'STORE_UNAVAILABLE', 'cannot write'],
    );
    assert.deepEqual([err.cause.code, err.cause.cause], ['23505', 'the wire']);
    assert.match(String(err.stack), /log\.test\.ts/);
  });

  it('stops in a circle of causes', () => {
    const error = new Error('round');
    error.cause = error;
    const [line] = logged((log) => log.error({ err: error }, 'x'));
    assert.ok(String(line).length < 20_000);
  });
});

describe('logDestination', () => {
  it('costs lines and no more where the disk is full', () => {
    const fd = openSync('/dev/full', 'w');
    const log = createLogger({ process: 'agent', level: 'info' }, logDestination(fd));
    assert.doesNotThrow(() => log.info('lost'));
    closeSync(fd);
    assert.doesNotThrow(() => log.info('lost'));
  });

  it('loses lines while a pipe is full, and goes on once it is read', () => {
    const folder = mkdtempSync(join(tmpdir(), 'writ-log-'));
    const pipe = join(folder, 'pipe');
    spawnSync('mkfifo', [pipe]);
    const fd = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
    const log = createLogger({ process: 'agent', level: 'info' }, logDestination(fd));
    for (let count = 0; count < 10; count += 1) log.info({ reason: 'x'.repeat(8000) }, 'many');
    readSync(fd, Buffer.alloc(1024 * 1024));
    log.info('back');
    const buffer = Buffer.alloc(64 * 1024);
    const lines = buffer.toString('utf8', 0, readSync(fd, buffer)).trim().split('\n');
    const last = JSON.parse(lines.at(-1) ?? '') as { readonly msg: string };
    assert.equal(last.msg, 'back');
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });
});
