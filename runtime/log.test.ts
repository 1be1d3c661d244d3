import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
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
  it('costs lines and no more where the disk is full', async () => {
    const fd = openSync('/dev/full', 'w');
    const log = createLogger({ process: 'agent', level: 'info' }, logDestination(fd));
    const before = process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
    for (let count = 0; count < 50_000; count += 1) log.info({ reason: 'x'.repeat(200) }, 'lost');
    await new Promise((resolve) => setImmediate(resolve));
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    assert.ok(arrayBuffers + heapUsed - before < 16 * 1024 * 1024);
    closeSync(fd);
  });
});
