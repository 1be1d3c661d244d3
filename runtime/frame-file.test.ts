import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FrameEnd, FrameWriter, readFrames } from './frame-file.ts';

describe('FrameWriter', () => {
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'writ-frames-'));
    path = join(directory, 'f');
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const write = (...payloads: string[]) => {
    const writer = FrameWriter.open(path);
    for (const payload of payloads) writer.append(Buffer.from(payload));
    writer.sync();
    writer.close();
    return writer;
  };
  const read = (source: string | Uint8Array = path): { texts: string[]; end: FrameEnd } => {
    const frames = readFrames(source);
    const texts: string[] = [];
    for (let next = frames.next(); ; next = frames.next()) {
      if (next.done === true) return { texts, end: next.value };
      texts.push(Buffer.from(next.value).toString());
    }
  };

  it('writes frames that are read back, from the file and from its bytes', () => {
    const { bytesWritten } = write('one', 'two', 'x'.repeat(100_000));
    const { texts, end } = read();
    assert.deepEqual(texts, ['one', 'two', 'x'.repeat(100_000)]);
    assert.deepEqual(end, { wholeBytes: bytesWritten, tornBytes: 0 });
    assert.deepEqual(read(readFileSync(path)).texts, texts);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(path).size, bytesWritten);
  });

  it('lays a frame out as length, CRC-32 (IEEE) and payload', () => {
    write('123456789');
    assert.equal(readFileSync(path).toString('hex'), `00000009cbf43926${'313233343536373839'}`);
  });

  it('goes on where the file ended', () => {
    write('one');
    write('two');
    assert.deepEqual(read().texts, ['one', 'two']);
  });

  it('drops a torn tail of every length, and tells of it', () => {
    write('one', 'two');
    const whole = readFileSync(path);
    for (let size = 12; size < whole.length; size++) {
      writeFileSync(path, whole);
      truncateSync(path, size);
      assert.deepEqual(read(), {
        texts: ['one'],
        end: { wholeBytes: 11, tornBytes: size - 11 },
      });
      assert.equal(write('three').tornBytes, size - 11);
      assert.deepEqual(read().texts, ['one', 'three']);
    }
  });

  it('drops a last frame whose bytes did not reach the disk', () => {
    write('one', 'two');
    const bytes = readFileSync(path);
    bytes.fill(0, 19);
    writeFileSync(path, bytes);
    assert.deepEqual(read().texts, ['one']);
    writeFileSync(path, Buffer.concat([bytes.subarray(0, 11), Buffer.alloc(100_000)]));
    assert.deepEqual(read(), { texts: ['one'], end: { wholeBytes: 11, tornBytes: 100_000 } });
  });

  it('drops nothing, and throws, when the damage is not at the end', () => {
    write('one', 'two');
    const bytes = readFileSync(path);
    for (const at of [0, 4, 8, 10]) {
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 0xff, at);
      writeFileSync(path, damaged);
      assert.throws(() => read(), { code: 'STATE_UNUSABLE' }, `byte ${at}`);
      assert.throws(() => FrameWriter.open(path), { code: 'STATE_UNUSABLE' });
      assert.deepEqual(readFileSync(path), damaged);
    }
    writeFileSync(path, bytes);
    appendFileSync(path, Buffer.from('0000000000000001', 'hex'));
    assert.throws(() => read(), { code: 'STATE_UNUSABLE' }, 'an empty frame');
  });

  it('refuses an empty frame and one above the maximum', () => {
    const writer = FrameWriter.open(path, { maximumFrameBytes: 10 });
    assert.throws(() => writer.append(Buffer.alloc(0)), RangeError);
    assert.throws(() => writer.append(Buffer.alloc(11)), RangeError);
    writer.append(Buffer.alloc(10));
    writer.close();
    assert.equal(writer.bytesWritten, 18);
    assert.throws(() => [...readFrames(path, { maximumFrameBytes: 9 })], {
      code: 'STATE_UNUSABLE',
    });
  });

  it('writes nothing more once a write has failed', () => {
    const script = `
      import { FrameWriter } from ${JSON.stringify(join(import.meta.dirname, 'frame-file.ts'))};
      const writer = FrameWriter.open(${JSON.stringify(path)});
      const said = [];
      writer.append(Buffer.from('one'));
      for (const size of [4e6, 1]) {
        try { writer.append(Buffer.alloc(size, 1)); } catch (error) { said.push(error.message); }
      }
      try { writer.sync(); } catch (error) { said.push(error.message); }
      console.log(JSON.stringify({ said, bytesWritten: writer.bytesWritten }));`;
    // A limit on the file's size stands for a full disk; without the trap its signal kills.
    const limited =
      'trap "" XFSZ; ulimit -f 4096; exec "$0" --import tsx --input-type=module -e "$1"';
    const out = execFileSync('sh', ['-c', limited, process.execPath, script], { encoding: 'utf8' });
    const { said, bytesWritten } = JSON.parse(out) as { said: string[]; bytesWritten: number };
    assert.match(String(said[0]), /EFBIG/);
    assert.deepEqual(said.slice(1), ['an earlier write has failed', 'an earlier write has failed']);
    assert.equal(bytesWritten, 11);
    assert.deepEqual(read().texts, ['one']);
    assert.ok(write('two').tornBytes > 0);
    assert.deepEqual(read().texts, ['one', 'two']);
  });

  it('is closed once, however often it is told', () => {
    const writer = write('one');
    writer.close();
    assert.throws(() => writer.append(Buffer.from('x')));
  });
});
