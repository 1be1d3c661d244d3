import assert from 'node:assert/strict';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { TypeSchema } from '@bufbuild/protobuf/wkt';
import { encodeInTurns } from './encode-in-turns.ts';

type Init = MessageInitShape<typeof TypeSchema>;

describe('encodeInTurns', () => {
  const listOf = (count: number) => ({
    name: 'long',
    fields: Array.from({ length: count }, (_, n) => ({ name: `f${n}`, number: n + 1 })),
  });
  let calls: number;
  const encode = (message: object) => {
    calls += 1;
    const init = message as Init;
    return Buffer.from(toBinary(TypeSchema, create(TypeSchema, init)));
  };
  beforeEach(() => {
    calls = 0;
  });

  for (const count of [0, 1, 500, 501, 1700]) {
    it(`gives what one encoding would give, with ${count} items`, async () => {
      const whole = create(TypeSchema, listOf(count));
      for (const message of [listOf(count), whole]) {
        const bytes = await encodeInTurns(message, encode);
        assert.deepEqual(fromBinary(TypeSchema, bytes), whole);
      }
    });
  }

  it('lets others have a turn between pieces of a long list', async () => {
    let turns = 0;
    let isOver = false;
    const others = (async () => {
      while (!isOver) {
        await new Promise((resolve) => setImmediate(resolve));
        turns += 1;
      }
    })();
    await encodeInTurns(listOf(2000), encode);
    isOver = true;
    await others;
    assert.ok(calls >= 4 && turns >= 4, `${calls} pieces, ${turns} turns`);
  });
});
