import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { RecordedEventSchema } from '../proto/gen/writ/gateway/v1/recording_pb.ts';
import { transcriptLines } from './transcript.ts';

const at = timestampFromDate(new Date('2026-01-02T03:04:05.678Z'));

describe('transcriptLines', () => {
  it('shows a statement, what was kept of its parameters, and what refused it', () => {
    const lines = transcriptLines(
      create(RecordedEventSchema, {
        at,
        event: {
          case: 'statement',
          value: {
            number: 3n,
            class: 'read',
            text: 'select $1, $2',
            deniedBy: 'class:ddl',
            parameters: [
              { position: 1, target: 'public.orders.id', content: { case: 'value', value: '7' } },
              { position: 2, content: { case: 'hmac', value: Buffer.alloc(32) } },
            ],
          },
        },
      }),
    );
    assert.deepEqual(lines, [
      '03:04:05.678  #3 read  select $1, $2  REFUSED by class:ddl',
      '              $1 (public.orders.id) = 7, $2 = withheld',
    ]);
  });

  it('shows no control character of what a client sent', () => {
    const [line] = transcriptLines(
      create(RecordedEventSchema, {
        at,
        event: {
          case: 'statement',
          value: { number: 1n, class: 'read', text: 'select \u001b]52;c;x\u0007' },
        },
      }),
    );
    assert.ok(line?.endsWith('select ?]52;c;x?'));
  });

  it('names masked columns of a result, and only the state of an error', () => {
    const result = (value: object) =>
      transcriptLines(create(RecordedEventSchema, { at, event: { case: 'result', value } }))[0];
    assert.match(
      result({
        number: 1n,
        commandTag: 'SELECT 2',
        durationMicroseconds: 1500n,
        maskedColumns: ['ssn'],
      }) ?? '',
      /SELECT 2, 1\.5 ms, masked: ssn$/,
    );
    assert.match(result({ number: 1n, sqlstate: '42501' }) ?? '', /error 42501, 0\.0 ms$/);
  });
});
