import assert from 'node:assert/strict';
import { AgentFrames, MAXIMUM_AGENT_MESSAGE_BYTES } from './agent-frames.ts';
import { SshWriter } from './wire.ts';

const frame = (message: Uint8Array) => new SshWriter().string(message).finish();

/** All that these bytes complete. */
function push(frames: AgentFrames, bytes: Uint8Array): Buffer[] {
  frames.add(bytes);
  const taken: Buffer[] = [];
  for (let one = frames.take(); one !== undefined; one = frames.take()) taken.push(one);
  return taken;
}

describe('AgentFrames', () => {
  const messages = [
    Buffer.of(11),
    Buffer.alloc(5000, 1),
    Buffer.alloc(MAXIMUM_AGENT_MESSAGE_BYTES, 2),
  ];
  const stream = Buffer.concat(messages.map(frame));

  for (const size of [1, 3, 4096, 65_536, stream.length]) {
    it(`takes messages out of pieces of ${size} bytes`, () => {
      const frames = new AgentFrames();
      const taken: Buffer[] = [];
      for (let at = 0; at < stream.length; at += size) {
        taken.push(...push(frames, stream.subarray(at, at + size)));
      }
      assert.equal(taken.length, 3);
      for (const [index, one] of taken.entries()) assert.ok(messages[index]?.equals(one));
    });
  }

  it('keeps nothing of the memory it was given', () => {
    const frames = new AgentFrames();
    const given = frame(Buffer.of(1, 2, 3));
    const [first] = push(frames, given);
    given.fill(0);
    push(frames, Buffer.alloc(3, 9));
    assert.deepEqual(first, Buffer.of(1, 2, 3));
  });

  it('waits for what a length promises', () => {
    const frames = new AgentFrames();
    assert.deepEqual(push(frames, Buffer.from('0000000201', 'hex')), []);
    assert.deepEqual(push(frames, Buffer.alloc(0)), []);
    assert.equal(frames.held, 5);
    assert.deepEqual(push(frames, Buffer.of(2)), [Buffer.of(1, 2)]);
    assert.equal(frames.held, 0);
  });

  it('makes a message of its bytes when it is taken, not before', () => {
    const frames = new AgentFrames();
    frames.add(Buffer.concat([frame(Buffer.of(1)), frame(Buffer.of(2)), Buffer.of(0)]));
    assert.equal(frames.held, 11);
    assert.deepEqual(frames.take(), Buffer.of(1));
    assert.equal(frames.held, 6);
    frames.add(Buffer.of(0));
    assert.deepEqual(frames.take(), Buffer.of(2));
    assert.deepEqual([frames.take(), frames.held], [undefined, 2]);
  });

  const refused = { 'an empty message': '00000000', 'a message of 4 GiB': 'ffffffff' };
  for (const [what, hex] of Object.entries(refused)) {
    it(`refuses ${what}, and whatever follows`, () => {
      const frames = new AgentFrames();
      const refuses = (bytes: Buffer) =>
        assert.throws(() => push(frames, bytes), { code: 'SSH_INVALID' });
      refuses(Buffer.from(hex, 'hex'));
      refuses(frame(Buffer.of(11)));
    });
  }

  it('refuses one byte over 256 KiB by its length alone', () => {
    const length = new SshWriter().u32(MAXIMUM_AGENT_MESSAGE_BYTES + 1).finish();
    assert.throws(() => push(new AgentFrames(), length), {
      code: 'SSH_INVALID',
      message: /262144/,
    });
  });
});
