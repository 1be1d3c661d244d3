import assert from 'node:assert/strict';
import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { RecordedFrameSchema } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { encodeEvent, type IndexedEvent } from './encode-event.ts';
import type { RecordedEventInit } from './recorder.ts';

const events: Readonly<Record<string, RecordedEventInit>> = {
  'an empty statement': { case: 'statement', value: {} },
  'a full statement': {
    case: 'statement',
    value: {
      number: 2n ** 63n,
      fingerprint: 'a1',
      text: `select $1 ${'é'.repeat(200)}`,
      class: 'read',
      parameters: [
        { position: 1, target: 'public.t.c', content: { case: 'value', value: '7' } },
        { position: 300, content: { case: 'hmac', value: Buffer.alloc(32, 9) } },
        { position: 3, content: { case: 'value', value: '' } },
        {},
      ],
      tables: ['public.t', ''],
      deniedBy: 'ddl',
      textHmac: Buffer.alloc(32, 1),
    },
  },
  'an empty result': { case: 'result', value: {} },
  'a full result': {
    case: 'result',
    value: {
      number: 300n,
      commandTag: 'SELECT 3',
      rows: 3n,
      durationMicroseconds: 70_000n,
      sqlstate: '42501',
      maskedColumns: ['ssn', ''],
    },
  },
  'an empty output': { case: 'channelOutput', value: {} },
  'a full output': {
    case: 'channelOutput',
    value: { channel: 300, isStderr: true, data: Buffer.alloc(40_000, 27) },
  },
  'an output without data': { case: 'channelOutput', value: { channel: 1, data: Buffer.alloc(0) } },
  'a channel that opens': {
    case: 'channelOpened',
    value: {
      channel: 1,
      kind: 'shell',
      terminal: { term: 'xterm', columns: 80, rows: 24 },
      deniedBy: 'shell',
    },
  },
  'a window that changes': { case: 'channelResized', value: { channel: 1, columns: 9, rows: 3 } },
  'a channel that closes': {
    case: 'channelClosed',
    value: {
      channel: 1,
      exitStatus: 0,
      bytesUp: 1n,
      bytesDown: 2n,
      omittedSha256: Buffer.alloc(32),
    },
  },
  'another event': { case: 'closed', value: { reason: 'done', rows: 1n } },
};

describe('encodeEvent', () => {
  const oracle = ({ index, at, event }: IndexedEvent) => {
    const value = { index, at: timestampFromDate(at), event };
    const frame = { case: 'event', value } as const;
    return Buffer.from(toBinary(RecordedFrameSchema, create(RecordedFrameSchema, { frame })));
  };
  const places = [
    [0n, '1970-01-01T00:00:00.000Z'],
    [1n, '2026-01-02T03:04:05.678Z'],
    [2n ** 40n, '2026-01-02T03:04:05.000Z'],
  ] as const;
  for (const [name, event] of Object.entries(events)) {
    it(`writes ${name} as protobuf-es does`, () => {
      for (const [index, time] of places) {
        const indexed = { index, at: new Date(time), event };
        assert.deepEqual(Buffer.from(encodeEvent(indexed)), oracle(indexed));
      }
    });
  }
});
